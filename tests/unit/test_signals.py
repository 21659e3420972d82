from __future__ import annotations

import pickle
import time
from datetime import UTC, datetime, timedelta

import pytest

from dask_taskrunner.exceptions import TaskRunnerError, UpstreamFailed
from dask_taskrunner.signals import (
    CANCELLED,
    DONTRUN,
    FAIL,
    LOOP,
    PAUSE,
    RETRY,
    SKIP,
    SUCCESS,
    TRIGGERFAIL,
    Signal,
)

STATES = {
    SUCCESS: "Success",
    SKIP: "Skipped",
    FAIL: "Failed",
    TRIGGERFAIL: "TriggerFailed",
    RETRY: "Retrying",
    PAUSE: "Paused",
    LOOP: "Looped",
    CANCELLED: "Cancelled",
    DONTRUN: "Skipped",
}

EXAMPLES = [
    *(signal("message", [1]) for signal in STATES),
    TRIGGERFAIL("message", root_cause=("fit", "ValueError: x")),
    RETRY("message", delay=timedelta(minutes=1)),
    RETRY("message", scheduled_time=datetime(2030, 1, 1, tzinfo=UTC)),
]


def test_every_signal_is_here():
    assert set(STATES) == set(Signal.__subclasses__())


@pytest.mark.parametrize("signal", STATES)
def test_a_tasks_own_except_does_not_swallow_a_signal(signal):
    assert not issubclass(signal, Exception)
    assert not issubclass(signal, TaskRunnerError)


@pytest.mark.parametrize(("signal", "name"), STATES.items())
def test_a_signal_stands_for_a_state_with_its_message_and_result(signal, name):
    state = signal("no news", 5).make_state()
    assert type(state).__name__ == name
    assert state.result == 5
    assert "no news" in state.message


@pytest.mark.parametrize("signal", [SUCCESS, SKIP, RETRY, PAUSE, CANCELLED])
def test_a_signal_without_a_message_makes_a_state_without_one(signal):
    assert signal().make_state().message is None


@pytest.mark.parametrize("signal", EXAMPLES, ids=repr)
def test_a_signal_pickles_with_all_that_it_asks_for(signal):
    survivor = pickle.loads(pickle.dumps(signal))
    assert type(survivor) is type(signal)
    assert vars(survivor) == vars(signal)
    assert str(survivor) == "message"


def test_a_failure_by_signal_keeps_the_signal_as_its_exception():
    signal = FAIL("bad rows")
    state = signal.make_state()
    assert state.exception is signal
    assert state.message == "bad rows"


@pytest.mark.parametrize("signal", [FAIL, TRIGGERFAIL])
def test_a_failure_by_signal_is_never_without_a_word(signal):
    assert signal().make_state().message == signal.__name__


def test_a_trigger_failure_tells_readers_of_its_result_the_root_cause():
    cause = ("fit[3]", "ValueError: x")
    state = TRIGGERFAIL("all_successful: ...", root_cause=cause).make_state()
    assert state.root_cause == cause
    assert isinstance(state.exception, UpstreamFailed)
    assert (str(state.exception), state.exception.root_cause) == ("all_successful: ...", cause)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (DONTRUN(), "the task raised DONTRUN"),
        (DONTRUN("sold out"), "the task raised DONTRUN: sold out"),
    ],
)
def test_a_dontrun_becomes_a_skip_that_says_so(signal, message):
    assert signal.make_state().message == message


def test_a_retry_may_say_how_long_to_wait():
    before = time.time()
    state = RETRY(delay=timedelta(minutes=1)).make_state()
    assert state.delay == 60
    assert before + 60 <= state.scheduled_time.timestamp() <= time.time() + 60


def test_a_retry_may_say_when():
    state = RETRY(scheduled_time=datetime(2030, 1, 1, tzinfo=UTC)).make_state()
    assert state.scheduled_time == datetime(2030, 1, 1, tzinfo=UTC)
    assert state.delay is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"delay": 1, "scheduled_time": 5.0}, TypeError),
        ({"delay": "soon"}, TypeError),
        ({"delay": -1}, ValueError),
        ({"scheduled_time": datetime(2030, 1, 1)}, TypeError),
    ],
)
def test_a_retry_that_makes_no_sense_is_an_error_in_the_users_line(arguments, error):
    with pytest.raises(error):
        RETRY(**arguments)
