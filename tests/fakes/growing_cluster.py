"""A model cluster whose plan grows, or has runs that are given, foreign or outside.

Besides the machine it knows who holds which result: whoever adds a run holds what that reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Command, Forget, Release, Settled, Submission
from dask_taskrunner.machine.events import (
    ClusterLost,
    Event,
    ForeignEnded,
    HistoryRead,
    NoMoreRuns,
    ResultsDropped,
    ResultsWanted,
    RunsAdded,
    RunsCancelled,
)
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.plans import Plan, PlannedRun
from fakes.model_cluster import ModelCluster, Move
from fakes.model_dask import EPOCH, SimTask
from fakes.model_oracle import Outcome
from fakes.model_states import Script, Value, outcome_of


@dataclass
class GrowingCluster(ModelCluster):
    """A machine, its cluster, and those who add runs and drop results."""

    #: Results that somebody held can be dropped when all is over.
    FOLLOWS_THE_END: ClassVar[tuple[type, ...]] = (Release, Forget)
    #: Runs that come later, in batches.
    batches: list[tuple[PlannedRun, ...]] = field(default_factory=list)
    #: Whose results are never dropped.
    kept_for_good: frozenset[TaskRunId] = frozenset()
    #: True where nothing happens that a script knows nothing of: the values of what is not run here
    #: are not lost, and nothing is cancelled of which others know already what it came to.
    is_exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.runs: dict[TaskRunId, PlannedRun] = {run.id: run for run in self.plan.runs}
        self.handles = Counter({id: 1 for id in self.runs if self.plan.keeps(id)})
        #: What cannot be known from the scripts.
        self.forced: dict[TaskRunId, Outcome | None] = {}
        self.read: list[HistoryEntry] = []
        self.forgotten: set[TaskRunId] = set()
        self.given_up: set[TaskRunId] = set()
        self._is_complete = not self.plan.is_open
        #: Foreign runs that go on elsewhere.
        self._elsewhere: list[TaskRunId] = []

    # -- telling the machine --------------------------------------------------------------

    def start(self) -> None:
        self._arrive(self.plan.runs)
        super().start()

    def tell(self, event: Event) -> list[Command]:
        """Have the machine handle an event, and check who is told of an end."""
        before = {id: record.phase for id, record in self.machine.records.items()}
        commands = super().tell(event)
        records = self.machine.records
        told = [id for command in commands if isinstance(command, Settled) for id in command.ids]
        fresh = {id for id in records.keys() - before.keys() if id not in self.forgotten}
        gone = {id for c in commands if isinstance(c, Forget) for id in c.ids}
        ended = [
            id
            for id in before.keys() | fresh | gone
            if self._planned(id).settles
            and before.get(id) != "finished"
            and (id in gone or records[id].phase == "finished")
        ]
        # Without a cluster nobody is there to be told.
        if not isinstance(event, ClusterLost):
            assert sorted(told) == sorted(ended), f"told of {told}, ended are {ended}"
        self.given_up |= {id for id, record in records.items() if record.by_value is not None}
        return commands

    def _planned(self, id: TaskRunId) -> PlannedRun:
        """Return a run's plan, of a child as well, and of what is forgotten."""
        return self.runs[id] if id in self.runs else self.machine.records[id].plan

    def holds(self, id: TaskRunId) -> bool:
        """Return whether somebody holds a result, or those of all children."""
        return self.handles[id] > 0 or self.handles[id[0], -1] > 0

    def _forget(self, ids: Sequence[TaskRunId]) -> None:
        super()._forget(ids)
        for id in ids:
            assert not self.handles[id], f"{id} was forgotten, and somebody holds it"
            assert id not in self.forgotten, f"{id} was forgotten twice"
            self.forgotten.add(id)

    def _arrive(self, runs: Sequence[PlannedRun]) -> None:
        """Have the futures that come along with new runs."""
        for run in runs:
            if run.role == "given":
                assert run.given is not None
                self._hold(run.id, run.given)
            elif run.role == "foreign":
                self._elsewhere.append(run.id)
            elif run.role == "outside":
                self.forced[run.id] = None

    def _hold(self, id: TaskRunId, header: Header) -> None:
        if header.stands_alone:
            return
        key = (id, 1)
        value = value_elsewhere(id, self.scripts[id])._replace(header=header)
        worker = "elsewhere" if self.is_exact else self.workers[id[0] % 2]
        self.tasks[key] = SimTask(first_send(id), "memory", value, worker, executed=1)
        self.held[id] = 1

    # -- moves ----------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """Return what may happen next by itself, without a fault."""
        moves = super().moves()
        if self.machine.final is None:
            moves += [("end elsewhere", id) for id in self._elsewhere]
            if self.batches:
                moves.append(("add",))
            elif not self._is_complete:
                moves.append(("complete",))
        awaited = {id for batch in self.batches for run in batch for id in run.upstream}
        if self.machine.final is not None:
            awaited = set()
        droppable = self.handles.keys() - awaited - self.kept_for_good
        moves += [("let go", id) for id in sorted(droppable) if self.handles[id]]
        return moves

    def faults(self) -> list[Move]:
        """Return what may go wrong next, or be asked for."""
        if self.machine.final is not None:
            return []
        moves: list[Move] = [("want", id) for id, holders in self.handles.items() if holders]
        moves += [("abandon", id) for id in self._elsewhere]
        moves += [("cancel one", id) for id in self.machine.records]
        moves.append(("read",))
        moves += super().faults()
        return [move for move in moves if not self.is_exact or self._is_exact(move)]

    def _is_exact(self, move: Move) -> bool:
        name, *args = move
        match name, args:
            case "cancel one", [id]:
                # What a mapped run has come to, its children say.
                is_one = self.machine.records[id].length is None
                return is_one and self._cone(id).isdisjoint(self.finals())
            case "vanish" | "execute again", [(id, _)]:
                return self._planned(id).role == "run"
        return True

    def _cone(self, id: TaskRunId) -> set[TaskRunId]:
        """Return what is downstream of a run, with the children that there are."""
        cone = {id, (id[0], -1)}
        for run in self.runs.values():
            if not cone.isdisjoint(run.upstream):
                cone.add(run.id)
                record = self.machine.records.get(run.id)
                length = 0 if record is None else record.length or 0
                cone.update((run.id[0], child) for child in range(length))
        return cone - {id}

    def _do_add(self) -> None:
        batch = self.batches.pop(0)
        self.runs |= {run.id: run for run in batch}
        self.handles.update(run.id for run in batch if self.plan.keeps(run.id))
        self._arrive(batch)
        self.tell(RunsAdded(self.now, batch))

    def _do_complete(self) -> None:
        self._is_complete = True
        self.tell(NoMoreRuns(self.now))

    def _do_end_elsewhere(self, id: TaskRunId) -> None:
        self._elsewhere.remove(id)
        record = self.machine.records.get(id)
        header = value_elsewhere(id, self.scripts[id]).header
        # It may have been cancelled here, and forgotten since.
        if record is not None and record.phase == "foreign":
            self._hold(id, header)
        event = ForeignEnded(self.now, id, header)
        self.tell(event)
        self.news.append(event)

    def _do_abandon(self, id: TaskRunId) -> None:
        self._elsewhere.remove(id)
        record = self.machine.records.get(id)
        if record is not None and record.header is None:
            self.forced[id] = ("Failed", None)
        self.tell(ForeignEnded(self.now, id, None))

    def _do_let_go(self, id: TaskRunId) -> None:
        self.handles[id] -= 1
        self.tell(ResultsDropped(self.now, (id,)))

    def _do_want(self, id: TaskRunId) -> None:
        self.handles[id] += 1
        self.tell(ResultsWanted(self.now, (id,)))

    def _do_cancel_one(self, id: TaskRunId) -> None:
        record = self.machine.records[id]
        if record.header is None and record.plan.role != "outside":
            self.forced[id] = ("Cancelled", None)
        self.tell(RunsCancelled(self.now, (id,), "not needed"))

    def _do_read(self) -> None:
        history = list(self.machine.history)
        self.tell(HistoryRead(self.now))
        if self.plan.is_open:
            self.read += history
            assert not self.machine.history
        else:
            assert self.machine.history == history

    def _do_lose_cluster(self) -> None:
        # What is held at the end of a run, and lost after it, is let go like anything else.
        if self.machine.final is None:
            super()._do_lose_cluster()
        else:
            self.tell(ClusterLost(self.now, "the scheduler is gone"))

    # -- words ----------------------------------------------------------------------------

    @property
    def whole(self) -> Plan:
        """The plan with all that came later."""
        return self.plan._replace(runs=tuple(self.runs.values()))

    @property
    def all_history(self) -> list[HistoryEntry]:
        """The history with what was read and has gone."""
        return [*self.read, *self.machine.history]

    def finals(self) -> dict[TaskRunId, Header]:
        """Return the final states, of what is forgotten as well."""
        return {
            entry.task_run: entry.header
            for entry in self.all_history
            if entry.task_run is not None and entry.header is not None and entry.header.is_finished
        }


def first_send(id: TaskRunId) -> Submission:
    """Return what a run that is not run here was sent with elsewhere."""
    return Submission(id, 1, 1, 1, (), ())


def value_elsewhere(id: TaskRunId, script: Script) -> Value:
    """Return what a run comes to that is not run here."""
    return outcome_of(
        script, first_send(id), [], None,
        execution=900_000_000 + id[0], worker="w0", at=EPOCH, again=False,
    )  # fmt: skip
