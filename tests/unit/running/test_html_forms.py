"""What of a thing its form in a notebook shows; how it looks is the view's."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE
from html_words import words

from dask_taskrunner import Flow, Parameter, Task, exponential, states, task, triggers
from dask_taskrunner.html_forms import html_of


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


RUDE = (Rude(),)


@task(max_retries=2, retry_delay=exponential(base=2), trigger=triggers.all_finished, tags=["b"])
def clean(rows: list[int], *, limit=0.5, rude=RUDE, long="x" * 1000) -> list[int]:
    return rows


@task(max_retries=1, retry_delay=0)
def divide(x, y):
    return x / y


def test_a_flow_shows_its_drawing():
    with Flow("<etl>") as flow:
        clean(Parameter("rows", default=[1]))
    shown = flow._repr_html_()
    assert words(shown) == ["flow '<etl>'"]
    assert 'title="clean [all_finished]' in shown
    assert words(Flow("empty")._repr_html_()) == ["flow 'empty'"]


def test_a_task_shows_its_signature_and_the_options_that_were_set():
    lines = words(clean._repr_html_())
    assert lines[0].startswith("task clean (rows: list[int], *, limit=0.5, rude=(<Rude inst")
    assert lines[0].endswith("xxx') -> list[int]")
    assert len(lines[0]) < 400
    assert lines[1:] == [
        "max_retries 2",
        "retry_delay exponential(base=2)",
        "trigger all_finished",
        "tags ['b']",
    ]


def test_a_task_that_is_a_class_and_a_builtin_are_shown():
    class Load(Task):
        max_retries = 3

        def run(self, x):
            return x

    assert words(Load()._repr_html_()) == ["task Load (x)", "max_retries 3"]
    assert words(task(dict)._repr_html_())[0].startswith("task dict")


def test_handlers_are_shown_by_their_names():
    def notify(task, old, new):
        """Tell nobody."""

    assert words(divide.with_options(state_handlers=[notify])._repr_html_())[-1] == (
        "state_handlers [notify]"
    )


def test_a_state_shows_its_name_and_message_and_a_users_own_has_its_parents_color():
    class Sunny(states.Success):
        pass

    shown = Sunny(message="a & <b>")._repr_html_()
    assert words(shown) == ["Sunny a & <b>"]
    assert states.COLORS["Success"] in shown
    failed = states.Failed(message="E: text", traceback="Traceback\n  ...")
    assert words(failed._repr_html_()) == ["Failed E: text", "traceback", "Traceback", "..."]


def test_a_task_run_shows_what_is_known_of_it(finish):
    with Flow("etl") as flow:
        divide(1, 0)
    run = finish(flow)["divide"]
    lines = words(run._repr_html_())
    assert lines[0] == "divide Failed ZeroDivisionError: division by zero"
    assert lines[1].startswith("attempt 1 retrying")
    assert lines[2].startswith("attempt 2 failed")
    assert lines[3:6] == ["x 1", "y 0", "traceback"]


def test_a_task_run_that_has_not_begun_is_its_state(start):
    with Flow("etl") as flow:
        clean(clean([1]))
    run = start(flow)
    assert words(run["clean-2"]._repr_html_())[0].startswith("clean-2 ")
    run.wait(PATIENCE)
    assert words(run["clean-2"]._repr_html_())[0] == "clean-2 Success"


def test_what_nobody_made_a_form_of_has_none():
    with pytest.raises(NotImplementedError, match="a list has no form in HTML"):
        html_of([])
