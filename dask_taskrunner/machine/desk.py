"""What the parts of the machine share: the board, the clock of the event at hand, the commands.

Here a task run gets its final state, and lost executions are written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_taskrunner.headers import NOTHING_MORE, Header, standing_alone
from dask_taskrunner.machine import endings
from dask_taskrunner.machine.board import Board
from dask_taskrunner.machine.commands import CallHook, Command, Finish, Note
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.machine.records import Attempt, TaskRunRecord, read_by


class Desk:
    """One flow run's board and what is to be done about it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.board = Board(plan)
        self.commands: list[Command] = []
        #: The flow run's own state, once it is over or paused.
        self.final: Header | None = None
        #: The client's monotonic clock at the event at hand.
        self.now = 0.0
        #: Added to it to get epoch seconds.
        self.wall = 0.0

    @property
    def time(self) -> float:
        """Epoch seconds at the event at hand."""
        return self.now + self.wall

    def note(self, record: TaskRunRecord, text: str, level: int) -> None:
        """Tell the user something that is no state; nothing follows the end."""
        if self.final is None:
            self.commands.append(Note(text, record.id, level))

    def made(self, record: TaskRunRecord, state: str, text: str | None) -> Header:
        """Return a header that the client makes."""
        n, map_index = record.id
        return Header(
            n, map_index, record.submission, 0, state, text, "", record.run_number,
            None, None, self.time, "", 0, None, NOTHING_MORE,
        )  # fmt: skip

    def finish(self, header: Header) -> None:
        """Give the flow run its own state; nothing is sent after that."""
        self.final = header
        self.board.drop_plans()
        self.flow_changed("Running", header)
        self.commands.append(Finish(header))

    def reopen(self) -> bool:
        """Let a run that has paused go on; return whether anything can still become of it."""
        if self.final is None:
            return True
        if self.final.state != "Paused":
            return False
        self.final = None
        self.flow_changed("Paused", endings.flow_header("Running", None, self.time))
        return True

    def flow_changed(self, old: str, header: Header) -> None:
        """Write down a change of the flow run's own state."""
        self.board.history.append(HistoryEntry(self.time, None, old, header.state, header))
        if self.plan.has_handlers:
            before = endings.flow_header(old, None, self.time)
            self.commands.append(CallHook(None, before, header))

    def end(self, record: TaskRunRecord, header: Header) -> None:
        """Give a run its final state."""
        board = self.board
        before = record.shown
        record.header = header
        record.running = None
        record.retry_header = None
        # A resume would need them; what an open plan has is gone when its futures are.
        if endings.holds_inputs(header) and not self.plan.is_open:
            for source in read_by(record.plan, board.records):
                source.failed_readers += 1
        board.finish(record)
        board.show(record, before, self.time, header)

    def end_on_client(
        self,
        record: TaskRunRecord,
        state: str,
        text: str,
        more: Mapping[str, Any] = NOTHING_MORE,
    ) -> None:
        """End a run by a state that the client makes, which its dependents get by value."""
        old = self.made(record, record.shown, None)
        if record.phase in ("delayed", "paused") and record.retry_header is not None:
            old = record.retry_header
        header = self.made(record, state, text)
        if more:
            header = standing_alone(header._replace(more=more))
        record.by_value = header
        if record.running is not None:
            # A body that runs cannot be stopped; its end may still be heard of.
            record.left_running = record.running
        self.board.let_go(record)
        self.end(record, header)
        self.call_handlers(record, old, header)

    def call_handlers(self, record: TaskRunRecord, old: Header, new: Header) -> None:
        """Report a change that the client made to the task's state handlers."""
        if record.plan.has_handlers:
            plan = record.plan
            self.commands.append(CallHook(record.id, old, new, plan.slug, plan.owner))

    def close_attempt(self, record: TaskRunRecord, text: str, worker: str = "") -> None:
        """Write down an execution whose end nobody could report."""
        running = record.running
        # A mapped run is sent, and has no body.
        is_known = record.plan.maps is not None or record.has_lost_attempt()
        if running is None and is_known:
            return
        before = record.shown
        record.values += (
            Attempt(
                0, record.run_number, record.submission,
                running.worker if running else worker, running.started if running else None,
                self.time if running else None, "worker-lost", text,
            ),
        )  # fmt: skip
        record.running = None
        self.board.show(record, before, self.time, None)

    def close_left_attempt(self, record: TaskRunRecord, text: str, outcome: str) -> None:
        """Write down the end of a body that ran on after its future was let go."""
        left = record.left_running
        if left is not None:
            record.left_running = None
            record.values += (
                Attempt(
                    0, left.run_number, left.submission, left.worker, left.started, self.time,
                    outcome, text,
                ),
            )  # fmt: skip
