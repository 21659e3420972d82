"""What follows when a worker dies: lost executions, lost values, and who pays for them.

Dask may execute a submission again after its run has finished, and it blames every task run that
was assigned to a dead worker. No order of late, doubled or missing news is an error here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dask_taskrunner.headers import NOTHING_MORE, Header, TaskRunId, standing_alone
from dask_taskrunner.machine import endings
from dask_taskrunner.machine.commands import Note
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import Loss, TaskRunLost, ValueLost, WorkerRemoved
from dask_taskrunner.machine.loops import start_over
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import sources_of

#: How often a run is sent again, uncounted, after the death of a worker on which it is not known
#: to have been running.
INNOCENT: Final = 2
INFO: Final = 20
WARNING: Final = 30


class Losses:
    """The rules about losses, over one flow run's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._board = desk.board

    # -- executions -----------------------------------------------------------------------

    def lost(self, event: TaskRunLost) -> None:
        """A future ended without a state."""
        record, loss = self._board.records.get(event.id), event.error
        if record is None or not record.is_awaiting(event.submission):
            return
        self._board.withdraw_behind(record, self._desk.time)
        if loss.kind == "upstream":
            self._lost_with_upstream(record, loss)
        elif loss.kind == "cached":
            # Nobody's budget: what an earlier run had cached only spares the body.
            self._send_again(record)
        elif loss.kind == "cancelled":
            self._give_up(record, "Cancelled", f"by another client: {loss.text}")
        elif loss.kind == "raised":
            self._give_up(record, "Failed", loss.text, loss.more)
        elif loss.kind == "error":
            self._give_up(record, "Crashed", loss.text)
            self._desk.close_left_attempt(record, loss.text, "failed")
        else:
            self._charge(record, loss)

    def _charge(self, record: TaskRunRecord, loss: Loss) -> None:
        """Send a run again whose worker died, as long as somebody's budget pays."""
        if loss.kind == "killed":
            record.deaths += loss.starts
            if self._is_innocent(record, loss.worker):
                record.innocent += 1
                self._send_again(record)
                return
        # Where only data was lost, no body need have begun.
        if loss.kind == "killed" or record.running is not None:
            self._desk.close_attempt(record, loss.text, loss.worker)
        record.crashes += 1
        if record.loop_from and loss.kind != "killed":
            start_over(record)
        if record.crashes <= record.plan.max_crash_retries:
            self._send_again(record)
        else:
            self._give_up(record, "Crashed", endings.crash_text(record, loss))

    def crashed(self, record: TaskRunRecord, header: Header) -> None:
        """The process died in which a body ran by itself; its worker lives on."""
        record.crashes += 1
        record.running = None
        if record.crashes > record.plan.max_crash_retries:
            self._desk.end(record, header)
            return
        self._board.withdraw_behind(record, self._desk.time)
        self._send_again(record)

    @staticmethod
    def _is_innocent(record: TaskRunRecord, worker: str) -> bool:
        """Return whether the run is not known to have been running on the dead worker.

        A body that dies before its first start report cannot be told from an innocent one:
        hence the bound.
        """
        running = record.running
        if running is not None and (not worker or running.worker == worker):
            return False
        return not record.has_lost_attempt() and record.innocent < INNOCENT

    def _lost_with_upstream(self, record: TaskRunRecord, loss: Loss) -> None:
        """Wait for the final state of the run at fault: an upstream's error is not news."""
        if record.unfinished_upstream:
            self._board.withdraw(record, self._desk.time)
            return
        # By the records all is there: so a value was lost that was there once.
        culprit = self._board.records.get(loss.culprit) if loss.culprit is not None else None
        if culprit is not None and culprit.future:
            self.lose_value(culprit, loss.text)
        else:
            self._charge(record, loss)

    def _send_again(self, record: TaskRunRecord) -> None:
        self._board.withdraw(record, self._desk.time)
        self._board.queue_if_ready(record)

    def _give_up(
        self,
        record: TaskRunRecord,
        state: str,
        text: str,
        more: Mapping[str, Any] = NOTHING_MORE,
    ) -> None:
        """End a run by a state that the client makes, which its dependents get by value."""
        if record.header is None:
            self._desk.end_on_client(record, state, text, more)
            return
        # Its value could not be made again. It keeps its state; its dependents are told.
        lost = f"the result of {record.plan.slug} was lost with worker {record.header.worker}"
        record.by_value = self._desk.made(
            record, "Crashed", f"{lost} and could not be made again: {text}"
        )
        if record.phase != "finished":
            self._board.withdraw(record, self._desk.time)
        self._board.finish(record)

    def worker_removed(self, event: WorkerRemoved) -> None:
        """A worker left: what is known to have been running there is lost."""
        if self._desk.final is not None:
            return
        records, text = self._board.records, f"worker {event.worker} was lost"
        for record in records.values():
            if record.left_running is not None and record.left_running.worker == event.worker:
                self._desk.close_left_attempt(record, text, "worker-lost")
        assigned = [records[id] for id in event.keys if id in records]
        hit = [record for record in assigned if record.phase == "submitted"]
        for record in hit:
            if record.running is not None and record.running.worker == event.worker:
                self._desk.close_attempt(record, text)
        if hit and not event.expected:
            text += f" with {len(hit)} task runs assigned to it"
            self._desk.commands.append(Note(text, None, WARNING))

    # -- values ---------------------------------------------------------------------------

    def value_lost(self, event: ValueLost) -> None:
        """The future of a finished run holds its value no more."""
        record = self._board.records.get(event.id)
        if record is None:
            return
        if record.submission == event.submission and self._desk.final is None:
            self.lose_value(record, event.text)

    def lose_value(self, record: TaskRunRecord, text: str) -> None:
        """Have a finished run's value made again, where somebody still needs it."""
        header = record.header
        if header is None or record.phase != "finished" or not record.future:
            return
        board = self._board
        board.let_go(record)
        board.withdraw_behind(record, self._desk.time)
        if not header.kind:
            # No body is run again for a failure or a skip, of which the header says everything.
            record.by_value = standing_alone(header)
            board.queue_behind(record)
        elif record.is_read or record.is_held:
            self._desk.note(record, f"the result of {record.plan.slug} was lost: {text}", WARNING)
            self._make_again(record, text)

    def _make_again(self, record: TaskRunRecord, text: str) -> None:
        found = self._gone_with(record)
        lacking = next((again for again in found if not _is_ours(again)), None)
        if record.values or record.innocent >= INNOCENT:
            record.crashes += 1
        else:
            # Its body never ran: what an earlier run had cached only spared it.
            record.innocent += 1
        if lacking is not None:
            # Others' bodies are not ours to run. And with less than it had the first time, this one
            # might come to something else.
            slug = lacking.plan.slug
            self._give_up(record, "Crashed", f"{slug} comes from elsewhere, and is gone: {text}")
        elif record.crashes <= record.plan.max_crash_retries:
            self._start_over(found)
        else:
            self._give_up(record, "Crashed", text)

    def _gone_with(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        """Return a run that is to be made again and those of its inputs that are gone as well."""
        records = self._board.records
        found, stack = {record.id}, [record]
        while stack:
            gone = [source for source in sources_of(stack.pop(), records) if source.is_missing]
            stack.extend(source for source in gone if source.id not in found)
            found.update(source.id for source in gone)
        return [records[id] for id in sorted(found)]

    def _start_over(self, found: list[TaskRunRecord]) -> None:
        """Send finished runs once more."""
        board = self._board
        for record in found:
            if record.loop_from:
                # What it began with the last time was let go when it ended.
                start_over(record)
            record.by_value = None
            board.move(record, "waiting")
        # Only now it is known which of them wait for others.
        for record in found:
            board.queue_if_ready(record)

    def found_unfinished(self, record: TaskRunRecord, culprit: TaskRunId) -> None:
        """A run ended without running anything, because an upstream run had not finished."""
        board, time = self._board, self._desk.time
        board.withdraw(record, time)
        board.withdraw_behind(record, time)
        source = board.records.get(culprit)
        if source is not None:
            # If the record calls that run finished, its future brought another value this time.
            self.lose_value(source, f"{record.plan.slug} found it unfinished")
        if not record.unfinished_upstream:
            board.queue_if_ready(record)

    def made_again(self, record: TaskRunRecord, header: Header) -> None:
        """Take in what came of making a lost value again."""
        board = self._board
        record.values = tuple(
            re_executed(header) if value is header else value for value in record.values
        )
        record.running = None
        if header.is_successful:
            board.finish(record)
            return
        board.withdraw_behind(record, self._desk.time)
        board.withdraw(record, self._desk.time)
        self._make_again(record, f"made again, it ended as {header.state}: {header.message}")

    def late(self, record: TaskRunRecord, header: Header) -> None:
        """Take in news that changes no state: it fills the attempts."""
        final = record.header
        # Its value is the newest submission's, its state perhaps an older one's.
        is_newest = header.submission == record.submission and record.phase == "finished"
        again = False
        if final is not None and final.worker:
            again = is_newest or header.submission == final.submission
        if again:
            header = re_executed(header)
        if header.started is not None:
            record.write(header)
        left = record.left_running
        if left is not None and left.execution == header.execution:
            record.left_running = None
        if again:
            text = f"{record.plan.slug} was executed again by Dask on {header.worker}"
            self._desk.note(record, text, INFO)
            agrees = header.is_successful or (final and header.state == final.state)
            if is_newest and not agrees and self._desk.final is None:
                self.lose_value(record, f"executed again, it ended as {header.state}")


def re_executed(header: Header) -> Header:
    """Return the header of an execution that came after the run's end."""
    return header._replace(more={**header.more, "outcome": "re-executed"})


def _is_ours(record: TaskRunRecord) -> bool:
    """Return whether a run's body may be run here."""
    return record.plan.role == "run" or record.plan.can_be_run
