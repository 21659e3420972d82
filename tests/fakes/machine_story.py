"""A machine that is told a story, event by event: short words for case tables."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
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
    Rejected,
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

#: A task run's number, and a child's number and index.
Name: TypeAlias = int | tuple[int, int]


def full(name: Name) -> TaskRunId:
    """Return the id of a task run."""
    return name if isinstance(name, tuple) else (name, -1)


def short(id: TaskRunId) -> Name:
    """Return what a task run is called in a story."""
    return id if id[1] >= 0 else id[0]


def short_all(ids: Iterable[TaskRunId]) -> list[Name]:
    return [short(id) for id in sorted(ids)]


class Story:
    """Task runs are called by their numbers, and children by the numbers of parent and child.

    Time passes only where the story says so.
    """

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
        n: Name,
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

    def ends(self, n: Name, state: str = "Success", **how: object) -> list[Command]:
        header = self.header(n, state, **how)  # type: ignore[arg-type]
        return self.hears(header)

    def hears(self, header: Header) -> list[Command]:
        return self.tell(TaskRunEnded(self.now, header.id, header.submission, header))

    def may_expand(self, n: int) -> list[Command]:
        """A worker has asked a mapped run's trigger, and that lets it."""
        return self.ends(n, "Running", body=False, expands=True)

    def end(self, *runs: Name, big: bool = True) -> list[Command]:
        """Several runs succeed; return what the last one leads to."""
        return [self.ends(n, big=big) for n in runs][-1]

    def finds_unfinished(self, n: Name, upstream: Name) -> list[Command]:
        return self.ends(n, "Pending", body=False, waits_for=list(full(upstream)))

    def is_silent(self, n: Name, submission: int | None = None) -> list[Command]:
        submission = submission or self.record(n).submission
        return self.tell(TaskRunEnded(self.now, full(n), submission, None))

    def loses(
        self,
        n: Name,
        kind: str = "killed",
        *,
        submission: int | None = None,
        worker: str = "w1",
        text: str = "why",
        starts: int = 1,
        culprit: Name | None = None,
        **more: object,
    ) -> list[Command]:
        at_fault = None if culprit is None else full(culprit)
        loss = Loss(kind, text, worker, starts, at_fault, more)  # type: ignore[arg-type]
        submission = submission or self.record(n).submission
        return self.tell(TaskRunLost(self.now, full(n), submission, loss))

    def begins(
        self,
        n: Name,
        worker: str = "w1",
        *,
        execution: int | None = None,
        submission: int | None = None,
    ) -> int:
        """Return the number of the execution."""
        execution = execution or next(self._executions)
        submission = submission or self.record(n).submission
        body = BodyBegan(full(n), submission, execution, WALL + self.now)
        self.tell(TaskRunsBegan(self.now, (body,), worker))
        return execution

    def removes(
        self, worker: str, runs: Sequence[Name] = (), *, expected: bool = False
    ) -> list[Command]:
        keys = tuple(map(full, runs))
        return self.tell(WorkerRemoved(self.now, worker, expected, keys))

    def loses_value(self, n: Name, submission: int | None = None) -> list[Command]:
        submission = submission or self.record(n).submission
        return self.tell(ValueLost(self.now, full(n), submission, "lost dependencies"))

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

    def wants(self, *runs: Name) -> list[Command]:
        return self.tell(ResultsWanted(self.now, tuple(map(full, runs))))

    def drops(self, *runs: Name) -> list[Command]:
        return self.tell(ResultsDropped(self.now, tuple(map(full, runs))))

    def cancels(self, *runs: Name, reason: str = "not needed") -> list[Command]:
        return self.tell(RunsCancelled(self.now, tuple(map(full, runs)), reason))

    def approves(self, *runs: Name) -> list[Command]:
        return self.tell(Approved(self.now, tuple(map(full, runs))))

    def rejects(self, *runs: Name) -> list[Command]:
        return self.tell(Rejected(self.now, tuple(map(full, runs))))

    def reads_history(self) -> list[Command]:
        return self.tell(HistoryRead(self.now))

    # -- looking --------------------------------------------------------------------------

    def record(self, n: Name) -> TaskRunRecord:
        return self.machine.records[full(n)]

    def children(self, n: int) -> list[str]:
        """Return what the children of a mapped run show."""
        length = self.record(n).length
        assert length is not None, f"{n} has no children"
        return [self.record((n, child)).shown for child in range(length)]

    def phases(self) -> str:
        """Return the first letter of each run's phase: w q s d p e f, and F for a foreign one."""
        phases = [record.phase for record in self.machine.records.values()]
        return "".join("F" if phase == "foreign" else phase[0] for phase in phases)

    def states(self) -> list[str]:
        return [record.shown for record in self.machine.records.values()]

    def held(self) -> set[Name]:
        return {short(id) for id, record in self.machine.records.items() if record.future}

    def left(self) -> list[Name]:
        """Return the runs that are not forgotten."""
        return [short(id) for id in self.machine.records]

    def outcomes(self, n: Name) -> list[str]:
        return [attempt.outcome for attempt in self.record(n).attempts()]

    def last_sent(self, n: Name) -> Submission:
        return next(run for run in reversed(self.sent) if run.id == full(n))

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


def sent(commands: Sequence[Command]) -> list[tuple[Name, int]]:
    """Return the runs that the commands send, each with its submission number."""
    return [
        (short(run.id), run.submission)
        for command in commands
        if isinstance(command, SubmitMany)
        for run in command.runs
    ]


def released(commands: Sequence[Command]) -> list[Name]:
    return short_all(id for c in commands if isinstance(c, Release) for id in c.ids)


def settled(commands: Sequence[Command]) -> list[Name]:
    return short_all(id for c in commands if isinstance(c, Settled) for id in c.ids)


def forgotten(commands: Sequence[Command]) -> list[Name]:
    return short_all(id for c in commands if isinstance(c, Forget) for id in c.ids)


def notes(commands: Sequence[Command]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Note)]


def hooks(commands: Sequence[Command]) -> list[tuple[Name | None, str, str]]:
    return [
        (short(c.id) if c.id else None, c.old.state if c.old else "", c.new.state)
        for c in commands
        if isinstance(c, CallHook)
    ]
