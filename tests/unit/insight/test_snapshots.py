"""The records of a run that goes on are copied between two events, and whole."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from fakes.growing_cluster import GrowingCluster
from fakes.machine_story import Story
from fakes.mapped_plans import Over
from fakes.model_cluster import ModelCluster
from fakes.random_flows import make_plan
from fakes.random_growth import random_growth
from fakes.random_maps import random_maps

from dask_taskrunner.insight import snapshots
from dask_taskrunner.insight.snapshots import snapshot_of
from dask_taskrunner.machine.growth import Growth
from dask_taskrunner.machine.machine import Machine


class MustRest(Exception):
    pass


def must_rest():
    raise MustRest


def family(length=3):
    """A mapped run, and one that reads its children."""
    return Story(make_plan({0: (), 1: (0,)}, maps={0: Over(lengths=(length,))}, lists={1: (0,)}))


def test_a_copy_does_not_change_when_the_run_goes_on():
    story = Story({0: (), 1: (0,)})
    story.starts()
    before = snapshot_of(story.machine)
    story.end(0, 1)
    assert [one.shown for one in before.records.values()] == ["Pending", "Pending"]
    assert before.final is None
    after = snapshot_of(story.machine)
    assert [one.shown for one in after.records.values()] == ["Success", "Success"]
    assert after.final.state == "Success"
    assert after.history[: len(before.history)] == before.history
    assert len(after.history) > len(before.history)


def test_what_a_copy_names_is_in_the_copy():
    story = family()
    story.starts()
    story.wakes()
    records = snapshot_of(story.machine).records
    assert records[0, 1].family is records[0, -1]
    assert records[0, 1].family is not story.machine.records[0, -1]
    assert all(record.id == id for id, record in records.items())


def test_counts_are_those_of_the_machine():
    story = family()
    story.starts()
    story.wakes()
    story.end((0, 1))
    known = {}
    for counts in story.machine.counts.values():
        for state, count in counts.items():
            known[state] = known.get(state, 0) + count
    assert snapshot_of(story.machine).counts == {state: n for state, n in known.items() if n}


def test_children_and_inner_runs_stand_behind_what_is_made_of_them():
    story = family()
    story.starts()
    story.wakes()
    # The second has not joined yet.
    assert [*snapshot_of(story.machine).in_order([(1, -1), (7, -1), (0, -1)])] == [
        (1, -1), (0, -1), (0, 0), (0, 1), (0, 2),
    ]  # fmt: skip
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {2: (), 3: (2,)}, [3])
    found = snapshot_of(story.machine).in_order([(0, -1), (1, -1), (2, -1), (3, -1)])
    assert [*found] == [(0, -1), (2, -1), (3, -1), (1, -1)]


# --- in the middle of things --------------------------------------------------------------------


def test_in_the_middle_of_an_event_nothing_is_read(monkeypatch):
    """A mapped run has its length before it has its children."""
    story, seen = family(), []
    add = Growth._add

    def adds(self, run, family=None):
        if family is not None:
            seen.append(run.id)
            with pytest.raises(MustRest):
                snapshot_of(story.machine, must_rest)
        return add(self, run, family)

    monkeypatch.setattr(Growth, "_add", adds)
    story.starts()
    story.wakes()
    assert seen == [(0, 0), (0, 1), (0, 2)]
    assert len(snapshot_of(story.machine, must_rest).records) == 5


def test_an_event_that_goes_wrong_keeps_nobody_waiting(monkeypatch):
    story = family()
    story.starts()

    def breaks(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(Growth, "tidy", breaks)
    story.machine._board.loose.append(story.record(1))
    with pytest.raises(RuntimeError, match="broken"):
        story.wakes()
    assert snapshot_of(story.machine, must_rest)
    story.machine.give_up(0.0, "broken")
    assert snapshot_of(story.machine, must_rest).final is not None


class Scripted:
    """A machine whose turns are written down; its records are those of another one."""

    history = ()
    final = None

    def __init__(self, turns, records=None):
        self._turns = iter(turns)
        self.records = {} if records is None else records

    @property
    def turn(self):
        return next(self._turns)


@pytest.mark.parametrize(
    ("turns", "rests"),
    [
        ((4, 4), 0),
        ((3, 4, 4), 1),
        ((4, 5, 6, 6), 1),
        ((4, 6, 6, 7, 7, 8, 8), 3),
    ],
)
def test_what_has_changed_meanwhile_is_read_again(turns, rests):
    rested = []
    assert snapshot_of(Scripted(turns), lambda: rested.append(1)).records == {}
    assert len(rested) == rests


def test_a_record_that_joins_while_they_are_counted_has_them_read_again():
    records, rested = {}, []

    class Joins(dict):
        def values(self):
            return records.values() if rested else self._changing()

        def _changing(self):
            raise RuntimeError("dictionary changed size during iteration")
            yield

    machine = Scripted((2, 4, 4), Joins())
    assert snapshot_of(machine, lambda: rested.append(1)).records == {}
    assert rested


def test_who_cannot_look_says_so(monkeypatch):
    monkeypatch.setattr(snapshots, "_TRIES", 3)
    monkeypatch.setattr(snapshots, "_REST", 0)
    with pytest.raises(TimeoutError, match="ask again"):
        snapshot_of(Scripted((1, 1, 1)))


# --- whatever happens ---------------------------------------------------------------------------


def is_whole(snapshot):
    """Whether everything that a record names is there."""
    for record in snapshot.records.values():
        known = [(record.id[0], index) for index in range(record.length or 0)]
        known += record.inner.runs if record.inner is not None else ()
        known += [one.id for one in (record.family, record.outer, record.stands_for) if one]
        assert all(id in snapshot.records for id in known)
    tops = sorted(id for id in snapshot.records if id[1] < 0)
    assert len(snapshot.in_order(tops)) == len(snapshot.records)


@pytest.mark.parametrize("seed", range(40))
def test_wherever_one_looks_all_that_is_found_is_whole(seed, monkeypatch):
    """Look each time that a record is shown or joins, and after each event."""
    rng = random.Random(seed)
    looked = SimpleNamespace(inside=0, between=0)
    add, handle = Growth._add, Machine.handle
    machines = []

    def adds(self, *args):
        for machine in machines:
            with pytest.raises(MustRest):
                snapshot_of(machine, must_rest)
            looked.inside += 1
        return add(self, *args)

    def handles(self, event):
        machines.append(self)
        try:
            commands = handle(self, event)
        finally:
            machines.pop()
        is_whole(snapshot_of(self, must_rest))
        looked.between += 1
        return commands

    monkeypatch.setattr(Growth, "_add", adds)
    monkeypatch.setattr(Machine, "handle", handles)
    if seed % 2:
        plan, scripts = random_maps(rng, max_crash_retries=2, again=("retry",))
        cluster = ModelCluster(plan, scripts, allowed_failures=0)
    else:
        cluster: GrowingCluster = random_growth(
            seed, rng, budget=2, again=("retry",), is_exact=False
        )
    cluster.start()
    while moves := cluster.moves():
        cluster.do(rng.choice(moves))
    assert looked.between
