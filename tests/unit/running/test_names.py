"""What a user sees of a name that a task gives its runs."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, Parameter, UnpicklableArgument, context, signals, task
from dask_taskrunner.exceptions import OptionError, ParameterError
from dask_taskrunner.launching import merge_parameters


@task(task_run_name="prices of {region}, {day}")
def load(region):
    if region == "us":
        raise ValueError("negative price")
    return context.task_run_name


@task
def plain():
    return context.task_run_name


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        Parameter("day", default="monday")
        load("eu")
        load("us")
        plain()
    return flow


def test_a_task_run_is_shown_by_its_name(finish, flow):
    run = finish(flow, parameters={"day": "friday"})
    assert run["load"].name == run["load"].result() == "prices of eu, friday"
    assert repr(run["load"]) == "<TaskRun load 'prices of eu, friday' Success>"
    assert run["load"].slug == "load"


def test_a_task_run_without_a_name_is_shown_by_its_slug(finish, flow):
    run = finish(flow)
    assert run["plain"].name == run["plain"].result() == "plain"
    assert repr(run["plain"]) == "<TaskRun plain Success>"


def test_a_failure_is_told_with_the_name_beside_the_inputs(finish, flow):
    run = finish(flow)
    assert run["load-2"].name == "prices of us, monday"
    first, named, *_ = run.failure_text().splitlines()[1:]
    assert first.startswith("  load-2  ValueError: negative price")
    assert named == "    prices of us, monday: region='us'"


def test_a_name_that_cannot_be_made_fails_its_run_and_says_so(finish):
    with Flow("etl") as flow:
        load.with_options(task_run_name="{regoin}", max_retries=2)("eu")
    run = finish(flow)
    assert run["load"].state.message == "task_run_name of task load: KeyError: 'regoin'"
    assert run["load"].name == "load"
    assert run["load"].attempts == []
    with pytest.raises(KeyError):
        run["load"].result()


@task(task_run_name="try {number}", max_retries=1, retry_delay=1000)
def waits(number):
    raise ValueError("not yet")


@task(task_run_name="signed by {who}")
def pauses(who):
    raise signals.PAUSE("sign, please")


def test_a_run_that_waits_for_its_retry_has_the_name_of_its_last_attempt(start):
    with Flow("etl") as flow:
        waits(1)
    run = start(flow)
    assert eventually(lambda: run["waits"].name == "try 1")
    assert "'try 1' Retrying(" in repr(run["waits"])


def test_a_paused_run_has_its_name(finish):
    with Flow("etl") as flow:
        pauses("you")
    assert finish(flow)["pauses"].name == "signed by you"


def test_a_run_has_no_name_before_its_body_has_ended(start):
    gate = Gate("slow")

    @task(task_run_name="slow {n}")
    def slow(n):
        gate.pass_through()

    with Flow("etl") as flow:
        slow(1)
    run = start(flow)
    assert run["slow"].name == "slow"
    gate.open()
    assert run.wait(PATIENCE)["slow"].name == "slow 1"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"run_name": "{dya}"}, OptionError),
        ({"context": {"slug": "x"}}, OptionError),
        ({"context": {"f": (n for n in ())}}, UnpicklableArgument),
        ({"parameters": {"dya": 1}}, ParameterError),
    ],
)
def test_what_is_wrong_with_a_run_is_found_before_anything_is_sent(
    start, backend, flow, options, error
):
    with pytest.raises(error):
        start(flow, **options)
    assert not backend.channels


def test_a_run_is_called_as_its_template_says(finish, flow):
    run = finish(flow, run_name="etl of {day}", parameters=merge_parameters({"day": "friday"}, {}))
    assert run.run_name == "etl of friday"
