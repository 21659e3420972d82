"""`task_run_name`: made before the body, for people only."""

from __future__ import annotations

import pytest

from dask_taskrunner import exceptions, signals
from dask_taskrunner.run_context import context
from dask_taskrunner.states import Failed, Pending, Success, TriggerFailed
from dask_taskrunner.task_runner import TaskRunner


class Table:
    """Like a DataFrame: who compares it or asks whether it is true is told off."""

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def name(**inputs):
    return context.task_run_name


def named(task, template, inputs=None, **given):
    return TaskRunner(task(name, task_run_name=template)).run(inputs=inputs, context=given)


def test_a_template_is_filled_with_inputs_map_index_and_parameters(task):
    state = named(
        task, "{region} {map_index} {day}", {"region": "eu"}, map_index=3, parameters={"day": 31}
    )
    assert state.result == "eu 3 31"


def test_a_function_gets_all_of_them_as_a_dict(task):
    def show(values):
        return str(sorted(values))

    state = named(task, show, {"table": Table()}, parameters={"day": 31})
    assert state.result == "['day', 'map_index', 'table']"


def test_an_input_hides_a_parameter_of_its_name(task):
    assert named(task, "{day}", {"day": 1}, parameters={"day": 31}).result == "1"
    assert named(task, "{map_index}", {"map_index": 1}, map_index=3).result == "1"


def test_a_run_that_is_not_mapped_has_the_index_minus_one(task):
    assert named(task, "{map_index}").result == "-1"


@pytest.mark.parametrize("template", [None, lambda values: "", lambda values: " \n"])
def test_without_a_name_a_run_is_called_by_its_slug(task, template):
    assert named(task, template).result == "clean-2"
    assert named(task, template, slug="clean[3]").result == "clean[3]"


def test_a_name_is_cut(task):
    assert len(named(task, "{x}", {"x": "x" * 1000}).result) == 200


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{x}", "task_run_name of task clean-2: KeyError: 'x'"),
        (lambda values: values["x"], "task_run_name of task clean-2: KeyError: 'x'"),
        (lambda values: 5, "task_run_name of task clean-2: TypeError: it gave a int, and a name"),
    ],
)
def test_a_name_that_cannot_be_made_is_a_failure_and_the_body_does_not_run(
    task, never, template, text
):
    state = TaskRunner(task(never, task_run_name=template, max_retries=3)).run(inputs={"y": 1})
    assert type(state) is Failed
    assert state.message.startswith(text)
    assert state.traceback.endswith(f"{state.message.partition('clean-2: ')[2]}\n")


def test_a_signal_chooses_no_state_from_there(task, never):
    def skip(values):
        raise signals.SKIP("no news")

    state = TaskRunner(task(never, task_run_name=skip)).run()
    assert type(state) is Failed
    assert state.message.startswith("task_run_name of task clean-2: SKIP")


def test_a_run_whose_body_does_not_run_is_not_named(task, never):
    runner = TaskRunner(task(never, task_run_name=never))
    assert type(runner.run(upstream_states={"a": Failed()})) is TriggerFailed
    assert type(runner.run(upstream_states={"a": Pending()})) is Pending
    assert type(runner.run(Success())) is Success


def test_state_handlers_find_the_name(task):
    seen = []

    def handler(task, old, new):
        seen.append((type(new).__name__, context.task_run_name))

    options = {"task_run_name": "{x}", "state_handlers": (handler,)}
    TaskRunner(task(name, **options)).run(inputs={"x": "eu"})
    assert seen == [("Running", "eu"), ("Success", "eu")]


def test_each_attempt_is_named_anew(task):
    runner = TaskRunner(task(name, task_run_name=lambda values: f"{context.task_run_number}"))
    assert runner.run(context={"task_run_number": 2}).result == "2"
    assert runner.run().result == "1"


def test_a_missing_result_is_a_value_like_another(task):
    missing = exceptions.MissingResult("extract", Failed("gone"))
    assert named(task, "{rows}", {"rows": missing}).result == str(missing)
