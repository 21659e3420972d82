"""The records of a flow run and the rules by which they move: who stands behind whom.

Everything that changes a record's phase or the futures that are held goes through here, so that
the counters which the machine relies on cannot disagree with the records.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.machine.records import (
    ACTIVE,
    READ,
    Phase,
    TaskRunRecord,
    make_records,
    read_by,
)
from dask_taskrunner.machine.sources import all_are_there, children_of, readers_of
from dask_taskrunner.machine.submissions import submission_of
from dask_taskrunner.machine.timers import Timers

#: A slice is at most so many runs, or so many bytes of their own.
SLICE_RUNS = 500
SLICE_BYTES = 1_000_000
#: A resubmission of a run with more upstream runs than this waits until all have finished: else
#: a reduce over thousands of retrying runs would be sent as often as they retry.
WIDE = 100
#: A run that was sent so often waits until all its upstream runs have finished.
OFTEN = 4


class Board:
    """The records, the outbox, the timers and the counters of one flow run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.records: dict[TaskRunId, TaskRunRecord] = make_records(plan)
        self.history: list[HistoryEntry] = []
        #: True while task runs may be added.
        self.is_open = plan.is_open
        #: True once the run has started, and once one of its runs has grown.
        self.has_begun = self.has_grown = False
        #: Runs in one of the ACTIVE phases.
        self.active = 0
        #: Per task name: how many runs show which state.
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for run in plan.runs:
            self.counts[run.name]["Pending"] += 1
        #: Futures let go, and runs ended that must be told of, since they were last taken.
        self._released: list[TaskRunId] = []
        self._settled: list[TaskRunId] = []
        #: Runs of an open plan that may have become superfluous since that was last looked at.
        self.loose: list[TaskRunRecord] = []
        #: Mapped and grown runs of which it is to be seen whether they can be expanded, or are
        #: finished.
        self.families: list[TaskRunRecord] = []
        # A heap, for a run must go out behind its upstream runs, and those come before it.
        self.outbox: list[tuple[int, int, int]] = []
        #: When each delayed run is due; a delayed run becomes nothing else before, but by the end.
        self.timers = Timers()

    # -- moving ---------------------------------------------------------------------------

    def move(self, record: TaskRunRecord, phase: Phase) -> None:
        """Put a record into a phase, and keep the counters of its downstream runs."""
        old = record.phase
        record.phase = phase
        self.active += (phase in ACTIVE) - (old in ACTIVE)
        opened = record.is_open_in(phase) - record.is_open_in(old)
        ended = (phase == "finished") - (old == "finished")
        read = (phase in READ) - (old in READ)
        paused = (phase == "paused") - (old == "paused")
        for whole in (record.family, record.outer):
            if whole is not None:
                self._move_part_of(whole, ended, paused)
        if opened or ended:
            for id in record.downstream:
                reader = self.records[id]
                reader.unopened_upstream -= opened
                reader.unfinished_upstream -= ended
        if read:
            for source in read_by(record.plan, self.records):
                source.unfinished_readers -= read

    def _move_part_of(self, whole: TaskRunRecord, ended: int, paused: int) -> None:
        whole.unfinished_children -= ended
        whole.paused_children += paused
        if whole.retry_header or whole.unfinished_children == whole.paused_children:
            self.families.append(whole)

    def finish(self, record: TaskRunRecord) -> None:
        """Put a run that is final into its last phase: what it read may be let go."""
        if (record.plan.settles or record.loop_from) and record.phase != "finished":
            self._settled.append(record.id)
        self.move(record, "finished")
        self.loosen(record)
        self.release_upstream(record)
        self.release_if_unneeded(record)
        self.queue_behind(record)

    def show(self, record: TaskRunRecord, before: str, at: float, header: Header | None) -> None:
        """Write the change of the state that a user sees into the history."""
        now = record.shown
        if now == before and header is None:
            return
        # In the place of a mapped run its children count, once they are there.
        if record.is_counted:
            counts = self.counts[record.plan.name]
            counts[before] -= 1
            counts[now] += 1
        self.history.append(HistoryEntry(at, record.id, before, now, header, record.plan.slug))

    def is_ready(self, record: TaskRunRecord) -> bool:
        """Return whether a waiting run can be sent."""
        if record.phase != "waiting" or record.unopened_upstream:
            return False
        # A child's value may have to be made again, or that of an inner run.
        lists = (self.records[record.plan.upstream[place]] for place in record.plan.lists)
        if any(family.unfinished_children for family in lists):
            return False
        if self.has_grown and not all_are_there(record, self.records):
            return False
        wide = record.submission > 0 and len(record.plan.upstream) > WIDE
        return not record.unfinished_upstream or not (wide or record.submission >= OFTEN)

    def queue_if_ready(self, record: TaskRunRecord) -> None:
        """Have a waiting run sent, if it waits for nothing; else what it waits for will wake it."""
        if record.plan.maps is not None:
            self.families.append(record)
        elif self.is_ready(record):
            self.queue(record)

    def queue(self, record: TaskRunRecord) -> None:
        """Have a run sent with the next slice, and those behind it that only waited for it."""
        stack = [record]
        while stack:
            ready = stack.pop()
            self.queue_alone(ready)
            stack.extend(self._ready_behind(ready))

    def queue_alone(self, record: TaskRunRecord) -> None:
        """Have a run sent with the next slice."""
        self.move(record, "queued")
        heapq.heappush(self.outbox, record.plan.order)

    def queue_behind(self, record: TaskRunRecord) -> None:
        """Have those sent that waited for this run."""
        for reader in self._ready_behind(record):
            self.queue(reader)
        family, whole = record.family, record.stands_for
        if family is not None and not family.unfinished_children and family.phase == "finished":
            self.queue_behind(family)
        if whole is not None and whole.phase == "finished":
            self.queue_behind(whole)

    def _ready_behind(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        ready = []
        for id in record.downstream:
            reader = self.records[id]
            if reader.phase != "waiting":
                continue
            if reader.plan.maps is not None:
                self.families.append(reader)
            elif self.is_ready(reader):
                ready.append(reader)
        return ready

    def withdraw_behind(self, record: TaskRunRecord, at: float) -> None:
        """Take back whatever was sent behind a run whose future will not bring what was hoped."""
        stack = [record]
        while stack:
            for reader in readers_of(stack.pop(), self.records):
                if reader.phase in ("queued", "submitted"):
                    self.withdraw(reader, at)
                    stack.append(reader)

    def withdraw(self, record: TaskRunRecord, at: float) -> None:
        """Take back one run: it waits again."""
        before = record.shown
        if record.running is not None:  # A body cannot be stopped; its end is to be heard of.
            record.left_running, record.running = record.running, None
        if not record.goes_on:
            self.let_go(record)
        self.move(record, "waiting")
        self.show(record, before, at, None)

    # -- futures --------------------------------------------------------------------------

    def let_go(self, record: TaskRunRecord) -> None:
        """Release the run's future, if one is held."""
        if record.future:
            record.future = False
            self._released.append(record.id)
            self.loosen(record)

    def release_if_unneeded(self, record: TaskRunRecord) -> None:
        """Release a finished run's future as soon as nobody can need it, and not earlier.

        Not earlier: a diamond whose other arm retries reads it again. Not later: a held future
        is an order to Dask to make it again when its worker dies.
        """
        if record.length is not None and not record.unfinished_readers:
            for child in children_of(record, self.records):
                self.release_if_unneeded(child)
        for id in record.inner.results if record.inner is not None else ():
            self.release_if_unneeded(self.records[id])
        if not record.future or record.phase != "finished" or record.is_read:
            return
        assert record.header is not None
        if record.header.is_complete or not record.is_kept:
            self.let_go(record)

    def release_upstream(self, record: TaskRunRecord) -> None:
        """Release what a run has read and nobody else needs."""
        for id in record.plan.upstream:
            self.release_if_unneeded(self.records[id])

    def loosen(self, record: TaskRunRecord) -> None:
        """Have it looked at whether an open plan still needs a run, and what is upstream of it."""
        if self.plan.is_open:
            self.loose.append(record)

    def take_released(self) -> tuple[TaskRunId, ...]:
        """Return the runs whose futures were let go since the last call."""
        released, self._released = tuple(self._released), []
        return released

    def take_settled(self) -> tuple[TaskRunId, ...]:
        """Return the runs that ended since the last call, where the cluster is to be told."""
        settled, self._settled = tuple(self._settled), []
        return settled

    # -- sending --------------------------------------------------------------------------

    @property
    def has_mail(self) -> bool:
        """True while something waits to be sent."""
        return bool(self.outbox)

    def take_slice(self, at: float) -> tuple[Submission, ...]:
        """Number and return the runs that go out next; ``at`` is in epoch seconds."""
        runs: list[Submission] = []
        size = 0
        while self.outbox and len(runs) < SLICE_RUNS:
            _, map_index, n = self.outbox[0]
            record = self.records.get((n, map_index))
            # It may have been withdrawn or forgotten since, or be here twice because of that.
            if record is None or record.phase != "queued":
                heapq.heappop(self.outbox)
                continue
            # One that is larger than a slice goes out alone.
            if runs and size + record.plan.nbytes > SLICE_BYTES:
                break
            heapq.heappop(self.outbox)
            record.submission += 1
            if record.queued_at is None:
                record.queued_at = at
            record.future = True
            self.move(record, "submitted")
            size += record.plan.nbytes
            runs.append(submission_of(record, self.records))
        return tuple(runs)

    # -- time -----------------------------------------------------------------------------

    def take_due(self, at: float) -> Iterator[TaskRunRecord]:
        """Yield the delayed runs whose time has come."""
        for id in self.timers.take_due(at):
            record = self.records.get(id)
            # It may have been cancelled since.
            if record is not None and record.phase == "delayed":
                yield record

    def drop_plans(self) -> None:
        """Forget everything that was still to be sent."""
        self.outbox.clear()
        self.timers.clear()
