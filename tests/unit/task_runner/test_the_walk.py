"""`TaskRunner.run`: the walk from state to state, its context and its handlers."""

from __future__ import annotations

import inspect
import pickle

import pytest

from dask_taskrunner import signals, triggers
from dask_taskrunner.run_context import context
from dask_taskrunner.states import (
    STATE_CLASSES,
    CachedState,
    Cancelled,
    Failed,
    Pending,
    Retrying,
    Skipped,
    Success,
)
from dask_taskrunner.task_runner import TaskRunner
from dask_taskrunner.testing import raise_on_exception

SEED = {
    "__init__": "(self, task, logger_name=None)",
    "run": "(self, state=None, upstream_states=None, inputs=None, ignore_trigger=False, "
    "context=None)",
    "get_pre_run_state": "(self, state, upstream_states=None, ignore_trigger=False, inputs=None, "
    "parameters=None)",
    "get_run_state": "(self, state, inputs=None, parameters=None)",
    "get_post_run_state": "(self, state, inputs=None)",
    "get_retry_state": "(self, inputs=None)",
}


@pytest.mark.parametrize(("name", "expected"), SEED.items())
def test_the_class_is_the_documented_one(name, expected):
    signature = inspect.signature(getattr(TaskRunner, name))
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(signature.replace(parameters=plain, return_annotation=signature.empty)) == expected


def test_a_task_runs_with_nothing_but_itself(task):
    state = TaskRunner(task(lambda: 5)).run()
    assert (type(state), state.result) == (Success, 5)


@pytest.mark.parametrize(
    "name", [name for name, cls in STATE_CLASSES.items() if cls().is_finished()]
)
def test_what_is_finished_comes_back_as_it_is(task, never, name):
    state = STATE_CLASSES[name]()
    assert TaskRunner(task(never, state_handlers=(never,))).run(state) is state


def test_a_runner_keeps_nothing_between_runs(task):
    runner = TaskRunner(task(lambda rows: rows))
    before = dict(vars(runner))
    for rows in (1, 2):
        assert runner.run(inputs={"rows": rows}, context={"region": "eu"}).result == rows
    assert vars(runner) == before


# --- the context ---------------------------------------------------------------------------------


def test_the_body_finds_in_its_context_who_it_is_and_what_was_given(task):
    state = TaskRunner(task(context.to_dict)).run(context={"region": "eu", "slug": "clean-2[3]"})
    assert state.result == {
        "parameters": {},
        "cancelled": False,
        "task_name": "clean",
        "slug": "clean-2[3]",
        "task_run_name": "clean-2[3]",
        "region": "eu",
        "task_run_number": 1,
        "task_loop_count": 1,
        "task_loop_result": None,
    }
    assert context.to_dict() == {}


def test_entries_around_the_run_are_seen_in_it(task):
    with context(region="eu", parameters={"day": 1}):
        state = TaskRunner(task(context.to_dict)).run(context={"color": "red"})
    assert state.result.items() >= {"region": "eu", "color": "red"}.items()
    assert state.result["parameters"] == {"day": 1}


@pytest.mark.parametrize(
    ("state", "given", "number"),
    [
        (None, {}, 1),
        (Pending(), {"task_run_number": 3}, 3),
        (CachedState(), {"task_run_number": 3}, 3),
        (Retrying(last_run_number=4), {}, 5),
        (Retrying(last_run_number=4), {"task_run_number": 3}, 5),
    ],
)
def test_the_run_number_is_the_states_else_the_contexts_else_one(task, state, given, number):
    runner = TaskRunner(task(lambda: context.task_run_number, cache_validator=lambda *a: False))
    assert runner.run(state, context=given).result == number


@pytest.mark.parametrize(
    ("logger_name", "name"), [(None, "dask_taskrunner.clean"), ("etl.cleaning", "etl.cleaning")]
)
def test_the_body_has_a_logger(task, logger_name, name):
    assert TaskRunner(task(lambda: context.logger.name), logger_name).run().result == name


# --- state handlers ------------------------------------------------------------------------------


def names(changes):
    return [(type(old).__name__, type(new).__name__) for _, old, new in changes]


def test_every_change_is_offered_to_the_handlers(task):
    changes = []

    def watch(task, old, new):
        changes.append((task, old, new))

    def fail():
        raise ValueError("x")

    plain = task(fail, max_retries=1, state_handlers=(watch,))
    state = TaskRunner(plain).run()
    assert names(changes) == [
        ("Pending", "Running"),
        ("Running", "Failed"),
        ("Failed", "Retrying"),
    ]
    assert all(offered is plain for offered, _, _ in changes)
    assert changes[-1][2] is state
    changes.clear()
    TaskRunner(plain).run(state)
    assert names(changes) == [("Retrying", "Running"), ("Running", "Failed")]


def test_a_state_that_a_handler_returns_takes_the_new_ones_place(task):
    def forgive(task, old, new):
        return Success("forgiven") if new.is_failed() else None

    seen = []

    def watch(task, old, new):
        seen.append(new)

    def fail():
        raise ValueError("x")

    state = TaskRunner(task(fail, max_retries=1, state_handlers=(forgive, watch))).run()
    assert (type(state), state.result) == (Success, "forgiven")
    assert seen[-1] is state


def test_a_handler_may_keep_the_body_from_running(task, never):
    def veto(task, old, new):
        return Skipped(message="not today") if new.is_running() else None

    assert TaskRunner(task(never, state_handlers=(veto,))).run().message == "not today"


def test_a_failure_that_a_handler_puts_is_retried_like_a_fail(task):
    def strict(task, old, new):
        return Failed(message="too small") if new.is_successful() else None

    state = TaskRunner(task(lambda: 5, max_retries=1, state_handlers=(strict,))).run()
    assert (type(state), state.message) == (Retrying, "retry 1 of 1 after FAIL: too small")


@pytest.mark.parametrize("change", ["Running", "Success"])
@pytest.mark.parametrize("error", [ValueError("x"), signals.SKIP("x"), SystemExit("x")])
def test_an_exception_in_a_handler_ends_the_walk_with_a_failure_that_names_it(
    task, never, change, error
):
    def alarm(task, old, new):
        if type(new).__name__ == change:
            raise error

    state = TaskRunner(task(lambda: 5, max_retries=3, state_handlers=(alarm,))).run()
    assert type(state) is Failed
    assert state.message == f"state handler alarm of task clean-2: {type(error).__name__}: x"
    assert state.exception is error
    assert "in alarm" in state.traceback


def test_a_handler_that_raises_at_a_failure_does_not_hide_it(task):
    def alarm(task, old, new):
        if new.is_failed():
            raise KeyError("phone")

    def fail():
        raise ValueError("negative price")

    assert TaskRunner(task(fail, state_handlers=(alarm,))).run().message == (
        "state handler alarm of task clean-2: KeyError: 'phone' "
        "(asked because of ValueError: negative price)"
    )


def test_a_handler_that_returns_something_else_is_told_so(task, never):
    class Alarm:
        def __call__(self, task, old, new):
            return "fine"

    assert TaskRunner(task(never, state_handlers=(Alarm(),))).run().message == (
        "state handler Alarm of task clean-2: TypeError: "
        "it returned a str, which is neither a State nor None"
    )


def test_a_handler_finds_what_the_body_raised_in_the_context(task):
    seen = []

    def watch(task, old, new):
        seen.append(context.get("task_exception"))

    error = ValueError("x")

    def fail():
        raise error

    TaskRunner(task(fail, state_handlers=(watch,))).run()
    assert seen == [None, error]


# --- letting exceptions through, for tests -------------------------------------------------------


def boom(*args, **kwargs):
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"body": boom}, None),
        ({"body": list, "trigger": boom}, None),
        ({"body": list, "cache_validator": boom}, CachedState()),
        ({"body": list, "state_handlers": (boom,)}, None),
    ],
    ids=["body", "trigger", "validator", "handler"],
)
def test_in_a_test_exceptions_may_be_let_through(task, options, state):
    runner = TaskRunner(task(**options))
    assert "boom" in runner.run(state).message
    with raise_on_exception(), pytest.raises(ValueError, match="boom"):
        runner.run(state)
    assert runner.run(state).is_failed()


def test_signals_choose_states_even_then(task, never):
    with raise_on_exception():
        state = TaskRunner(task(never)).run(upstream_states={"a": Failed()})
        assert "all_successful" in state.message
        paused = TaskRunner(task(never, trigger=triggers.manual_only)).run()
        assert paused.is_pending()


def test_a_runner_of_a_picklable_task_pickles(task):
    runner = TaskRunner(task(list, trigger=triggers.any_failed), "etl")
    survivor = pickle.loads(pickle.dumps(runner))
    assert survivor.logger_name == "etl"
    assert isinstance(survivor.run(), Success)
    assert isinstance(survivor.run(Cancelled()), Cancelled)
