"""A machine and a model of Dask: no thread, no clock, no chance of its own.

What may happen next is a list of moves, of which a test chooses one: at random, or each in turn.
News is in flight until it is delivered, in any order. After each event it checks what the
rules promise of any sequence of commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import (
    Command,
    FetchHeader,
    Finish,
    Forget,
    Release,
    Submission,
    SubmitMany,
)
from dask_taskrunner.machine.events import (
    BodyBegan,
    CancelAsked,
    ClusterLost,
    Event,
    Loss,
    RunStarted,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    TimerFired,
    ValueLost,
    WorkerRemoved,
)
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.states import Cancelled, Failed
from fakes.mapped_plans import child_plan
from fakes.model_dask import EPOCH, Key, ModelDask, SimTask

Move: TypeAlias = tuple[object, ...]


@dataclass
class ModelCluster(ModelDask):
    """A machine, and the cluster that it thinks it speaks to."""

    news: list[Event] = field(default_factory=list)
    log: list[tuple[Event, list[Command]]] = field(default_factory=list)
    #: Commands that may follow the end.
    FOLLOWS_THE_END: ClassVar[tuple[type, ...]] = ()
    #: Whether to look at everything after each event.
    checks: bool = True

    def __post_init__(self) -> None:
        self.machine = Machine(self.plan)
        self._used: set[Key] = set()
        self._finals: dict[TaskRunId, Header] = {}
        self._finish: Header | None = None

    # -- telling the machine --------------------------------------------------------------

    def start(self) -> None:
        self.tell(RunStarted(self.now, EPOCH))

    def tell(self, event: Event) -> list[Command]:
        """Have the machine handle an event, do what it says, and check what it promises."""
        was_over = self._finish is not None
        commands = self.machine.handle(event)
        self.log.append((event, commands))
        late = [c for c in commands if not isinstance(c, self.FOLLOWS_THE_END)]
        assert not (was_over and late), f"commands after the end: {late}"
        for position, command in enumerate(commands):
            if isinstance(command, SubmitMany):
                self._submit(command.runs)
            elif isinstance(command, Release):
                self._release(command.ids)
            elif isinstance(command, Forget):
                self._forget(command.ids)
            elif isinstance(command, FetchHeader):
                self._fetch(command)
            elif isinstance(command, Finish):
                assert position == len(commands) - 1, "a command follows Finish"
                self._finish = command.header
        self._settle()
        if self.checks:
            self._check()
        return commands

    def _submit(self, runs: Sequence[Submission]) -> None:
        for run in runs:
            key = (run.id, run.submission)
            assert key not in self._used, f"{key} was sent twice"
            self._used.add(key)
            self._check_sources(run)
            for id, value in zip(run.upstream_ids, run.upstream, strict=True):
                if isinstance(value, Header):
                    # A trigger is asked about states alone.
                    is_told = value.is_complete or (run.expands and value.is_successful)
                    assert is_told, f"{run.id}: the value of {id} stayed on the worker"
                    assert value.is_failed or "exception" not in value.more
                else:
                    assert self.held.get(id) == value, f"{run.id} stands behind released {id}"
            self.tasks[key] = SimTask(run)
            self.held[run.id] = run.submission

    def _release(self, ids: Sequence[TaskRunId]) -> None:
        for id in ids:
            assert id in self.held, f"{id} was released, and is not held"
            del self.held[id]

    def _forget(self, ids: Sequence[TaskRunId]) -> None:
        assert self.plan.is_open, "a flow run forgets nothing"
        for id in ids:
            assert id not in self.held, f"{id} was forgotten, and is held"
            assert id not in self.machine.records, f"{id} was forgotten, and is there"

    def _fetch(self, command: FetchHeader) -> None:
        task = self._held_task(command.id)
        assert task is not None
        assert task.key == (command.id, command.submission)
        if task.value is not None:
            self.news.append(self._ended(task.value.header))

    def _check(self) -> None:
        machine = self.machine
        broken = machine.validate()
        assert not broken, broken
        for id, record in machine.records.items():
            assert record.future == (id in self.held) or self._finish is not None, id
            if id in self._finals:
                assert record.header is self._finals[id], f"{id}: a finished state changed"
            elif record.header is not None:
                self._finals[id] = record.header
            numbers = [attempt.number for attempt in record.attempts()]
            assert numbers == list(range(1, len(numbers) + 1))
        needed = self._needed()
        for id, submission in self.held.items():
            if machine.records[id].phase == "finished":
                assert id in needed, f"{id} is held, and nobody needs it"
            if machine.records[id].phase == "submitted":
                for source, sent in self.tasks[id, submission].upstream_keys:
                    assert self.held.get(source) == sent, f"{source} was released under {id}"

    def _check_sources(self, run: Submission) -> None:
        """Check what a run is sent behind against the plan."""
        n, map_index = run.id
        plan = self.machine.records[n, -1].plan
        if map_index >= 0:
            upstream, lists, elements = child_plan(plan, map_index)
        else:
            upstream, lists, elements = plan.upstream, plan.lists, frozenset()
        records, ids, widths = self.machine.records, [], {}
        for position, id in enumerate(upstream):
            family = records[id]
            if run.expands and family.length is not None and position in plan.maps.by_index:
                widths[position] = 0
                continue
            if family.plan.maps is not None:
                # Its state is told by value.
                assert family.phase == "finished", f"{run.id} stands behind all of {id}"
            if family.length is None or position not in lists or run.expands:
                ids.append(id)
            else:
                assert not family.unfinished_children, f"{run.id} is passed all of {id}"
                widths[position] = family.length
                ids += [(id[0], child) for child in range(family.length)]
        assert (run.upstream_ids, run.widths) == (tuple(ids), widths)
        promised = {at: records[upstream[at]].header.more["length"] for at in elements}
        assert run.promised == promised

    def _needed(self) -> set[TaskRunId]:
        """Return the runs whose futures may be held although they have finished."""
        records = self.machine.records
        needed: set[TaskRunId] = set()
        for id, record in records.items():
            header = record.header
            if record.is_held and header is not None and not header.is_complete:
                needed.add(id)
            is_read_again = (
                header is not None
                and issubclass(header.state_class, Failed | Cancelled)
                and not self.plan.is_open
            )
            if record.phase in ("finished", "expanded") and not is_read_again:
                continue
            for position, source in enumerate(record.plan.upstream):
                # The state of a mapped run is told by value.
                is_mapped = source in records and records[source].plan.maps is not None
                if not is_mapped or record.plan.reads_children(position):
                    needed.add(source)
        families = [id for id in needed if id in records and records[id].length is not None]
        for n, _ in families:
            needed |= {(n, child) for child in range(records[n, -1].length)}
        return needed

    # -- moves ----------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """Return what may happen next by itself, without a fault."""
        moves: list[Move] = [("deliver", n) for n in range(len(self.news))]
        for key, task in self.tasks.items():
            if self._is_ready(task):
                moves.append(("start", key))
            elif task.life == "processing":
                moves.append(("end", key))
        moves += [("end zombie", n) for n in range(len(self.zombies))]
        if self.machine.wake_at is not None:
            moves.append(("timer",))
        if self._swept():
            moves.append(("sweep",))
        return moves

    def do(self, move: Move) -> None:
        """Let something happen."""
        name, *args = move
        getattr(self, f"_do_{str(name).replace(' ', '_')}")(*args)
        self._settle()

    def _do_deliver(self, n: int) -> None:
        self.tell(self._as_of_now(self.news.pop(n)))

    def _do_timer(self) -> None:
        wake_at = self.machine.wake_at
        assert wake_at is not None
        self.now = max(self.now, wake_at)
        self.tell(TimerFired(self.now))

    def _do_start(self, key: Key) -> None:
        self.now += 0.01
        self._start(key)

    def _do_end(self, key: Key) -> None:
        task = self.tasks[key]
        execution = task.execution
        assert execution is not None
        self.now += 0.01
        task.life, task.value, task.execution = "memory", execution.value, None
        task.executed += 1
        self.news.append(self._ended(execution.value.header))

    def _do_end_zombie(self, n: int) -> None:
        self.news.append(self._ended(self.zombies.pop(n).value.header))

    def _do_sweep(self) -> None:
        # One look at all of them, before anything follows from it.
        for event in self._swept():
            self.tell(event)

    # -- faults ---------------------------------------------------------------------------

    def faults(self) -> list[Move]:
        """Return what may go wrong next."""
        moves: list[Move] = []
        for n, event in enumerate(self.news):
            moves.append(("double", n))
            if isinstance(event, TaskRunEnded | TaskRunsBegan):
                moves.append(("drop", n))
        for key, task in self.tasks.items():
            if task.execution is not None:
                moves += [("report", key), ("kill under", key), ("report and kill", key)]
        moves += [("kill", worker) for worker in self.workers]
        moves += [("retire", worker) for worker in self.workers]
        for id in self.held:
            task = self._held_task(id)
            assert task is not None
            if task.life in ("memory", "waiting"):
                moves.append(("vanish", task.key))
            if task.life in ("processing", "waiting"):
                moves += [("error", task.key), ("cancel by another", task.key)]
            if task.life == "memory":
                moves.append(("execute again", task.key))
        return moves

    def _do_double(self, n: int) -> None:
        self.news.append(self.news[n])

    def _do_drop(self, n: int) -> None:
        del self.news[n]

    def _do_report(self, key: Key) -> None:
        execution = self.tasks[key].execution
        assert execution is not None
        if execution.value.header.started is not None:
            body = BodyBegan(key[0], key[1], execution.number, EPOCH + execution.started)
            self.news.append(TaskRunsBegan(self.now, (body,), execution.worker))

    def _do_kill_under(self, key: Key) -> None:
        self._remove(self.tasks[key].worker, expected=False)

    def _do_report_and_kill(self, key: Key) -> None:
        reports = len(self.news)
        self._do_report(key)
        for event in self.news[reports:]:
            self.tell(event)
        del self.news[reports:]
        self._do_kill_under(key)

    def _do_kill(self, worker: str) -> None:
        self._remove(worker, expected=False)

    def _do_retire(self, worker: str) -> None:
        self._remove(worker, expected=True)

    def _remove(self, worker: str, *, expected: bool) -> None:
        assigned = self._remove_worker(worker, expected=expected)
        self.news.append(WorkerRemoved(self.now, worker, expected, tuple(assigned)))

    def _do_vanish(self, key: Key) -> None:
        self._spoil(key, "cancelled", Loss("lost", "lost dependencies"))

    def _do_error(self, key: Key) -> None:
        self._spoil(key, "erred", Loss("error", "MemoryError: too much"))

    def _do_cancel_by_another(self, key: Key) -> None:
        self._spoil(key, "cancelled", Loss("cancelled", "client-2 said so"))

    def _do_execute_again(self, key: Key) -> None:
        """The value's only holder has died, and the value is wanted."""
        task = self.tasks[key]
        task.life, task.value = "released", None

    def _do_cancel(self) -> None:
        self.tell(CancelAsked(self.now))

    def _do_lose_cluster(self) -> None:
        self.held.clear()
        self.tell(ClusterLost(self.now, "the scheduler is gone"))

    # -- words ----------------------------------------------------------------------------

    def story(self) -> str:
        """Return all that happened, for a failure's report."""
        lines = [f"{run.slug} <- {run.upstream}: {self.scripts[run.id]}" for run in self.plan.runs]
        for event, commands in self.log:
            lines += [str(event), *(f"    {command}" for command in commands)]
        return "\n".join(lines)

    def _ended(self, header: Header) -> TaskRunEnded:
        return TaskRunEnded(self.now, header.id, header.submission, header)

    def _as_of_now(self, event: Event) -> Event:
        # What is told is stamped when it arrives.
        return event._replace(at=self.now)

    def _swept(self) -> list[Event]:
        """Return what a look at the futures would find."""
        on_their_way = {
            (event.id, event.submission) for event in self.news if isinstance(event, TaskRunEnded)
        }
        events: list[Event] = []
        if self._finish is not None:
            return events
        for id, submission in sorted(self.held.items()):
            task = self.tasks[id, submission]
            awaited = self.machine.records[id].phase == "submitted"
            if task.life == "memory" and awaited and task.key not in on_their_way:
                events.append(TaskRunEnded(self.now, id, submission, None))
            elif task.loss is not None and awaited:
                events.append(TaskRunLost(self.now, id, submission, task.loss))
            elif task.loss is not None:
                events.append(ValueLost(self.now, id, submission, task.loss.text))
        return events
