"""How paused task runs go on: approved, or rejected. The flow run goes on with them."""

from __future__ import annotations

from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import Approved, Rejected
from dask_taskrunner.machine.records import TaskRunRecord


class Pauses:
    """The rules about going on, over one flow run's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._board = desk.board

    def approved(self, event: Approved) -> None:
        """Run what paused, whatever its trigger says, under the run number that it has."""
        for record in self._paused(event):
            before, waited = record.shown, record.retry_header
            assert waited is not None
            record.is_approved = True
            record.retry_header = None
            self._board.move(record, "waiting")
            pending = self._desk.made(record, "Pending", "approved by the user")
            self._board.show(record, before, self._desk.time, pending)
            self._desk.call_handlers(record, waited, pending)
            # An upstream value may have been lost meanwhile: then it goes out behind that one.
            self._board.queue_if_ready(record)

    def rejected(self, event: Rejected) -> None:
        """Skip what paused."""
        for record in self._paused(event):
            self._desk.end_on_client(record, "Skipped", "rejected by the user")

    def _paused(self, event: Approved | Rejected) -> list[TaskRunRecord]:
        found = (self._board.records.get(id) for id in event.ids)
        paused = [record for record in found if record is not None and record.is_paused]
        return paused if paused and self._desk.reopen() else []
