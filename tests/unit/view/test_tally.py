"""The fold from a run's history to how far it is."""

from __future__ import annotations

import random

import pytest
from story import Story

from dask_taskrunner.states import STATE_CLASSES
from dask_taskrunner.view.tally import Tally

NOW = 1010.0


def test_before_any_news_everything_is_pending():
    tally = Story("aab").tally
    assert {name: dict(group.counts) for name, group in tally.groups.items()} == {
        "a": {"Pending": 2},
        "b": {"Pending": 1},
    }
    assert (tally.total, tally.finished, tally.failed, tally.is_over) == (3, 0, 0, False)
    assert tally.elapsed(NOW) == 0.0
    assert tally.groups["a"].elapsed(NOW) == 0.0
    assert tally.groups["a"].rate(NOW) is None


def test_groups_stand_in_the_order_of_the_plan():
    assert list(Story("cabac").task(0, 1, "Success").tally.groups) == ["c", "a", "b"]


def test_a_group_counts_its_states():
    told = Story("aaaa").task(0, 0, "Running").task(1, 0, "Success").task(1, 1, "TriggerFailed")
    group = told.task(2, 2, "Running").tally.groups["a"]
    assert +group.counts == {"Success": 1, "TriggerFailed": 1, "Running": 1, "Pending": 1}
    assert (group.finished, group.failed, group.total) == (2, 1, 4)


def test_a_group_is_timed_from_its_first_news_to_now_and_at_last_to_its_end():
    told = Story("aab").task(1, 2, "Success").task(2, 0, "Running").task(3, 0, "Success")
    group = told.tally.groups["a"]
    assert group.elapsed(NOW) == 8.0
    assert group.rate(NOW) == 1 / 8
    told.task(6, 1, "Failed")
    assert group.elapsed(NOW) == 4.0
    assert group.rate(NOW) == 2 / 4


def test_a_rate_waits_until_it_says_something():
    told = Story("aa").task(0, 0, "Success").task(0.1, 1, "Running")
    assert told.tally.groups["a"].rate(1000.2) is None
    assert Story("aa").task(0, 0, "Running").tally.groups["a"].rate(NOW) is None


def test_a_retry_is_due_its_delay_after_the_news_of_it():
    told = Story("aa").task(1, 0, "Retrying", delay=20.0).task(2, 1, "Retrying", delay=12.5)
    group = told.tally.groups["a"]
    assert group.next_due_in(NOW) == 4.5
    assert group.next_due_in(NOW + 10) == 0.0
    told.task(16, 1, "Pending")
    assert group.next_due_in(NOW) == 11.0
    told.task(16, 0, "Success")
    assert group.next_due_in(NOW) is None
    assert group.retries == 2


def test_a_retry_at_a_time_of_the_tasks_own_choice_is_due_then():
    told = Story("a").task(1, 0, "Retrying", scheduled_time=1042.0)
    assert told.tally.groups["a"].next_due_in(NOW) == 32.0


def test_a_retry_without_a_time_is_due_at_once():
    told = Story("a").task(1, 0, "Retrying")
    told.tally.feed([told.history[0]._replace(old="Retrying", header=None)])
    assert told.tally.groups["a"].next_due_in(1001.0) == 0.0


@pytest.mark.parametrize("state", ["Success", "Failed", "Cancelled", "Paused"])
def test_the_flow_run_is_over_when_its_own_state_says_so(state):
    told = Story("a").flow(0, "Running")
    assert not told.tally.is_over
    assert told.tally.elapsed(NOW) == 10.0
    told.task(1, 0, "Success").flow(2, state, "why")
    assert told.tally.is_over
    assert (told.tally.state, told.tally.message) == (state, "why")
    assert told.tally.elapsed(NOW) == 2.0


def test_a_flow_entry_without_header_has_no_message():
    told = Story("a").flow(0, "Running", "x")
    told.tally.feed([told.history[0]._replace(header=None)])
    assert told.tally.message is None


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_after_any_history_fed_in_any_slices(seed):
    chance = random.Random(seed)
    told = Story("abcab" * 4)
    for at in range(200):
        told.task(at, chance.randrange(20), chance.choice(list(STATE_CLASSES)), delay=1)
    sliced = Tally(told.names)
    rest = told.history
    while rest:
        cut = chance.randint(1, 30)
        sliced.feed(rest[:cut])
        rest = rest[cut:]
    for name, group in sliced.groups.items():
        states = [state for id, state in told.states.items() if told.names[id] == name]
        assert +group.counts == {state: states.count(state) for state in states}
        assert group.counts == told.tally.groups[name].counts
        assert len(group.due) == states.count("Retrying")
