"""The client's brain: told what happened (events), it answers what to do (commands).

:meth:`Machine.handle` is the only mutator. It reads no clock, config or network and knows
nothing of threads: a whole run, with retries, crashes and cancellation, takes microseconds in a
test.

Rule 1: a finished state never changes.
Rule 2: only the newest submission of a task run changes its state; other news fills attempts.
Rule 3: every unfinished run is queued or submitted, waits for a time, waits for an unfinished
upstream run, or is paused.
Rule 4: what is to be sent goes out when the run starts or the timer fires, a slice at a time;
``wake_at`` lies in the past while there is something to send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine import endings
from dask_taskrunner.machine.commands import (
    Command,
    FetchHeader,
    Finish,
    Forget,
    Release,
    Settled,
    SubmitMany,
)
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import (
    Approved,
    CancelAsked,
    ClusterLost,
    Event,
    ForeignEnded,
    Grew,
    GrowthFailed,
    HistoryRead,
    NoMoreRuns,
    Rejected,
    ResultsDropped,
    ResultsWanted,
    RunsAdded,
    RunsCancelled,
    RunStarted,
    Stalled,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    TimerFired,
    ValueLost,
    WorkerRemoved,
)
from dask_taskrunner.machine.families import Families
from dask_taskrunner.machine.growth import Growth
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.inner_runs import InnerRuns
from dask_taskrunner.machine.loops import Loops
from dask_taskrunner.machine.losses import Losses
from dask_taskrunner.machine.pauses import Pauses
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.machine.records import Running, TaskRunRecord
from dask_taskrunner.machine.stops import Stops
from dask_taskrunner.machine.turns import in_one_turn


class Machine:
    """The state of one flow run.

    Parameters
    ----------
    plan : Plan
        The task runs and what is kept of them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        #: Odd while something is taken in: then the records may be half of what they will be.
        self.turn = 0
        self._desk = Desk(plan)
        self._board = self._desk.board
        self._losses = Losses(self._desk)
        self._growth = Growth(self._desk)
        self._inner_runs = InnerRuns(self._desk, self._growth)
        self._families = Families(self._desk, self._growth, self._inner_runs)
        self._pauses = Pauses(self._desk)
        self._loops = Loops(self._desk)
        self._stops = Stops(self._desk, self._families)
        self._handlers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._started,
            TaskRunsBegan: self._began,
            TaskRunEnded: self._ended,
            TaskRunLost: self._losses.lost,
            WorkerRemoved: self._losses.worker_removed,
            ValueLost: self._losses.value_lost,
            TimerFired: self._timer_fired,
            CancelAsked: self._stops.cancel_asked,
            ClusterLost: self._stops.cluster_lost,
            Stalled: self._stops.stalled,
            RunsCancelled: self._stops.runs_cancelled,
            RunsAdded: self._growth.runs_added,
            Grew: self._inner_runs.grew,
            GrowthFailed: self._inner_runs.growth_failed,
            NoMoreRuns: self._growth.no_more_runs,
            ForeignEnded: self._growth.foreign_ended,
            ResultsWanted: self._growth.results_wanted,
            ResultsDropped: self._growth.results_dropped,
            HistoryRead: self._growth.history_read,
            Approved: self._pauses.approved,
            Rejected: self._pauses.rejected,
        }

    # -- reading --------------------------------------------------------------------------

    @property
    def final(self) -> Header | None:
        """The flow run's own state, once it is over or paused."""
        return self._desk.final

    @property
    def wake_at(self) -> float | None:
        """When :class:`TimerFired` is wanted; None for never. A past time means now."""
        if self.final is not None:
            return None
        return float("-inf") if self._board.has_mail else self._board.timers.due_at

    @property
    def active(self) -> int:
        """How many task runs are under way."""
        return self._board.active

    @property
    def history(self) -> list[HistoryEntry]:
        """Every change of state so far, oldest first."""
        return self._board.history

    @property
    def counts(self) -> Mapping[str, Counter[str]]:
        """Per task name, how many of its runs show which state."""
        return self._board.counts

    @property
    def records(self) -> Mapping[TaskRunId, TaskRunRecord]:
        """What is known of each task run."""
        return self._board.records

    def validate(self) -> list[str]:
        """Return what contradicts the rules at the head of this file. Costly: for tests."""
        return endings.broken(self._board)

    # -- the only mutator -----------------------------------------------------------------

    @in_one_turn
    def handle(self, event: Event) -> list[Command]:
        """Take in one event and return the commands that follow from it, in order."""
        desk = self._desk
        desk.now = event.at
        was_over = desk.final is not None
        self._handlers[type(event)](event)
        board = self._board
        goes_on = desk.final is None
        if desk.final is None:
            self._families.look()
        if desk.final is None and not board.active and not board.is_open:
            desk.finish(endings.outcome(self.plan, board.records, desk.time))
        if board.loose:
            self._growth.tidy()
        commands, desk.commands = desk.commands, []
        first = [Release(ids)] if (ids := board.take_released()) else []
        last: list[Command] = [Settled(ids)] if (ids := board.take_settled()) else []
        last += [Forget(ids)] if (ids := self._growth.take_forgotten()) else []
        if was_over and not goes_on:
            # Results that somebody held can still be dropped; nothing else follows the end.
            return [*first, *last]
        if commands and isinstance(commands[-1], Finish):
            last.append(commands.pop())
        return [*first, *commands, *last]

    def _started(self, event: RunStarted) -> None:
        self._desk.wall = event.wall - event.at
        self._board.has_begun = True
        self._growth.begin_all()
        self._desk.flow_changed("Pending", endings.flow_header("Running", None, self._desk.time))
        self._send_slice()

    def _timer_fired(self, event: TimerFired) -> None:
        for record in self._board.take_due(event.at):
            self._retry(record)
        self._send_slice()

    def _send_slice(self) -> None:
        if runs := self._board.take_slice(self._desk.time):
            self._desk.commands.append(SubmitMany(runs))

    @in_one_turn
    def give_up(self, at: float, text: str) -> list[Command]:
        """End a run that an error of this package has broken, and return what is left to do."""
        return self._stops.give_up(at, text)

    # -- news of executions ---------------------------------------------------------------

    def _began(self, event: TaskRunsBegan) -> None:
        for body in event.bodies:
            record = self._board.records.get(body.id)
            # News of an execution that has ended, or whose worker was lost, comes too late.
            if (
                record is None
                or record.has_heard(body.execution)
                or (body.submission == record.submission and record.has_lost_attempt(event.worker))
            ):
                continue
            running = Running(
                event.worker, body.execution, body.submission, record.run_number, body.started
            )
            if not record.is_awaiting(body.submission):
                record.left_running = running
                continue
            self._restarted(record, body.execution)
            before = record.shown
            record.running = running
            self._board.show(record, before, self._desk.time, None)

    def _restarted(self, record: TaskRunRecord, execution: int) -> None:
        """Where Dask started a run again, whatever ran it before is not there any more."""
        if record.running is not None and record.running.execution != execution:
            self._desk.close_attempt(record, "Dask started it again elsewhere")

    def _ended(self, event: TaskRunEnded) -> None:
        record, header = self._board.records.get(event.id), event.header
        if record is None:
            return
        current = record.is_awaiting(event.submission)
        if header is None:
            if current and record.phase == "submitted":
                self._desk.commands.append(FetchHeader(event.id, event.submission))
            return
        if record.has_heard(header.execution):
            return
        record.last_execution = header.execution
        if not current:
            self._losses.late(record, header)
            return
        if header.started is not None:
            self._restarted(record, header.execution)
            record.write(header)
        self._take_in(record, header)

    def _take_in(self, record: TaskRunRecord, header: Header) -> None:
        """Do what follows from the end of the execution that was waited for."""
        if "waits_for" in header.more:
            n, map_index = header.more["waits_for"]
            self._losses.found_unfinished(record, (n, map_index))
        elif header.state == "Looped":
            self._loops.go_on(record, header)
        elif record.header is not None:
            self._losses.made_again(record, header)
        elif "expands" in header.more:
            self._families.expand(record)
        elif "grew" in header.more:
            self._inner_runs.grow(record, header)
        elif header.state == "Crashed" and header.started is not None:
            self._losses.crashed(record, header)
        elif header.state == "Retrying":
            self._delay(record, header)
        elif header.state == "Paused":
            self._pause(record, header)
        elif header.is_finished:
            self._desk.end(record, header)
        else:
            # A state handler put it there. The run must not hang for that, nor go round for ever.
            text = f"it ended as {header.state}({header.message or ''}), which is no end"
            self._board.withdraw_behind(record, self._desk.time)
            self._desk.end_on_client(record, "Failed", text)

    def _step_back(self, record: TaskRunRecord) -> None:
        """Take back a run's future, and at once all that was sent behind it.

        Dask drops what has not started, so a retry costs a handful of empty executions, not
        one per run downstream.
        """
        record.running = None
        self._board.let_go(record)
        self._board.withdraw_behind(record, self._desk.time)

    def _delay(self, record: TaskRunRecord, header: Header) -> None:
        before = record.shown
        self._step_back(record)
        # A trigger that asks for a retry has not used up the number that it ran under.
        record.run_number = header.more.get("last_run_number", header.run_number) + 1
        delay = header.more.get("delay")
        if delay is None:
            # Only RETRY(scheduled_time=...) names a time, and it is held against our wall clock.
            delay = max(0.0, header.more["scheduled_time"] - self._desk.time)
        # Clocks differ between machines, so only the client's decides when a retry is due.
        more = {**header.more, "delay": delay, "scheduled_time": self._desk.time + delay}
        record.retry_header = header._replace(more=more)
        self._board.move(record, "delayed")
        self._board.timers.set(record.id, self._desk.now + delay)
        self._board.show(record, before, self._desk.time, record.retry_header)

    def _retry(self, record: TaskRunRecord) -> None:
        before, waited = record.shown, record.retry_header
        assert waited is not None
        self._board.move(record, "waiting")
        pending = self._desk.made(record, "Pending", f"run {record.run_number} is due")
        self._board.show(record, before, self._desk.time, pending)
        self._desk.call_handlers(record, waited, pending)
        # An upstream value may have been lost meanwhile: then it goes out behind that one.
        self._board.queue_if_ready(record)

    def _pause(self, record: TaskRunRecord, header: Header) -> None:
        before = record.shown
        self._step_back(record)
        record.retry_header = header
        self._board.move(record, "paused")
        self._board.show(record, before, self._desk.time, header)
