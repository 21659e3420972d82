from __future__ import annotations

import pickle
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest

from dask_taskrunner import states
from dask_taskrunner.exceptions import ResultNotHere
from dask_taskrunner.states import (
    COLORS,
    STATE_CLASSES,
    CachedState,
    Cancelled,
    Elsewhere,
    Failed,
    Looped,
    Mapped,
    Pending,
    Retrying,
    Scheduled,
    State,
    Success,
    TimedOut,
    TriggerFailed,
    epoch_seconds,
    to_seconds,
)

NAMES = list(STATE_CLASSES)

PREDICATES = {
    "is_pending": "Pending Scheduled Retrying Looped CachedState Paused",
    "is_running": "Running",
    "is_finished": (
        "Finished Success Skipped Mapped Failed TriggerFailed TimedOut Crashed Cancelled"
    ),
    # A mapped task without children is finished and successful, like any other empty conjunction.
    "is_successful": "Success Skipped Mapped",
    "is_failed": "Failed TriggerFailed TimedOut Crashed",
    "is_retrying": "Retrying",
    "is_skipped": "Skipped",
    "is_mapped": "Mapped",
    "is_cancelled": "Cancelled",
}

HIERARCHY = {
    "State": None,
    "Pending": "State",
    "Scheduled": "Pending",
    "Retrying": "Scheduled",
    "Looped": "Pending",
    "CachedState": "Pending",
    "Paused": "Pending",
    "Running": "State",
    "Finished": "State",
    "Success": "Finished",
    "Skipped": "Success",
    "Mapped": "Finished",
    "Failed": "Finished",
    "TriggerFailed": "Failed",
    "TimedOut": "Failed",
    "Crashed": "Failed",
    "Cancelled": "Finished",
}

FULL = [
    State(1, "text"),
    Pending(cached_inputs={"rows": [1]}),
    Scheduled(scheduled_time=3.0),
    Retrying(scheduled_time=3.0, last_run_number=2, delay=1.5),
    Looped([1], loop_count=3),
    CachedState(cached_result=5, cached_parameters={"day": 1}, cached_result_expiration=9.0),
    Success(5, cached=CachedState(cached_result=5)),
    Mapped(counts={"Success": 3, "Failed": 1}),
    Failed(exception=ValueError("x"), traceback="Traceback", inputs={"rows": "[1]"}),
    TriggerFailed(message="all_successful: ...", root_cause=("fit", "ValueError: x")),
    TimedOut(stopped=True),
]


# --- the hierarchy -------------------------------------------------------------------------------


def test_the_hierarchy_is_the_promised_one():
    parents = {
        name: None if cls is State else cls.__base__.__name__ for name, cls in STATE_CLASSES.items()
    }
    assert parents == HIERARCHY


@pytest.mark.parametrize("predicate", PREDICATES)
@pytest.mark.parametrize("name", NAMES)
def test_each_predicate_goes_by_class(name, predicate):
    state = STATE_CLASSES[name]()
    assert getattr(state, predicate)() is (name in PREDICATES[predicate].split())


@pytest.mark.parametrize(
    ("counts", "finished", "successful", "failed", "skipped"),
    [
        ({}, True, True, False, False),
        ({"Success": 3}, True, True, False, False),
        ({"Success": 3, "Skipped": 1}, True, True, False, False),
        ({"Skipped": 2}, True, True, False, True),
        ({"Skipped": 2, "Failed": 0}, True, True, False, True),
        ({"Success": 3, "Failed": 1}, True, False, True, False),
        ({"Success": 3, "Cancelled": 1}, True, False, False, False),
        ({"Success": 3, "Running": 1}, False, False, False, False),
        ({"TriggerFailed": 1, "Pending": 1}, False, False, True, False),
    ],
)
def test_a_mapped_state_is_what_its_children_are(counts, finished, successful, failed, skipped):
    state = Mapped(counts=counts)
    assert state.is_finished() is finished
    assert state.is_successful() is successful
    assert state.is_failed() is failed
    assert state.is_skipped() is skipped


@pytest.mark.parametrize("name", NAMES)
def test_every_state_has_a_color_of_the_one_table(name):
    assert STATE_CLASSES[name].color == COLORS[name]


def test_a_state_of_a_users_own_has_the_color_of_its_parent():
    class Archived(Success):
        pass

    assert Archived().color == COLORS["Success"]


def test_no_two_states_look_alike():
    assert len(set(COLORS.values())) == len(COLORS)


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_result_and_message_come_first_in_this_order(name):
    state = STATE_CLASSES[name](5, "text")
    assert (state.result, state.message) == (5, "text")


@pytest.mark.parametrize(
    ("state", "text"), [(Success(), "Success()"), (Failed(1, "x"), 'Failed("x")')]
)
def test_a_state_is_shown_with_its_message(state, text):
    assert repr(state) == text


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (Failed(exception=ValueError("x")), "ValueError: x"),
        (Failed(message="bad", exception=ValueError("x")), "bad"),
        (Failed(), None),
    ],
)
def test_the_message_of_a_failure_is_what_was_raised_unless_there_is_one(state, message):
    assert state.message == message


def test_a_result_that_lies_elsewhere_says_where_in_place_of_being_none():
    state = Success(Elsewhere("the result of clean is on tcp://..."))
    assert not state.result_is_here
    with pytest.raises(ResultNotHere, match="the result of clean is on"):
        _ = state.result


def test_a_result_that_is_here_can_be_none():
    assert Success().result_is_here
    assert Success().result is None


def test_a_cached_result_may_lie_elsewhere_as_well():
    with pytest.raises(ResultNotHere, match="over there"):
        _ = CachedState(cached_result=Elsewhere("over there")).cached_result


def test_a_copy_keeps_time_and_data_but_for_what_is_changed():
    state = Retrying(1, "text", scheduled_time=5.0, last_run_number=2, delay=3.0)
    state.at = 7.0
    copied = state.copy_with(result=2)
    assert (type(copied), copied.at, copied.result) == (Retrying, 7.0, 2)
    assert copied.fields() == {**state.fields(), "result": 2}
    assert state.result == 1


@pytest.mark.parametrize("state", FULL, ids=repr)
def test_a_state_can_be_made_again_from_its_fields(state):
    assert type(state)(**state.fields()) == state


# --- times ---------------------------------------------------------------------------------------


def test_a_state_knows_when_it_was_made_in_utc():
    before = time.time()
    timestamp = Success().timestamp
    assert isinstance(timestamp, pendulum.DateTime)
    assert timestamp.timezone_name == "UTC"
    assert before <= timestamp.timestamp() <= time.time()


@pytest.mark.parametrize(
    "moment",
    [
        1_700_000_000.5,
        datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC),
        datetime(2023, 11, 15, 0, 13, 20, 500_000, tzinfo=timezone(timedelta(hours=2))),
        pendulum.datetime(2023, 11, 14, 22, 13, 20, 500_000),
    ],
    ids=["seconds", "utc", "two hours east", "pendulum"],
)
def test_a_time_may_be_given_in_any_way_that_leaves_no_doubt(moment):
    assert Scheduled(scheduled_time=moment).scheduled_time == pendulum.from_timestamp(
        1_700_000_000.5
    )
    assert CachedState(cached_result_expiration=moment).cached_result_expiration is not None


@pytest.mark.parametrize("moment", [datetime(2023, 11, 14), "2023-11-14"])
def test_a_time_that_leaves_doubt_is_refused(moment):
    with pytest.raises(TypeError, match=r"timezone|aware"):
        epoch_seconds(moment)


def test_what_is_scheduled_without_a_time_is_scheduled_for_now():
    state = Scheduled()
    assert state.scheduled_time == state.timestamp


def test_without_an_expiration_a_cached_result_never_expires():
    assert CachedState().cached_result_expiration is None
    assert not CachedState().is_expired()


@pytest.mark.parametrize(("seconds", "expired"), [(-10, True), (10, False)])
def test_a_cached_result_expires_at_its_time(seconds, expired):
    assert CachedState(cached_result_expiration=time.time() + seconds).is_expired() is expired


@pytest.mark.parametrize(
    ("duration", "seconds"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (0, 0.0)]
)
def test_a_duration_is_a_timedelta_or_seconds(duration, seconds):
    assert to_seconds(duration) == seconds


@pytest.mark.parametrize(
    ("duration", "error"),
    [
        (-1, ValueError),
        (timedelta(seconds=-1), ValueError),
        (float("inf"), ValueError),
        (float("nan"), ValueError),
        ("10", TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_duration_is_refused(duration, error):
    with pytest.raises(error, match="a delay is"):
        to_seconds(duration)


# --- equality and pickling -----------------------------------------------------------------------


class Grumpy:
    def __eq__(self, other):
        raise AssertionError("a user's value was compared")

    __hash__ = None

    def __reduce__(self):
        return (Grumpy, ())


@pytest.mark.parametrize("state", FULL, ids=repr)
def test_a_state_survives_pickling_with_its_time(state):
    survivor = pickle.loads(pickle.dumps(state))
    assert survivor == state
    assert survivor.at == state.at
    assert survivor.message == state.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Success(5, "one"), Success(5, "other")),
        (Success(Grumpy()), Success(Grumpy())),
        (Failed(exception=ValueError("x")), Failed(exception=ValueError("x"))),
        (Success(cached=CachedState(1, "a")), Success(cached=CachedState(1, "b"))),
    ],
    ids=["messages", "grumpy values", "exceptions", "states in states"],
)
def test_states_with_the_same_data_are_equal_whatever_their_message_and_time(one, other):
    other.at += 100
    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Success(5), Success(6)),
        (Success(5), State(5)),
        (Success(5), 5),
        (Scheduled(scheduled_time=1.0), Scheduled(scheduled_time=2.0)),
        (Pending(cached_inputs={"a": 1}), Pending(cached_inputs={"a": 2})),
        (Success(cached=CachedState(1)), Success(cached=CachedState(2))),
    ],
)
def test_states_with_other_data_or_of_another_class_differ(one, other):
    assert one != other


def test_arrays_are_compared_by_their_contents():
    numpy = pytest.importorskip("numpy")
    assert Success(numpy.arange(3)) == Success(numpy.arange(3))
    assert Success(numpy.arange(3)) != Success(numpy.arange(4))


def test_a_result_without_a_lasting_token_is_equal_to_itself():
    result = object()
    assert Success(result) == Success(result)
    assert Success(result) != Success(object())


def test_a_state_has_no_hash_because_its_data_may_have_none():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Cancelled())


def test_states_are_made_without_importing_what_is_slow():
    code = (
        "import sys, dask_taskrunner.task_runner; "
        "print([m for m in ('pendulum', 'dask.base', 'distributed') if m in sys.modules])"
    )
    # Only this part of the package: its `__init__` may load what a flow needs.
    stub = "import sys, types; p = types.ModuleType('dask_taskrunner'); "
    stub += f"p.__path__ = [{states.__file__.rpartition('states.py')[0]!r}]; "
    stub += "sys.modules['dask_taskrunner'] = p; "
    found = subprocess.run(
        [sys.executable, "-c", stub + code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
