"""The steps of `get_pre_run_state`, each alone and in their order."""

from __future__ import annotations

import itertools
import time

import pytest

from dask_taskrunner import signals, triggers
from dask_taskrunner.cache_validators import duration_only, never_use
from dask_taskrunner.states import (
    STATE_CLASSES,
    CachedState,
    Cancelled,
    Crashed,
    Elsewhere,
    Failed,
    Mapped,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)
from dask_taskrunner.task_runner import TaskRunner

NOT_PENDING = [name for name, cls in STATE_CLASSES.items() if not cls().is_pending()]
PENDING = [name for name, cls in STATE_CLASSES.items() if cls().is_pending()]
UNFINISHED = [name for name, cls in STATE_CLASSES.items() if not cls().is_finished()]
FINISHED = [Success, Skipped, Failed, TriggerFailed, TimedOut, Crashed, Cancelled]


def always(upstream_states):
    return True


# --- 1. not pending ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_PENDING)
def test_what_runs_or_is_over_is_not_begun(task, never, name):
    runner = TaskRunner(task(never, trigger=never))
    assert runner.get_pre_run_state(STATE_CLASSES[name]()) is None


@pytest.mark.parametrize("name", PENDING)
def test_what_is_pending_is_begun(task, never, name):
    runner = TaskRunner(task(never, cache_validator=never_use))
    assert isinstance(runner.get_pre_run_state(STATE_CLASSES[name]()), Running)


# --- 2. upstream not finished --------------------------------------------------------------------


@pytest.mark.parametrize("name", UNFINISHED)
@pytest.mark.parametrize("ignore_trigger", [True, False])
@pytest.mark.parametrize("other", [Success, Skipped, Failed])
def test_an_unfinished_upstream_changes_nothing_and_runs_no_code_of_the_users(
    task, never, name, ignore_trigger, other
):
    upstream_states = {"a": other(), "b": STATE_CLASSES[name]()}
    runner = TaskRunner(task(never, trigger=never, cache_validator=never, state_handlers=(never,)))
    for state in (Pending(), Retrying(last_run_number=2), CachedState()):
        assert runner.get_pre_run_state(state, upstream_states, ignore_trigger) is None
        assert runner.run(state, upstream_states, {}, ignore_trigger) is state


def test_a_mapped_upstream_with_unfinished_children_is_unfinished(task, never):
    upstream_states = {"many": Mapped(counts={"Success": 2, "Retrying": 1})}
    assert TaskRunner(task(never)).get_pre_run_state(Pending(), upstream_states) is None


# --- 3. upstream skipped -------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", list(itertools.product(FINISHED, repeat=2)), ids=str)
def test_a_skip_upstream_skips_the_run_but_a_failure_beats_a_skip(task, never, kinds):
    upstream_states = {"a": kinds[0](), "b": kinds[1]()}
    failed = any(issubclass(kind, Failed) for kind in kinds)
    skips = Skipped in kinds and not failed
    state = TaskRunner(task(never, trigger=always)).get_pre_run_state(Pending(), upstream_states)
    assert type(state) is (Skipped if skips else Running)


def test_a_skip_says_which_upstream_run_was_skipped(task, never):
    upstream_states = {"a": Success(), "b": Skipped(), "c": Skipped()}
    state = TaskRunner(task(never)).get_pre_run_state(Pending(), upstream_states)
    assert state.message == "b was skipped"


def test_a_task_may_ask_its_trigger_in_place_of_being_skipped(task, never):
    runner = TaskRunner(task(never, skip_on_upstream_skip=False))
    assert isinstance(runner.get_pre_run_state(Pending(), {"a": Skipped()}), Running)


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ({"Skipped": 2}, Skipped),
        ({"Skipped": 2, "Success": 1}, Running),
        ({"Skipped": 2, "Failed": 1}, TriggerFailed),
        ({}, Running),
    ],
)
def test_a_mapped_upstream_is_skipped_only_when_all_its_children_are(task, never, counts, kind):
    upstream_states = {"many": Mapped(counts=counts)}
    state = TaskRunner(task(never)).get_pre_run_state(Pending(), upstream_states)
    assert type(state) is kind


def test_the_skip_rule_holds_where_the_trigger_is_ignored(task, never):
    runner = TaskRunner(task(never, trigger=never))
    assert isinstance(runner.get_pre_run_state(Pending(), {"a": Skipped()}, True), Skipped)


# --- 4. the trigger ------------------------------------------------------------------------------


def test_a_trigger_that_fails_keeps_the_run_from_running_and_passes_the_root_cause_on(task, never):
    cause = ("fit[3]", "ValueError: x")
    upstream_states = {"a": Success(), "score": TriggerFailed(root_cause=cause)}
    state = TaskRunner(task(never)).get_pre_run_state(Pending(), upstream_states)
    assert type(state) is TriggerFailed
    assert state.root_cause == cause
    assert state.message == (
        "all_successful: 1 of 2 upstream runs were not successful (1 TriggerFailed); "
        "root cause: fit[3]: ValueError: x"
    )


def test_an_ignored_trigger_is_not_asked(task, never):
    runner = TaskRunner(task(never, trigger=never))
    assert isinstance(runner.get_pre_run_state(Pending(), {"a": Failed()}, True), Running)


@pytest.mark.parametrize("answer", [False, None, 0])
def test_a_trigger_that_returns_false_fails_like_one_that_raises(task, never, answer):
    def weather(upstream_states):
        return answer

    upstream_states = {"fit": Failed(exception=ValueError("x"))}
    state = TaskRunner(task(never, trigger=weather)).get_pre_run_state(Pending(), upstream_states)
    assert type(state) is TriggerFailed
    assert state.message == "weather: the trigger did not return True"
    assert state.root_cause == ("fit", "ValueError: x")


def test_manual_only_leaves_the_run_paused_with_its_inputs(task, never):
    runner = TaskRunner(task(never, trigger=triggers.manual_only))
    state = runner.run(inputs={"rows": [1]})
    assert type(state) is Paused
    assert state.cached_inputs == {"rows": [1]}


def test_a_paused_run_goes_on_with_the_inputs_that_it_had(task):
    runner = TaskRunner(task(lambda rows: rows, trigger=triggers.manual_only))
    state = runner.run(Paused(cached_inputs={"rows": [1]}), ignore_trigger=True)
    assert (type(state), state.result) == (Success, [1])


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_any_other_exception_in_a_trigger_is_a_failure_that_names_it(task, never, error):
    def weather(upstream_states):
        raise error

    state = TaskRunner(task(never, trigger=weather, max_retries=3)).run()
    assert type(state) is Failed
    assert state.message == f"trigger weather of task clean-2: {type(error).__name__}: {error}"
    assert state.exception is error
    assert "in weather" in state.traceback


def test_an_answer_that_cannot_be_judged_is_a_failure_that_names_the_trigger(task, never):
    class Moody:
        def __bool__(self):
            raise ValueError("neither")

    state = TaskRunner(task(never, trigger=lambda states: Moody())).run()
    assert state.message == "trigger <lambda> of task clean-2: ValueError: neither"


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        (signals.SUCCESS("m", 5), "Success"),
        (signals.SKIP("m", 5), "Skipped"),
        (signals.FAIL("m", 5), "Failed"),
        (signals.TRIGGERFAIL("m", 5), "TriggerFailed"),
        (signals.PAUSE("m", 5), "Paused"),
        (signals.RETRY("m", 5), "Retrying"),
        (signals.CANCELLED("m", 5), "Cancelled"),
    ],
)
def test_a_trigger_may_raise_any_signal_and_the_run_takes_its_state(task, never, signal, kind):
    def weather(upstream_states):
        raise signal

    state = TaskRunner(task(never, trigger=weather, max_retries=3)).run(inputs={"rows": 1})
    assert type(state).__name__ == kind
    assert (state.message, state.result) == ("m", 5)
    if state.is_pending():
        assert state.cached_inputs == {"rows": 1}


def test_a_trigger_that_asks_for_a_retry_costs_no_run_number(task):
    def weather(upstream_states):
        if not sunny:
            raise signals.RETRY
        return True

    sunny, seen = [], []
    runner = TaskRunner(task(lambda: seen.append(1), trigger=weather, retry_delay=7))
    state = runner.run()
    assert (type(state), state.last_run_number, state.delay) == (Retrying, 0, 7)
    state = runner.run(runner.run(state))
    sunny.append(True)
    assert isinstance(runner.run(state), Success)
    assert seen == [1]


# --- 5. a cached result --------------------------------------------------------------------------


def test_an_accepted_cached_result_takes_the_place_of_a_run(task, never):
    cached = CachedState(cached_result=5, cached_inputs={"rows": 1})
    state = TaskRunner(task(never)).run(cached, inputs={"rows": 1})
    assert (type(state), state.result, state.message) == (Success, 5, "cached result")
    assert state.cached is cached


def test_a_cached_result_that_is_not_accepted_is_made_again(task):
    cached = CachedState(cached_result=5, cached_inputs={"rows": 1})
    state = TaskRunner(task(lambda rows: rows * 10)).run(cached, inputs={"rows": 2})
    assert (type(state), state.result) == (Success, 20)


def test_a_cached_result_may_lie_elsewhere(task, never):
    cached = CachedState(cached_result=Elsewhere("over there"))
    state = TaskRunner(task(never, cache_validator=duration_only)).run(cached)
    assert isinstance(state, Success)
    assert not state.result_is_here


def test_a_validator_is_told_the_inputs_and_the_parameters_of_now(task):
    told = []
    cached = CachedState()
    runner = TaskRunner(task(lambda rows: rows, cache_validator=lambda *a: told.append(a)))
    runner.run(cached, inputs={"rows": 2}, context={"parameters": {"day": 1}})
    assert told == [(cached, {"rows": 2}, {"day": 1})]


def test_the_inputs_of_a_cached_result_are_not_the_inputs_of_now(task):
    cached = CachedState(cached_inputs={"rows": 1}, cached_result_expiration=time.time() - 1)
    assert TaskRunner(task(lambda: "ran")).run(cached).result == "ran"


def test_a_failing_trigger_beats_a_cached_result(task, never):
    runner = TaskRunner(task(never, cache_validator=never))
    assert isinstance(runner.run(CachedState(), {"a": Failed()}), TriggerFailed)


@pytest.mark.parametrize("error", [ValueError("x"), signals.SKIP("x"), SystemExit("x")])
def test_an_exception_in_a_validator_is_a_failure_that_names_it(task, never, error):
    def look(state, inputs, parameters):
        raise error

    state = TaskRunner(task(never, cache_validator=look)).run(CachedState())
    assert type(state) is Failed
    assert state.message == f"cache validator look of task clean-2: {type(error).__name__}: x"


# --- 6. running ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheduled_time", [time.time() + 3600, time.time() - 3600], ids=["later", "earlier"]
)
def test_the_scheduled_time_is_not_looked_at_because_clocks_differ(task, never, scheduled_time):
    runner = TaskRunner(task(never))
    for state in (
        Scheduled(scheduled_time=scheduled_time),
        Retrying(scheduled_time=scheduled_time),
    ):
        assert isinstance(runner.get_pre_run_state(state), Running)
