"""How a flow run is stopped from outside: cancelled, without its cluster, or broken by an error."""

from __future__ import annotations

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine import endings
from dask_taskrunner.machine.commands import Command, Note
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import CancelAsked, ClusterLost, RunsCancelled, Stalled
from dask_taskrunner.machine.families import Families
from dask_taskrunner.machine.losses import WARNING
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import children_of


class Stops:
    """The rules about stops, over one flow run's desk."""

    def __init__(self, desk: Desk, families: Families) -> None:
        self._desk = desk
        self._families = families
        self._board = desk.board

    def _own(self) -> list[TaskRunRecord]:
        """Return what is part of this run; the rest stays as it is, however the run ends."""
        records = self._board.records.values()
        return [record for record in records if record.plan.role != "outside"]

    def cancel_asked(self, event: CancelAsked) -> None:
        """Cancel every unfinished task run in one step; nothing is sent afterwards."""
        # What has paused has not finished.
        if not self._desk.reopen():
            return
        for record in self._own():
            if record.phase == "expanded":
                # What it comes to, its children say.
                continue
            if record.header is None:
                self._cancel(record, event.reason)
            elif record.phase != "finished":
                self._board.let_go(record)
                self._board.finish(record)
        self._families.look()
        self._desk.finish(endings.flow_header("Cancelled", event.reason, self._desk.time))

    def runs_cancelled(self, event: RunsCancelled) -> None:
        """Cancel some task runs; what is behind them gets its triggers."""
        if self._desk.final is not None:
            return
        for record in [part for id in event.ids for part in self._parts(id)]:
            if record.header is None and record.plan.role != "outside":
                self._board.withdraw_behind(record, self._desk.time)
                self._cancel(record, event.reason)

    def _parts(self, id: TaskRunId) -> list[TaskRunRecord]:
        """Return what is cancelled where a run is: of one that has children, these."""
        records = self._board.records
        record = records.get(id)
        if record is None or record.length is None:
            return [] if record is None else [record]
        return [*children_of(record, records)]

    def _cancel(self, record: TaskRunRecord, text: str) -> None:
        if record.running is not None:
            text = f"asked to stop; its code was running on {record.running.worker}"
        self._desk.end_on_client(record, "Cancelled", text)

    def cluster_lost(self, event: ClusterLost) -> None:
        """Keep what had finished; of the rest nothing is known."""
        if self._desk.final is not None:
            return
        time = self._desk.time
        for record in self._own():
            record.future = False
            if record.header is not None:
                self._board.move(record, "finished")
                self._board.loosen(record)
                continue
            before = record.shown
            text = f"not known: {event.text}; {endings.last_heard(record)}"
            record.running = None
            record.retry_header = self._desk.made(record, "Pending", text)
            self._board.move(record, "paused")
            self._board.show(record, before, time, record.retry_header)
        text = f"the cluster was lost at {endings.clock(time)}: {event.text}"
        self._desk.finish(endings.flow_header("Crashed", text, time))

    def stalled(self, event: Stalled) -> None:
        """Say why nothing happens; and end what waits for it, if it has been so for too long."""
        if self._desk.final is not None:
            return
        self._desk.commands.append(Note(event.text, None, WARNING))
        if event.ends_after is None:
            return
        text = f"nothing has happened for {event.ends_after:.0f} s: {event.text}"
        for record in self._own():
            if record.header is not None or record.phase == "expanded":
                continue
            if record.phase == "submitted":
                self._desk.end_on_client(record, "Crashed", text)
            elif not self._desk.plan.is_open:
                self._desk.end_on_client(record, "Cancelled", "the flow run stalled")
        # What comes after single calls is asked by itself.
        if not self._desk.plan.is_open:
            self._families.look()
            self._desk.finish(endings.flow_header("Crashed", text, self._desk.time))

    def give_up(self, at: float, text: str) -> list[Command]:
        """End a run that an error of this package has broken, and return what is left to do.

        No rule is relied upon any more, and no counter: one of them may be what is broken.
        """
        desk = self._desk
        desk.now = at
        for record in self._own():
            if record.header is None:
                before = record.shown
                record.left_running, record.running = record.running, None
                record.header = desk.made(record, "Cancelled", text)
                record.phase = "finished"
                self._board.show(record, before, desk.time, record.header)
        desk.commands = []
        desk.finish(endings.flow_header("Crashed", text, desk.time))
        return desk.commands
