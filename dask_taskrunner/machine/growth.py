"""How task runs come into a flow run and leave it: at its start, later, and when nobody needs them.

A flow's runs are all there from the beginning, and stay while the flow run does. An open plan, to
which runs are added one by one, forgets a run when its result is asked for by nobody and no run
that may be sent again stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from dask_taskrunner.headers import Header, TaskRunId, standing_alone
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import (
    ForeignEnded,
    HistoryRead,
    NoMoreRuns,
    ResultsDropped,
    ResultsWanted,
    RunsAdded,
)
from dask_taskrunner.machine.plans import InnerPlan, PlannedRun, plan_children
from dask_taskrunner.machine.records import TaskRunRecord, read_by


class Growth:
    """The rules about coming and leaving, over one flow run's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._board = desk.board
        #: Runs that were forgotten since they were last taken.
        self._forgotten: list[TaskRunId] = []

    def take_forgotten(self) -> tuple[TaskRunId, ...]:
        """Return the runs that were forgotten since the last call."""
        forgotten = tuple(self._forgotten)
        self._forgotten.clear()
        return forgotten

    # -- coming ---------------------------------------------------------------------------

    def begin_all(self) -> None:
        """Begin every run of the plan, in its order."""
        found: list[TaskRunRecord] = []
        # All children that are known are there before anything ends: one is another's reader.
        for record in list(self._board.records.values()):
            found.append(record)
            if record.plan.children is not None:
                found += self._bring(record, record.plan.children)
        self._begin(found)

    def runs_added(self, event: RunsAdded) -> None:
        """Take in runs that came later."""
        if self._desk.final is None:
            self._begin([self._add(run) for run in event.runs])

    def no_more_runs(self, _event: NoMoreRuns) -> None:
        """Let the run end when all that it has have ended."""
        self._board.is_open = False

    def add_children(self, family: TaskRunRecord, runs: Iterable[PlannedRun]) -> None:
        """Take in the children of a mapped run, and begin them."""
        self._begin([self._add(run, family) for run in runs])

    def add_inner(self, outer: TaskRunRecord, inner: InnerPlan, runs: Iterable[PlannedRun]) -> None:
        """Take in the runs to which one has grown, and begin them."""
        added = [self._add(run) for run in runs]
        for record in added:
            record.outer = outer
        outer.unfinished_children = len(added)
        self._board.has_grown = True
        for id in inner.results:
            self._board.records[id].stands_for = outer
        self._begin(added)

    def _add(self, run: PlannedRun, family: TaskRunRecord | None = None) -> TaskRunRecord:
        board = self._board
        sources = [board.records.get(id) for id in run.upstream]
        if any(source is None or source.is_gone for source in sources):
            # Another thread let go of it while this one was passing it on.
            record = self._add(run._replace(upstream=()), family)
            text = "what it was given was released before it was sent; keep the future until then"
            self._desk.end_on_client(record, "Failed", text)
            return record
        is_kept = run.is_held or self._desk.plan.keeps(run.id)
        # Who holds a mapped run holds its children.
        record = TaskRunRecord(run, int(is_kept and family is None))
        record.family = family
        if board.plan.is_open:
            # The readers come and go.
            record.downstream = {}
        record.unopened_upstream = record.unfinished_upstream = 0
        for id in run.upstream:
            source = board.records[id]
            source.add_reader(run.id)
            record.unopened_upstream += not source.is_open_in(source.phase)
            record.unfinished_upstream += source.phase != "finished"
        for source in read_by(run, board.records):
            source.unfinished_readers += 1
        board.records[run.id] = record
        board.counts[run.name]["Pending"] += 1
        return record

    def _begin(self, records: list[TaskRunRecord]) -> None:
        """Put new runs, in topological order, where they begin."""
        # Against the order: what a state that is given lets go out must not be one that waits for
        # a time, or is not part of this run, and has not been put there yet.
        for record in reversed(records):
            self._place(record)
        for record in records:
            if record.phase != "waiting":
                continue
            if record.plan.maps is not None:
                self._board.families.append(record)
            elif self._board.is_ready(record):
                self._board.queue_alone(record)

    def _place(self, record: TaskRunRecord) -> None:
        """Put a run into the phase of its role, where that is another than to be run at once."""
        given, role = record.plan.given, record.plan.role
        if role == "foreign":
            self._board.move(record, "foreign")
        elif role == "outside":
            self._leave_out(record, given)
        elif given is None:
            return
        elif role == "given":
            self._arrive(record, given)
        else:
            record.run_number = given.more.get("last_run_number", 0) + 1
            due = given.more.get("scheduled_time")
            if due is not None and due > self._desk.time:
                self._wait(record, given, due)

    def _bring(
        self, record: TaskRunRecord, children: tuple[PlannedRun | None, ...]
    ) -> list[TaskRunRecord]:
        """Take in the children of a mapped run that are known from the beginning."""
        board, before = self._board, record.shown
        length, is_run = len(children), record.plan.role == "run"
        given = sum(child is not None for child in children)
        header = self._desk.made(record, "Running", f"{given} of {length} finished")
        header = header._replace(more={"children": length})
        board.counts[record.plan.name][before] -= 1
        record.length = record.unfinished_children = length
        board.move(record, "expanded")
        board.show(record, before, self._desk.time, header)
        if is_run:
            pending = self._desk.made(record, "Pending", None)
            self._desk.call_handlers(record, pending, header)
            board.families.append(record)
        # Of one that is given the plan may tell of fewer.
        own = iter(plan_children(record.plan, length) if is_run else ())
        plans = (known or planned for known, planned in zip_longest(children, own))
        return [self._add(plan, record) for plan in plans if plan is not None]

    def _leave_out(self, record: TaskRunRecord, given: Header | None) -> None:
        """Have a run stand still, and show the state that it is given."""
        before = record.shown
        record.retry_header = given
        self._board.move(record, "paused")
        if record.shown != before:
            self._board.show(record, before, self._desk.time, given)

    def _wait(self, record: TaskRunRecord, given: Header, due: float) -> None:
        """Put a run that is given a time, in epoch seconds, into the hands of the timer."""
        before = record.shown
        record.retry_header = given
        self._board.move(record, "delayed")
        self._board.timers.set(record.id, self._desk.now + due - self._desk.time)
        self._board.show(record, before, self._desk.time, given)

    def _arrive(self, record: TaskRunRecord, header: Header) -> None:
        """End a run that was not run here; a future has what its header has not."""
        record.submission = 1
        record.future = not (header.stands_alone or record.plan.has_no_result)
        if record.plan.has_no_result:
            record.by_value = standing_alone(header)
        self._desk.end(record, header)

    def foreign_ended(self, event: ForeignEnded) -> None:
        """Take in the end of a run that belongs to another run."""
        record = self._board.records.get(event.id)
        if record is None or record.phase != "foreign":
            return
        header = event.header
        if header is None:
            text = f"{record.plan.slug} has no result: its own run ended, or let go of it, before"
            self._desk.end_on_client(record, "Failed", text)
        else:
            self._arrive(record, header)

    # -- leaving --------------------------------------------------------------------------

    def results_wanted(self, event: ResultsWanted) -> None:
        """Hold on to results for one more."""
        for id in event.ids:
            record = self._board.records.get(id)
            if record is not None:
                record.holders += 1

    def results_dropped(self, event: ResultsDropped) -> None:
        """Let go of results that nobody else holds."""
        for id in event.ids:
            record = self._board.records.get(id)
            if record is not None:
                record.holders -= 1
                self._board.release_if_unneeded(record)
                self._board.loosen(record)

    def tidy(self) -> None:
        """Forget finished runs of an open plan that nobody will speak of again."""
        stack, self._board.loose = self._board.loose, []
        while stack:
            record = stack.pop()
            if record.id not in self._board.records:
                continue
            if record.is_unneeded or not record.needs_upstream:
                stack += self._detach(record)
            if record.is_unneeded:
                self._forget(record)

    def _detach(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        """Take a run out of the lists of those upstream of it, and return these."""
        sources = []
        for id in record.plan.upstream:
            source = self._board.records.get(id)
            if source is not None and record.id in source.downstream:
                source.drop_reader(record.id)
                sources.append(source)
        # What is made again upstream of it is nothing to it any more.
        record.unopened_upstream = record.unfinished_upstream = 0
        return sources

    def _forget(self, record: TaskRunRecord) -> None:
        board = self._board
        board.let_go(record)
        del board.records[record.id]
        counts = board.counts[record.plan.name]
        counts[record.shown] -= 1
        if not +counts:
            del board.counts[record.plan.name]
        self._forgotten.append(record.id)

    def history_read(self, _event: HistoryRead) -> None:
        """Keep no more of an open plan's history than what is not read yet."""
        if self._desk.plan.is_open:
            self._board.history.clear()
