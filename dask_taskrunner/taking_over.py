"""Which task runs of an earlier flow run stand for those of a new one, and which are run again.

Successes are taken over, of mapped tasks child by child. What did not succeed is run again with all
that is downstream of it; and so is, alone, what did succeed and has a result that is gone, if what
runs reads it. It knows no cluster: whether a result is there it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import PlannedRun, plan_children
from dask_taskrunner.machine.records import TaskRunRecord


class Before(NamedTuple):
    """What is known of the earlier run.

    Attributes
    ----------
    tops : mapping
        Position of a task in the new plan -> its record; of those that the earlier run had.
    records : mapping
        All of its records.
    is_gone : callable
        Returns whether a result is missing that somebody reads; it is asked for no other.
    """

    tops: Mapping[int, TaskRunRecord]
    records: Mapping[TaskRunId, TaskRunRecord]
    is_gone: Callable[[PlannedRun, TaskRunRecord], bool]

    def child(self, n: int, map_index: int) -> TaskRunRecord:
        """Return the record of a mapped task's child."""
        return self.records[self.tops[n].id[0], map_index]


class Choice:
    """What becomes of each task run of a plan.

    Parameters
    ----------
    runs : sequence of PlannedRun
        The new plan's, in topological order.
    before : Before
        The earlier run.
    forced : collection of TaskRunId
        Tasks, and children, that are run again whatever they came to.
    reads : collection of pair of int
        Positions of two tasks of which the second is passed the result of the first.

    Attributes
    ----------
    runs_whole : set of int
        Tasks that are run again, mapped ones with all their children.
    runs_children : dict
        Position of another mapped task -> its children that are run again.
    remade : set of TaskRunId
        Task runs that are run again for their results alone.
    lengths : dict
        Position of a task -> how many children it has this time; None where nobody knows yet, or it
        is not mapped.
    needed : set of TaskRunId
        Whose results are read; of a mapped task, all its children's.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        before: Before,
        forced: Collection[TaskRunId],
        reads: Collection[tuple[int, int]],
    ) -> None:
        self._runs = runs
        self._before = before
        self._forced = forced
        self._reads = reads
        self._children: dict[int, list[PlannedRun]] = {}
        self._spread()
        self._find_needed()

    def is_run(self, id: TaskRunId) -> bool:
        """Return whether a task run is run, for whatever reason."""
        n, map_index = id
        is_again = id in self.remade or n in self.runs_whole
        return is_again or map_index in self.runs_children.get(n, ())

    def is_needed(self, id: TaskRunId) -> bool:
        """Return whether the result of a task run is read."""
        return id in self.needed or (id[0], -1) in self.needed

    def length(self, run: PlannedRun) -> int | None:
        """Return how many children are known; None where the task is not mapped, or has none."""
        return None if run.maps is None else self._before.tops[run.id[0]].length

    def children_of(self, run: PlannedRun) -> list[PlannedRun]:
        """Return the children of a mapped task that is not run as a whole."""
        n, length = run.id[0], self.length(run)
        if n not in self._children:
            self._children[n] = list(plan_children(run, length or 0))
        return self._children[n]

    # -- downstream -----------------------------------------------------------------------

    def _spread(self) -> None:
        """Find what is run again because of itself or of what is upstream."""
        self.runs_whole: set[int] = set()
        self.runs_children: dict[int, set[int]] = {}
        self.lengths: dict[int, int | None] = {}
        for run in self._runs:
            n = run.id[0]
            self.lengths[n] = self._length_now(run)
            if self._is_whole(run):
                self.runs_whole.add(n)
            elif self.length(run) is not None:
                found = {child.id[1] for child in self.children_of(run) if self._child_runs(child)}
                if found:
                    self.runs_children[n] = found

    def _is_whole(self, run: PlannedRun) -> bool:
        record, maps = self._before.tops.get(run.id[0]), run.maps
        if record is None or run.id in self._forced:
            return True
        if (record.plan.maps is None) != (maps is None):
            return True
        if maps is None or record.length is None:
            return not _has_succeeded(record) or any(self._has_news(id[0]) for id in run.upstream)
        if self.lengths[run.id[0]] != record.length:
            return True
        return any(
            n in self.runs_whole if position in maps.by_index else self._has_news(n)
            for position, (n, _) in enumerate(run.upstream[: maps.common])
        )

    def _has_news(self, n: int) -> bool:
        return n in self.runs_whole or n in self.runs_children

    def _child_runs(self, child: PlannedRun) -> bool:
        if child.id in self._forced or not _has_succeeded(self._before.child(*child.id)):
            return True
        return any(
            self._has_news(n) if i < 0 else i in self.runs_children.get(n, ())
            for n, i in child.upstream
        )

    def _length_now(self, run: PlannedRun) -> int | None:
        """Return how many children a mapped task has this time; None where nobody knows yet."""
        maps = run.maps
        if maps is None:
            return None
        lengths: set[int | None] = {*maps.lengths.values()}
        for position in (*maps.elements, *maps.by_index):
            n = run.upstream[position][0]
            lengths.add(
                self.lengths[n] if n in self.runs_whole else _elements(self._before.tops[n])
            )
        known = {length for length in lengths if length is not None}
        # Where they differ, the run has something to say about that.
        is_known = len(known) == len(lengths) and (maps.zip_shortest or len(known) == 1)
        return min(known) if is_known else None

    # -- upstream -------------------------------------------------------------------------

    def _find_needed(self) -> None:
        """Find the results that are read by what runs, and what must be made again for that."""
        self.needed: set[TaskRunId] = set()
        self.remade: set[TaskRunId] = set()
        for run in reversed(self._runs):
            for unit in self._units(run):
                if self.is_needed(unit.id) and not self.is_run(unit.id):
                    n, i = unit.id
                    record = self._before.tops[n] if i < 0 else self._before.child(n, i)
                    if self._before.is_gone(unit, record):
                        self.remade.add(unit.id)
                if self.is_run(unit.id):
                    pairs = ((id, (id[0], unit.id[0])) for id in unit.upstream)
                    self.needed.update(id for id, pair in pairs if pair in self._reads)

    def _units(self, run: PlannedRun) -> Iterator[PlannedRun]:
        """Yield a task run, or in its place its children, where each is looked at by itself."""
        n = run.id[0]
        if n in self.runs_whole or self.length(run) is None:
            yield run
        else:
            yield from self.children_of(run)


def _has_succeeded(record: TaskRunRecord) -> bool:
    return record.header is not None and record.header.is_successful


def _elements(record: TaskRunRecord) -> int | None:
    """Return how many children a mapped task run had, or elements its result."""
    if record.length is not None or record.header is None:
        return record.length
    length: int | None = record.header.more.get("length")
    return length
