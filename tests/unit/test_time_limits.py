"""What may take so long and no longer: what comes of it, and of its thread."""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import ContextVar

import pytest
from fakes.gates import PATIENCE, eventually

from dask_taskrunner import (
    TaskRunner,
    TaskTimedOut,
    context,
    signals,
    states,
    task,
    time_limits,
)
from dask_taskrunner.time_limits import (
    Overdue,
    by_waiting_thread,
    call_within,
    is_overdue,
    is_traced,
)

SHORT = 0.02
where = ContextVar("where", default="nowhere")


@pytest.fixture(autouse=True)
def little_courtesy(monkeypatch):
    monkeypatch.setattr(time_limits, "COURTESY", 0.2)


@pytest.fixture
def stuck():
    """Something that a thread waits for where no exception reaches it."""
    event = threading.Event()
    yield event
    event.set()
    assert eventually(lambda: not time_limits._left)


def spin():
    # Where coverage is measured, no thread can be stopped, and this one ends by itself.
    while not (is_traced() and is_overdue()):
        time.sleep(0.001)


def test_what_ends_in_time_returns_and_raises_as_without_a_limit():
    assert call_within(PATIENCE, lambda x, y: x + y, 1, 2) == 3
    error = ValueError("mine")

    def fail():
        raise error

    with pytest.raises(ValueError, match="mine") as raised:
        call_within(PATIENCE, fail)
    assert raised.value is error


def test_the_thread_has_the_callers_context():
    where.set("here")
    assert call_within(PATIENCE, where.get) == "here"


def test_code_of_python_is_stopped_and_its_place_is_told():
    begin = time.monotonic()
    with pytest.raises(
        Overdue, match=r"longer than its timeout of 0\.02 s; its code was stopped"
    ) as e:
        call_within(SHORT, spin)
    assert e.value.stopped
    assert "in spin" in e.value.stack
    assert "threading.py" not in e.value.stack
    assert time.monotonic() - begin < PATIENCE / 2


def test_code_that_cannot_be_stopped_is_left_behind_and_counted(stuck):
    with pytest.raises(Overdue, match="its code runs on in a thread, and a thread cannot") as e:
        call_within(SHORT, stuck.wait)
    assert not e.value.stopped
    with pytest.raises(Overdue, match="runs on in a thread beside 1 others"):
        call_within(SHORT, stuck.wait)


def test_what_is_returned_after_the_deadline_is_nothing():
    def stubborn():
        try:
            spin()
        except BaseException:
            return "a success?"

    with pytest.raises(Overdue):
        call_within(SHORT, stubborn)


def test_the_waiting_thread_does_what_only_it_can():
    own = threading.get_ident()
    assert by_waiting_thread(threading.get_ident) == own
    assert call_within(PATIENCE, by_waiting_thread, threading.get_ident) == own
    assert call_within(PATIENCE, threading.get_ident) != own

    def fail():
        raise KeyError("there")

    with pytest.raises(KeyError, match="there"):
        call_within(PATIENCE, by_waiting_thread, fail)


def test_code_that_goes_on_knows_that_nobody_waits(stuck):
    seen = []

    def go_on():
        seen.append(is_overdue())
        with contextlib.suppress(BaseException):
            stuck.wait()
            # The exception of the courtesy is raised as soon as it comes back to Python.
            spin()
        seen.append(is_overdue())
        by_waiting_thread(threading.get_ident)

    def tell():
        try:
            go_on()
        except RuntimeError as error:
            seen.append(str(error))

    with pytest.raises(Overdue):
        call_within(SHORT, tell)
    stuck.set()
    assert eventually(lambda: len(seen) == 3)
    assert seen == [False, True, "the task has timed out, and nobody waits for this any more"]


# -- in the pipeline ------------------------------------------------------------------------------


def test_a_body_that_takes_too_long_has_timed_out():
    state = TaskRunner(task(spin, timeout=SHORT)).run()
    assert type(state) is states.TimedOut
    assert state.is_failed()
    assert state.stopped
    assert type(state.exception) is TaskTimedOut
    assert state.message == "it ran longer than its timeout of 0.02 s; its code was stopped"
    assert "in spin" in state.traceback


def test_what_has_timed_out_is_tried_again_like_any_failure():
    @task(timeout=SHORT, max_retries=1, retry_delay=0)
    def second_time_lucky():
        if context.task_run_number == 1:
            spin()
        return context.task_run_number

    runner = TaskRunner(second_time_lucky)
    retrying = runner.run()
    assert type(retrying) is states.Retrying
    assert "TaskTimedOut: it ran longer" in retrying.message
    assert runner.run(retrying).result == 2


def test_retry_on_may_name_timeouts_alone():
    policy = {"max_retries": 1, "retry_on": TaskTimedOut}
    assert type(TaskRunner(task(spin, timeout=SHORT, **policy)).run()) is states.Retrying


def test_retry_on_may_leave_timeouts_out():
    policy = {"max_retries": 3, "retry_on": ConnectionError}
    assert type(TaskRunner(task(spin, timeout=SHORT, **policy)).run()) is states.TimedOut


@pytest.mark.parametrize(
    ("signal", "state"),
    [(signals.SKIP("no"), states.Skipped), (signals.SUCCESS(result=3), states.Success)],
)
def test_a_signal_in_time_chooses_the_state(signal, state):
    @task(timeout=PATIENCE)
    def choose():
        raise signal

    assert type(TaskRunner(choose).run()) is state


@pytest.mark.parametrize("error", [TimeoutError("its own"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_body_raises_by_itself_is_no_timeout_and_no_success(error):
    @task(timeout=PATIENCE)
    def fail():
        raise error

    state = TaskRunner(fail).run()
    assert type(state) is states.Failed
    assert state.exception is error


def test_a_body_sees_that_its_time_is_over():
    seen = []

    @task(timeout=SHORT)
    def looks():
        seen.append(context.cancelled)
        try:
            spin()
        finally:
            seen.append(context.cancelled)

    TaskRunner(looks).run()
    assert eventually(lambda: len(seen) == 2)
    assert seen == [False, True]


def test_check_cancelled_ends_a_body_that_nobody_wants():
    @task
    def asks():
        signals.check_cancelled()
        return "done"

    assert TaskRunner(asks).run().result == "done"
    state = TaskRunner(asks).run(context={"cancelled": lambda: True})
    assert type(state) is states.Cancelled
