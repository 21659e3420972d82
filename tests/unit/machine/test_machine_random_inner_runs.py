"""Random stories of runs that grow: everything is checked after each event, and each has an end.

What Dask would not do does not happen: a body ends only after what it was sent behind.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fakes.machine_story import Story
from fakes.random_flows import make_runs

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import MapPlan, Plan, PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord

pytestmark = pytest.mark.many

SEED = 20261125
STORIES = 150
#: So many events without an end are a hang.
PATIENCE = 2000
ENDS = ("Success", "Success", "Success", "Success", "Failed", "Skipped", "Retrying", "Cancelled")


class RandomStory:
    """A random flow, of which any run may grow, three levels deep."""

    def __init__(self, seed: int, *, faults: int) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.seen: Counter[str] = Counter()
        self._next = 0
        runs = self._runs(self.rng.randint(2, 6))
        read = {id for run in runs for id in run.upstream}
        reference = frozenset(run.id for run in runs if run.id not in read)
        kept = self.rng.choice((None, frozenset(), reference))
        self._depth = dict.fromkeys((run.id[0] for run in runs), 0)
        self.story = Story(Plan(tuple(runs), reference, kept))

    def _runs(self, count: int) -> list[PlannedRun]:
        """Return runs, of which some are mapped, and some read lists."""
        rng, first = self.rng, self._next
        self._next += count
        upstream = {
            n: tuple(u for u in range(first, n) if rng.random() < 0.4)
            for n in range(first, first + count)
        }
        runs: list[PlannedRun] = []
        mapped: set[int] = set()
        for run in make_runs(upstream, max_crash_retries=1000):
            lists = frozenset(i for i, id in enumerate(run.upstream) if id[0] in mapped)
            whole = [i for i in range(len(run.upstream)) if i not in lists]
            if whole and rng.random() < 0.3:
                mapped.add(run.id[0])
                maps = MapPlan(elements={whole[0]: "x"}, common=len(run.upstream))
                runs.append(run._replace(maps=maps, lists=lists))
            else:
                runs.append(run._replace(lists=lists))
        return runs

    # -- what happens ---------------------------------------------------------------------

    def walk(self) -> None:
        story = self.story
        story.starts()
        for _ in range(PATIENCE):
            if story.machine.final is not None:
                return
            if self.faults and self.rng.random() < 0.15:
                self.faults -= 1
                self._fault()
            elif self.rng.random() < 0.3 or not self._happen():
                wake_at = story.machine.wake_at
                story.wakes(None if wake_at is None else max(story.now, wake_at))
        raise AssertionError(f"the run hangs: {story.phases()}")

    def _happen(self) -> bool:
        records = list(self.story.machine.records.values())
        able = [r for r in records if r.phase == "growing" or self._may_end(r)]
        if not able:
            return False
        record = self.rng.choice(able)
        if record.phase == "growing":
            self._grow(record)
        else:
            self._end(record)
        return True

    def _may_end(self, record: TaskRunRecord) -> bool:
        if record.phase != "submitted":
            return False
        send = next(
            s
            for s in reversed(self.story.sent)
            if (s.id, s.submission) == (record.id, record.submission)
        )
        return all(
            isinstance(value, int) is False or self._is_finished(id, value)
            for id, value in zip(send.upstream_ids, send.upstream, strict=True)
        )

    def _is_finished(self, id: TaskRunId, submission: object) -> bool:
        source = self.story.machine.records[id]
        return source.phase == "finished" and source.submission == submission

    def _end(self, record: TaskRunRecord) -> None:
        name = record.id if record.id[1] >= 0 else record.id[0]
        if record.plan.maps is not None:
            self.story.ends(name, "Running", body=False, expands=True)
            return
        depth = self._depth[record.id[0]]
        if record.header is None and depth < 3 and self.rng.random() < 0.35:
            self.seen["returned"] += 1
            self.story.returns_graph(name)
            return
        state = self.rng.choice(ENDS) if record.header is None else "Success"
        big = self.rng.random() < 0.7
        self.story.ends(name, state, big=big, length=self.rng.randint(0, 3))

    def _grow(self, record: TaskRunRecord) -> None:
        n, map_index = record.id
        if self.rng.random() < 0.1:
            self.story.cannot_grow(record.id if map_index >= 0 else n)
            return
        runs = self._runs(self.rng.randint(1, 4))
        numbers = [run.id[0] for run in runs]
        self._depth |= dict.fromkeys(numbers, self._depth[n] + 1)
        read = {id[0] for run in runs for id in run.upstream}
        reference = [number for number in numbers if number not in read]
        results = self.rng.choice((reference, [self.rng.choice(numbers)]))
        names = tuple(map(str, results)) if len(results) > 1 else None
        self.seen["grew"] += 1
        self.seen["a child grew"] += map_index >= 0
        self.seen["a dict"] += names is not None
        upstream = {run.id[0]: tuple(id[0] for id in run.upstream) for run in runs}
        self.story.grows(
            n, upstream, results, names=names, reference=reference, map_index=map_index,
            runs=tuple(runs),
        )  # fmt: skip

    def _fault(self) -> None:
        story, rng = self.story, self.rng
        records = list(story.machine.records.values())
        lost = [r for r in records if r.phase == "finished" and r.future]
        killed = [r for r in records if r.phase in ("submitted", "growing")]
        if lost and rng.random() < 0.6:
            record = rng.choice(lost)
            self.seen["lost"] += 1
            self.seen["an inner result lost"] += record.stands_for is not None
            story.loses_value(record.id if record.id[1] >= 0 else record.id[0])
        elif killed:
            record = rng.choice(killed)
            self.seen["a graph lost"] += record.phase == "growing"
            name = record.id if record.id[1] >= 0 else record.id[0]
            story.loses(name, rng.choice(("killed", "lost")))


@pytest.mark.parametrize("faults", [0, 8])
def test_every_story_has_an_end(faults: int) -> None:
    for seed in range(SEED, SEED + STORIES):
        random_story = RandomStory(seed, faults=faults)
        try:
            random_story.walk()
        except BaseException:
            print(f"seed {seed}")
            raise
        for record in random_story.story.machine.records.values():
            assert record.phase == "finished", (seed, record.plan.slug, record.phase)


def test_a_story_that_is_broken_off_ends_at_once() -> None:
    for seed in range(SEED, SEED + STORIES):
        random_story = RandomStory(seed, faults=4)
        story = random_story.story
        story.starts()
        for _ in range(random_story.rng.randint(1, 25)):
            if not random_story._happen():
                story.wakes()
        story.is_cancelled()
        assert story.machine.final is not None
        assert all(r.phase == "finished" for r in story.machine.records.values()), seed


def test_the_stories_are_worth_something() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEED, SEED + STORIES):
        random_story = RandomStory(seed, faults=8)
        random_story.walk()
        seen += random_story.seen
        for record in random_story.story.machine.records.values():
            if record.inner is not None and record.header is not None:
                seen[f"grown: {record.header.state}"] += 1
    for what in (
        "grew", "a child grew", "a dict", "lost", "an inner result lost", "a graph lost",
        "grown: Success", "grown: Failed", "grown: Skipped", "grown: Cancelled",
    ):  # fmt: skip
        assert seen[what] >= 10, (what, seen)
