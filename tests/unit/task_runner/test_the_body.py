"""`get_run_state`: from what the body does to a state."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from dask_taskrunner import signals
from dask_taskrunner.states import (
    STATE_CLASSES,
    CachedState,
    Failed,
    Retrying,
    Running,
    Skipped,
    Success,
    TriggerFailed,
)
from dask_taskrunner.task_runner import TaskRunner


def raising(error):
    def body(**inputs):
        raise error

    return body


@pytest.mark.parametrize("name", [name for name in STATE_CLASSES if name != "Running"])
def test_only_what_is_running_runs(task, never, name):
    assert TaskRunner(task(never)).get_run_state(STATE_CLASSES[name](), {}) is None


@pytest.mark.parametrize("value", [None, 0, [1], object(), ValueError("a value like another")])
def test_what_the_body_returns_is_the_result_of_a_success(task, value):
    state = TaskRunner(task(lambda: value)).get_run_state(Running())
    assert type(state) is Success
    assert state.result is value
    assert state.cached is None


def test_the_body_gets_its_inputs_by_name(task):
    state = TaskRunner(task(lambda a, b: a - b)).get_run_state(Running(), {"b": 1, "a": 5})
    assert state.result == 4


@pytest.mark.parametrize(
    "error",
    [
        ValueError("negative price"),
        KeyError("day"),
        SystemExit(0),
        SystemExit(3),
        KeyboardInterrupt("now"),
        GeneratorExit("x"),
        type("Custom", (BaseException,), {})("x"),
    ],
    ids=repr,
)
def test_any_exception_of_the_body_is_a_failure_and_goes_no_further(task, error):
    state = TaskRunner(task(raising(error))).get_run_state(Running(), {"rows": [1, 2]})
    assert type(state) is Failed
    assert state.exception is error
    assert state.message == f"{type(error).__name__}: {error}"
    assert "in body" in state.traceback
    assert state.inputs == {"rows": "[1, 2]"}


def test_the_inputs_of_a_failure_are_not_told_where_they_are_secret(task):
    runner = TaskRunner(task(raising(ValueError("x")), record_inputs=False))
    assert runner.get_run_state(Running(), {"password": "1234"}).inputs is None


def test_missing_inputs_are_a_failure_with_the_type_error(task):
    state = TaskRunner(task(lambda rows: rows)).get_run_state(Running())
    assert type(state) is Failed
    assert isinstance(state.exception, TypeError)
    assert "missing 1 required positional argument: 'rows'" in state.message


@pytest.mark.parametrize("value", [Success(5), Skipped(), Failed()])
def test_a_body_that_returns_a_state_is_shown_how_to_choose_one(task, value):
    state = TaskRunner(task(lambda: value)).get_run_state(Running())
    assert type(state) is Failed
    assert state.message == (
        f"TypeError: the body returned {value!r}; to choose a state, raise a signal, "
        "as in: raise signals.SKIP('no news')"
    )


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        (signals.SUCCESS, "Success"),
        (signals.SKIP, "Skipped"),
        (signals.FAIL, "Failed"),
        (signals.TRIGGERFAIL, "TriggerFailed"),
        (signals.PAUSE, "Paused"),
        (signals.RETRY, "Retrying"),
        (signals.CANCELLED, "Cancelled"),
    ],
)
def test_a_signal_chooses_the_state_with_message_and_result(task, signal, kind):
    runner = TaskRunner(task(raising(signal("no news", 5))))
    state = runner.get_run_state(Running(), {"rows": 1})
    assert type(state).__name__ == kind
    assert (state.message, state.result) == ("no news", 5)
    if state.is_pending():
        assert state.cached_inputs == {"rows": 1}
    if state.is_failed():
        assert state.inputs == {"rows": "1"}
        assert "in body" in state.traceback


def test_a_dontrun_is_a_skip_that_says_so(task):
    state = TaskRunner(task(raising(signals.DONTRUN("sold out")))).get_run_state(Running())
    assert (type(state), state.message) == (Skipped, "the task raised DONTRUN: sold out")


def test_a_tasks_own_except_does_not_swallow_its_signal(task):
    def body():
        try:
            raise signals.SKIP("no news")
        except Exception:
            return "swallowed"

    assert type(TaskRunner(task(body)).get_run_state(Running())) is Skipped


# --- a retry that the body asks for --------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "delay"),
    [
        (signals.RETRY(delay=3), 3),
        (signals.RETRY(delay=timedelta(minutes=1)), 60),
        (signals.RETRY(), 10),
    ],
)
def test_a_retry_that_the_body_asks_for_has_its_delay_or_the_tasks_own(task, signal, delay):
    runner = TaskRunner(task(raising(signal), max_retries=0, retry_on=KeyError))
    before = time.time()
    state = runner.run(Retrying(last_run_number=6), inputs={"rows": 1})
    assert type(state) is Retrying
    assert (state.delay, state.last_run_number, state.cached_inputs) == (delay, 7, {"rows": 1})
    assert before + delay <= state.scheduled_time.timestamp() <= time.time() + delay


def test_a_retry_for_a_time_has_no_delay(task):
    due = time.time() + 100
    state = TaskRunner(task(raising(signals.RETRY(scheduled_time=due)))).run()
    assert state.delay is None
    assert state.scheduled_time.timestamp() == pytest.approx(due, abs=1e-3)


def test_a_delay_of_the_tasks_own_that_raises_fails_the_run_and_says_why_it_was_asked(task):
    def delay(run_number, exception):
        raise KeyError("delays")

    state = TaskRunner(task(raising(signals.RETRY("busy")), retry_delay=delay)).run()
    assert type(state) is Failed
    assert state.message == (
        "retry_delay of task clean-2: KeyError: 'delays' (asked because of RETRY: busy)"
    )


# --- a result that a later run may take ----------------------------------------------------------


@pytest.mark.parametrize("body", [lambda rows: 5, raising(signals.SUCCESS(result=5))])
def test_with_cache_for_a_success_carries_what_a_later_run_may_take(task, body):
    runner = TaskRunner(task(body, cache_for=timedelta(hours=1)))
    before = time.time()
    state = runner.get_run_state(Running(), {"rows": 1}, {"day": 2})
    assert type(state.cached) is CachedState
    assert state.cached.cached_result == 5
    assert state.cached.cached_inputs == {"rows": 1}
    assert state.cached.cached_parameters == {"day": 2}
    expiration = state.cached.cached_result_expiration.timestamp()
    assert before + 3600 <= expiration + 1e-3 <= time.time() + 3601


def test_a_later_run_takes_it(task):
    bodies = iter([lambda rows: "first", lambda rows: "second"])
    runner = TaskRunner(task(lambda rows: next(bodies)(rows), cache_for=timedelta(hours=1)))
    first = runner.run(inputs={"rows": 1})
    assert runner.run(first.cached, inputs={"rows": 1}).result == "first"
    assert runner.run(first.cached, inputs={"rows": 2}).result == "second"


@pytest.mark.parametrize("signal", [signals.SKIP(result=5), signals.FAIL(), signals.CANCELLED()])
def test_nothing_but_a_success_is_cached(task, signal):
    runner = TaskRunner(task(raising(signal), cache_for=timedelta(hours=1)))
    assert getattr(runner.get_run_state(Running()), "cached", None) is None


def test_a_trigger_failure_that_the_body_raises_is_not_retried(task):
    runner = TaskRunner(task(raising(signals.TRIGGERFAIL("x")), max_retries=3))
    assert type(runner.run()) is TriggerFailed
