"""What inputs took that came from other workers is told apart from sending and from waiting."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story

from dask_taskrunner.insight.costs import Costs
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.readings import read
from dask_taskrunner.insight.waits import places_of, spent


def told(fetched, *, busy_until=None, began=6.0, ended=7.0, nbytes=1000):
    """A reading of a run whose second task run, on another worker, could begin at 2 s."""
    story = Story({0: (), 1: (0,), 2: ()})
    story.starts()
    bodies = [(0, "w1", 1.0, 2.0, ()), (1, "w2", began, ended, fetched)]
    if busy_until is not None:
        bodies.insert(1, (2, "w2", 1.0, busy_until, ()))
    for n, worker, started, end, when in bodies:
        story.now = end
        more = {"fetched": [[WALL + begin, WALL + stop] for begin, stop in when]} if when else {}
        header = story.header(n, worker=worker)._replace(nbytes=nbytes, more=more)
        story.hears(header._replace(started=WALL + started, seconds=end - started))
    return read(story.machine.records, story.machine.history)


def spent_of(reading):
    return spent(reading.nodes[(1, -1), False], places_of(reading))


def test_a_transfer_is_told_apart_from_the_rest():
    took = spent_of(told([(3.0, 5.0)]))
    assert took.fetching == pytest.approx(2.0)
    assert took.overhead == pytest.approx(2.0)
    assert took.seconds == pytest.approx(5.0)


def test_of_transfers_that_overlap_no_second_counts_twice():
    assert spent_of(told([(3.0, 5.0), (4.0, 5.5), (3.5, 4.0)])).fetching == pytest.approx(2.5)


def test_what_was_fetched_before_for_others_is_none_of_it():
    took = spent_of(told([(0.0, 1.0), (1.5, 3.0)]))
    assert took.fetching == pytest.approx(1.0)


def test_what_was_fetched_while_there_was_no_place_cost_nothing():
    took = spent_of(told([(3.0, 5.0)], busy_until=4.0))
    assert (took.queued, took.fetching) == (pytest.approx(2.0), pytest.approx(1.0))
    assert took.seconds == pytest.approx(5.0)


def test_it_is_on_the_critical_path_and_in_its_words():
    path = critical_path(told([(3.0, 5.0)]))
    assert path[-1].fetching == pytest.approx(2.0)
    assert path.spent["fetching"] == pytest.approx(2.0)
    assert "2.0 s fetching inputs from other workers" in str(path)


def test_a_replay_moves_results_as_fast_as_they_were_seen_to_move():
    reading = told([(3.0, 5.0)], nbytes=4_000_000)
    costs = Costs(reading, places_of(reading))
    assert costs.bandwidth == pytest.approx(2_000_000)
    (stage,) = costs.stages(reading.nodes[(1, -1), False], 1.0)
    # Sending and scheduling: what the transfer took, a replay reckons anew.
    assert stage.latency == pytest.approx(2.0)


def test_what_is_small_comes_with_the_usual_overhead():
    reading = told([(3.0, 5.0)], nbytes=100)
    costs = Costs(reading, places_of(reading))
    assert costs.bandwidth is None
    (stage,) = costs.stages(reading.nodes[(1, -1), False], 1.0)
    assert stage.latency == pytest.approx(4.0)
