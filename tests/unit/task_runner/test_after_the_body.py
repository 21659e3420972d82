"""`get_post_run_state` and `get_retry_state`: whether, and when, a run is tried again."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from dask_taskrunner import signals
from dask_taskrunner.exceptions import MissingResult, TaskTimedOut
from dask_taskrunner.run_context import context
from dask_taskrunner.states import (
    STATE_CLASSES,
    Failed,
    Pending,
    Retrying,
    Success,
    TimedOut,
)
from dask_taskrunner.task_runner import TaskRunner


def fail(**inputs):
    raise ValueError("negative price")


FAILED = Failed(exception=ValueError("negative price"))


@pytest.mark.parametrize(
    "name", [name for name in STATE_CLASSES if name not in ("Failed", "TimedOut")]
)
def test_nothing_but_a_failure_of_the_tasks_own_is_retried(task, never, name):
    runner = TaskRunner(task(never, max_retries=3, retry_on=never))
    assert runner.get_post_run_state(STATE_CLASSES[name]()) is None


@pytest.mark.parametrize("max_retries", [0, 1, 3])
@pytest.mark.parametrize("run_number", [1, 2, 3, 4])
def test_a_failure_is_retried_while_its_run_number_is_at_most_max_retries(
    task, never, max_retries, run_number
):
    runner = TaskRunner(task(never, max_retries=max_retries))
    with context(task_run_number=run_number):
        state = runner.get_post_run_state(FAILED, {"rows": 1})
    assert isinstance(state, Retrying) is (run_number <= max_retries)


def test_a_falsy_exception_is_an_exception(task, never):
    missing = MissingResult("extract", Failed())
    runner = TaskRunner(task(never, max_retries=1, retry_on=MissingResult))
    assert isinstance(runner.get_post_run_state(Failed(exception=missing)), Retrying)


def test_a_retry_carries_number_inputs_and_time(task, never):
    runner = TaskRunner(task(never, max_retries=3, retry_delay=timedelta(minutes=1)))
    before = time.time()
    with context(task_run_number=2):
        state = runner.get_post_run_state(FAILED, {"rows": 1})
    assert (state.last_run_number, state.cached_inputs, state.delay) == (2, {"rows": 1}, 60)
    assert before + 60 <= state.scheduled_time.timestamp() + 1e-3 <= time.time() + 61
    assert state.message == "retry 2 of 3 after ValueError: negative price"


@pytest.mark.parametrize(
    ("state", "retry_on", "retried"),
    [
        (FAILED, Exception, True),
        (FAILED, ValueError, True),
        (FAILED, KeyError, False),
        (FAILED, (KeyError, ValueError), True),
        (FAILED, lambda error: "price" in str(error), True),
        (FAILED, lambda error: False, False),
        (signals.FAIL("x").make_state(), Exception, True),
        (signals.FAIL("x").make_state(), ValueError, False),
        (signals.FAIL("x").make_state(), signals.FAIL, True),
        (TimedOut(exception=TaskTimedOut("x")), Exception, True),
        (TimedOut(exception=TaskTimedOut("x")), OSError, False),
        (TimedOut(exception=TaskTimedOut("x")), (OSError, TaskTimedOut), True),
        (Failed(message="a handler's"), Exception, True),
        (Failed(message="a handler's"), ValueError, False),
        (Failed(exception=SystemExit(1)), Exception, False),
    ],
)
def test_retry_on_says_which_failures_are_retried(task, never, state, retry_on, retried):
    runner = TaskRunner(task(never, max_retries=1, retry_on=retry_on))
    assert isinstance(runner.get_post_run_state(state), Retrying) is retried


@pytest.mark.parametrize("error", [KeyError("x"), signals.SKIP("x")])
def test_a_predicate_that_raises_is_a_failure_that_names_it_and_what_it_was_asked(
    task, never, error
):
    def transient(exception):
        raise error

    state = TaskRunner(task(fail, max_retries=3, retry_on=transient)).run()
    assert type(state) is Failed
    assert state.exception is error
    assert state.message.startswith(f"retry_on of task clean-2: {type(error).__name__}: ")
    assert state.message.endswith("(asked because of ValueError: negative price)")


@pytest.mark.parametrize("answer", ["soon", None, -1])
def test_a_delay_that_is_none_is_a_failure_that_names_it(task, answer):
    state = TaskRunner(task(fail, max_retries=3, retry_delay=lambda *args: answer)).run()
    assert type(state) is Failed
    assert state.message.startswith("retry_delay of task clean-2: ")
    assert "asked because of ValueError: negative price" in state.message


def test_jitter_lengthens_the_delay_that_the_state_carries(task):
    runner = TaskRunner(task(fail, max_retries=1, retry_jitter=0.5))
    delays = {runner.run().delay for _ in range(50)}
    assert len(delays) > 1
    assert all(10 <= delay <= 15 for delay in delays)


def test_a_delay_that_is_called_is_told_number_and_exception(task):
    told = []

    def delay(run_number, exception):
        told.append((run_number, str(exception), context.task_exception is exception))
        return 1

    runner = TaskRunner(task(fail, max_retries=5, retry_delay=delay))
    runner.run(runner.run(inputs={}))
    assert told == [(1, "negative price", True), (2, "negative price", True)]


def test_get_retry_state_reads_number_and_exception_from_the_context(task, never):
    runner = TaskRunner(task(never, max_retries=4, retry_delay=lambda n, error: n + error.args[0]))
    with context(task_run_number=3, task_exception=ValueError(100)):
        state = runner.get_retry_state({"rows": 1})
    assert (state.last_run_number, state.delay) == (3, 103)


def test_without_a_context_get_retry_state_is_after_the_first_run(task, never):
    state = TaskRunner(task(never, max_retries=4)).get_retry_state()
    assert (state.last_run_number, state.cached_inputs) == (1, None)
    assert state.message == "retry 1 of 4"


def test_a_run_is_walked_through_all_its_retries_with_the_inputs_that_it_had(task):
    numbers = []

    def body(rows):
        numbers.append((context.task_run_number, rows))
        if len(numbers) < 3:
            raise ValueError("not yet")
        return rows

    runner = TaskRunner(task(body, max_retries=2))
    state = runner.run(Pending(), inputs={"rows": [1]})
    while isinstance(state, Retrying):
        state = runner.run(state)
    assert (type(state), state.result) == (Success, [1])
    assert numbers == [(1, [1]), (2, [1]), (3, [1])]
