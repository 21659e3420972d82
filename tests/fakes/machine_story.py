"""A machine that is told a story, event by event: short words for case tables."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from dask_taskrunner.headers import Header
from dask_taskrunner.machine.commands import (
    CallHook,
    Command,
    Forget,
    Note,
    Release,
    Settled,
    Submission,
    SubmitMany,
)
from dask_taskrunner.machine.events import (
    Approved,
    BodyBegan,
    CancelAsked,
    ClusterLost,
    Event,
    ForeignEnded,
    Grew,
    GrowthFailed,
    HistoryRead,
    Loss,
    NoMoreRuns,
    ResultsDropped,
    ResultsWanted,
    RunsAdded,
    RunsCancelled,
    RunStarted,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    TimerFired,
    ValueLost,
    WorkerRemoved,
)
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.machine.plans import InnerPlan, Plan, PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from fakes.model_states import header_of
from fakes.random_flows import make_plan, make_runs

#: The wall clock when the story's own clock shows 0.
WALL = 1_700_000_000.0


class Story:
    """Task runs are called by their numbers; time passes only where the story says so."""

    def __init__(self, upstream: dict[int, tuple[int, ...]] | Plan, **options: Any) -> None:
        self.plan = upstream if isinstance(upstream, Plan) else make_plan(upstream, **options)
        self.machine = Machine(self.plan)
        self.now = 0.0
        self.sent: list[Submission] = []
        self._executions = itertools.count(1)

    # -- events ---------------------------------------------------------------------------

    def tell(self, event: Event) -> list[Command]:
        commands = self.machine.handle(event)
        for command in commands:
            if isinstance(command, SubmitMany):
                self.sent += command.runs
        assert self.machine.validate() == []
        return commands

    def starts(self) -> list[Command]:
        return self.tell(RunStarted(self.now, WALL + self.now))

    def header(
        self,
        n: int,
        state: str = "Success",
        *,
        submission: int | None = None,
        execution: int | None = None,
        big: bool = False,
        body: bool = True,
        worker: str = "w1",
        **more: object,
    ) -> Header:
        record = self.record(n)
        run = Submission(record.id, submission or record.submission, record.run_number, 1, (), ())
        if state == "Retrying" and "delay" not in more and "scheduled_time" not in more:
            more["delay"] = 10.0
        has_value = state == "Success"
        return header_of(
            run, state, execution=execution or next(self._executions), worker=worker,
            at=WALL + self.now, started=WALL + self.now if body else None,
            kind=("DataFrame" if big else "int") if has_value else "",
            small=pickle.dumps(n) if has_value and not big else None, more=more,
        )  # fmt: skip

    def ends(self, n: int, state: str = "Success", **how: object) -> list[Command]:
        header = self.header(n, state, **how)  # type: ignore[arg-type]
        return self.hears(header)

    def hears(self, header: Header) -> list[Command]:
        return self.tell(TaskRunEnded(self.now, header.id, header.submission, header))

    def finds_unfinished(self, n: int, upstream: int) -> list[Command]:
        return self.ends(n, "Pending", body=False, waits_for=[upstream, -1])

    def is_silent(self, n: int, submission: int | None = None) -> list[Command]:
        submission = submission or self.record(n).submission
        return self.tell(TaskRunEnded(self.now, (n, -1), submission, None))

    def loses(
        self,
        n: int,
        kind: str = "killed",
        *,
        submission: int | None = None,
        worker: str = "w1",
        text: str = "why",
        starts: int = 1,
        culprit: int | None = None,
        **more: object,
    ) -> list[Command]:
        at_fault = None if culprit is None else (culprit, -1)
        loss = Loss(kind, text, worker, starts, at_fault, more)  # type: ignore[arg-type]
        submission = submission or self.record(n).submission
        return self.tell(TaskRunLost(self.now, (n, -1), submission, loss))

    def begins(
        self,
        n: int,
        worker: str = "w1",
        *,
        execution: int | None = None,
        submission: int | None = None,
    ) -> int:
        """Return the number of the execution."""
        execution = execution or next(self._executions)
        submission = submission or self.record(n).submission
        body = BodyBegan((n, -1), submission, execution, WALL + self.now)
        self.tell(TaskRunsBegan(self.now, (body,), worker))
        return execution

    def removes(
        self, worker: str, runs: Sequence[int] = (), *, expected: bool = False
    ) -> list[Command]:
        keys = tuple((n, -1) for n in runs)
        return self.tell(WorkerRemoved(self.now, worker, expected, keys))

    def loses_value(self, n: int, submission: int | None = None) -> list[Command]:
        submission = submission or self.record(n).submission
        return self.tell(ValueLost(self.now, (n, -1), submission, "lost dependencies"))

    def wakes(self, at: float | None = None) -> list[Command]:
        """Fire the timer: now, or at a time."""
        self.now = self.now if at is None else at
        return self.tell(TimerFired(self.now))

    def is_cancelled(self, reason: str = "cancelled by the user") -> list[Command]:
        return self.tell(CancelAsked(self.now, reason))

    def loses_cluster(self) -> list[Command]:
        return self.tell(ClusterLost(self.now, "no answer"))

    # -- a plan that grows ----------------------------------------------------------------

    def adds(self, upstream: dict[int, tuple[int, ...]], **options: Any) -> list[Command]:
        return self.tell(RunsAdded(self.now, make_runs(upstream, **options)))

    def returns_graph(self, n: int, **how: Any) -> list[Command]:
        """End a body with a graph, which is to be planned."""
        return self.ends(n, "Running", grew=True, outcome="success", **how)

    def grows(
        self,
        n: int,
        upstream: Mapping[int, tuple[int, ...]],
        results: Sequence[int],
        *,
        names: tuple[str, ...] | None = None,
        reference: Sequence[int] | None = None,
        submission: int | None = None,
        map_index: int = -1,
        runs: tuple[PlannedRun, ...] | None = None,
    ) -> list[Command]:
        """Have the graph of a run join, of which some runs have the result."""
        inner = InnerPlan(
            tuple((one, -1) for one in upstream),
            tuple((one, -1) for one in (results if reference is None else reference)),
            tuple((one, -1) for one in results),
            names,
        )
        record = self.machine.records[n, map_index]
        return self.tell(
            Grew(
                self.now,
                record.id,
                submission or record.submission,
                make_runs(upstream) if runs is None else runs,
                inner,
            )
        )

    def cannot_grow(self, n: int, text: str = "ValueError: why", **more: object) -> list[Command]:
        submission = self.record(n).submission
        return self.tell(GrowthFailed(self.now, (n, -1), submission, text, more))

    def is_complete(self) -> list[Command]:
        return self.tell(NoMoreRuns(self.now))

    def ends_elsewhere(self, n: int, header: Header | None) -> list[Command]:
        return self.tell(ForeignEnded(self.now, (n, -1), header))

    def wants(self, *runs: int) -> list[Command]:
        return self.tell(ResultsWanted(self.now, tuple((n, -1) for n in runs)))

    def drops(self, *runs: int) -> list[Command]:
        return self.tell(ResultsDropped(self.now, tuple((n, -1) for n in runs)))

    def cancels(self, *runs: int, reason: str = "not needed") -> list[Command]:
        return self.tell(RunsCancelled(self.now, tuple((n, -1) for n in runs), reason))

    def approves(self, *runs: int) -> list[Command]:
        return self.tell(Approved(self.now, tuple((n, -1) for n in runs)))

    def reads_history(self) -> list[Command]:
        return self.tell(HistoryRead(self.now))

    # -- looking --------------------------------------------------------------------------

    def record(self, n: int) -> TaskRunRecord:
        return self.machine.records[n, -1]

    def phases(self) -> str:
        """Return the first letter of each run's phase: w q s d p f, and F for a foreign one."""
        phases = [record.phase for record in self.machine.records.values()]
        return "".join("F" if phase == "foreign" else phase[0] for phase in phases)

    def states(self) -> list[str]:
        return [record.shown for record in self.machine.records.values()]

    def held(self) -> set[int]:
        return {id[0] for id, record in self.machine.records.items() if record.future}

    def left(self) -> list[int]:
        """Return the runs that are not forgotten."""
        return [id[0] for id in self.machine.records]

    def outcomes(self, n: int) -> list[str]:
        return [attempt.outcome for attempt in self.record(n).attempts()]

    def last_sent(self, n: int) -> Submission:
        return next(run for run in reversed(self.sent) if run.id == (n, -1))

    @property
    def final(self) -> tuple[str, str | None] | None:
        header = self.machine.final
        return None if header is None else (header.state, header.message)


def known(n: int, state: str = "Success", *, big: bool = False, **more: object) -> Header:
    """Return a state that a run had before the story, or has from somebody else."""
    has_value = state == "Success"
    return header_of(
        Submission((n, -1), 1, 1, 1, (), ()), state, execution=9_000_000 + n, worker="w0", at=WALL,
        kind=("DataFrame" if big else "int") if has_value else "",
        small=pickle.dumps(n) if has_value and not big else None, more=more,
    )  # fmt: skip


def sent(commands: Sequence[Command]) -> list[tuple[int, int]]:
    """Return the runs that the commands send, each with its submission number."""
    return [
        (run.id[0], run.submission)
        for command in commands
        if isinstance(command, SubmitMany)
        for run in command.runs
    ]


def released(commands: Sequence[Command]) -> list[int]:
    return sorted(id[0] for c in commands if isinstance(c, Release) for id in c.ids)


def settled(commands: Sequence[Command]) -> list[int]:
    return sorted(id[0] for c in commands if isinstance(c, Settled) for id in c.ids)


def forgotten(commands: Sequence[Command]) -> list[int]:
    return sorted(id[0] for c in commands if isinstance(c, Forget) for id in c.ids)


def notes(commands: Sequence[Command]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Note)]


def hooks(commands: Sequence[Command]) -> list[tuple[int | None, str, str]]:
    return [
        (c.id[0] if c.id else None, c.old.state if c.old else "", c.new.state)
        for c in commands
        if isinstance(c, CallHook)
    ]
