"""A pure model of Dask's scheduler and workers, as far as the machine can tell the difference.

It follows distributed 2026.8: a key stays while its future is held or a dependent stays; a held or
waited-for value that is lost with its worker is made again without a word; an error is the error
of all that depends on it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.machine.plans import Plan
from fakes.model_states import Script, Value, outcome_of, waits_for

Key: TypeAlias = tuple[TaskRunId, int]
Life: TypeAlias = Literal["waiting", "processing", "memory", "released", "erred", "cancelled"]

#: The wall clock at the model's time 0.
EPOCH: Final = 1_700_000_000.0


@dataclass
class Execution:
    """A body, or what takes its place, on a worker."""

    key: Key
    number: int
    worker: str
    started: float
    value: Value


@dataclass
class SimTask:
    """A key on the scheduler."""

    submission: Submission
    life: Life = "waiting"
    value: Value | None = None
    worker: str = ""
    execution: Execution | None = None
    #: How often a worker died under it.
    suspicious: int = 0
    #: How often it was executed to its end.
    executed: int = 0
    #: Why it is erred or cancelled.
    loss: Loss | None = None

    @property
    def key(self) -> Key:
        return (self.submission.id, self.submission.submission)

    @property
    def upstream_keys(self) -> list[Key]:
        sources = zip(self.submission.upstream_ids, self.submission.upstream, strict=True)
        return [(id, value) for id, value in sources if isinstance(value, int)]


@dataclass
class ModelDask:
    """The keys that the scheduler knows, and the bodies that run."""

    plan: Plan
    scripts: dict[TaskRunId, Script]
    workers: list[str] = field(default_factory=lambda: ["w1", "w2"])
    #: How often a worker may die under a key before that is its error.
    allowed_failures: int = 0
    now: float = 0.0
    tasks: dict[Key, SimTask] = field(default_factory=dict)
    #: The futures of the client: which submission of each task run.
    held: dict[TaskRunId, int] = field(default_factory=dict)
    #: Executions that go on although nobody waits for them any more.
    zombies: list[Execution] = field(default_factory=list)
    #: How often each key was started.
    starts: Counter[Key] = field(default_factory=Counter)

    # -- what Dask does by itself ---------------------------------------------------------

    def _held_task(self, id: TaskRunId) -> SimTask | None:
        submission = self.held.get(id)
        return None if submission is None else self.tasks[id, submission]

    def _settle(self) -> None:
        """Forget what nobody holds, drop values that nobody waits for, and make those wanted."""
        dependents = self._dependents()
        for key in sorted(self.tasks, reverse=True):
            task = self.tasks[key]
            if not self._is_held(task) and not dependents.get(key):
                self._stop(task)
                del self.tasks[key]
                for source in task.upstream_keys:
                    dependents[source].remove(key)
        for key in sorted(self.tasks, reverse=True):
            task = self.tasks[key]
            waiters = [k for k in dependents.get(key, ()) if self._waits(self.tasks[k])]
            wanted = self._is_held(task) or bool(waiters)
            if task.life == "memory" and not wanted:
                task.life, task.value = "released", None
            elif task.life == "released" and wanted:
                task.life = "waiting"
        self._spread_errors()

    def _dependents(self) -> dict[Key, list[Key]]:
        found: dict[Key, list[Key]] = {}
        for key, task in self.tasks.items():
            for source in task.upstream_keys:
                found.setdefault(source, []).append(key)
        return found

    def _spread_errors(self) -> None:
        for key in sorted(self.tasks):
            task = self.tasks[key]
            if self._waits(task):
                for id, submission in task.upstream_keys:
                    source = self.tasks.get((id, submission))
                    if source is None or source.life in ("erred", "cancelled"):
                        self._stop(task)
                        task.life = "erred"
                        task.loss = Loss("upstream", f"upstream {id}", culprit=id)
                        break

    @staticmethod
    def _waits(task: SimTask) -> bool:
        return task.life in ("waiting", "processing")

    def _is_held(self, task: SimTask) -> bool:
        return self.held.get(task.submission.id) == task.submission.submission

    def _stop(self, task: SimTask) -> None:
        """What has not begun never begins; a body that runs cannot be stopped."""
        if task.execution is not None:
            self.zombies.append(task.execution)
            task.execution = None

    def _is_ready(self, task: SimTask) -> bool:
        return task.life == "waiting" and all(
            self.tasks[key].life == "memory" for key in task.upstream_keys
        )

    def _start(self, key: Key) -> None:
        """Let a worker begin with a key."""
        task = self.tasks[key]
        self.starts[key] += 1
        # Where it runs and what it is called is the same in whatever order all else happens.
        (n, map_index), submission = key
        child = map_index + 1
        worker = self.workers[(n + child + submission + self.starts[key]) % len(self.workers)]
        number = (n * 1000 + child) * 1_000_000 + submission * 1000 + self.starts[key]
        value = self._execute(task, number, worker)
        task.life, task.worker = "processing", worker
        task.execution = Execution(key, number, worker, self.now, value)

    def _execute(self, task: SimTask, number: int, worker: str) -> Value:
        run = task.submission
        upstream: list[Value] = []
        for id, source in zip(run.upstream_ids, run.upstream, strict=True):
            if isinstance(source, Header):
                upstream.append(Value.of_header(source))
            else:
                value = self.tasks[id, source].value
                assert value is not None
                upstream.append(value)
        unfinished = waits_for(upstream)
        script = self.scripts[run.id]
        return outcome_of(
            script, run, upstream, unfinished,
            execution=number, worker=worker, at=EPOCH + self.now, again=task.executed > 0,
        )  # fmt: skip

    def _remove_worker(self, worker: str, *, expected: bool) -> list[TaskRunId]:
        """Take a worker away, and return what was assigned to it; another takes its place."""
        self.workers[self.workers.index(worker)] = f"{worker}'"
        self.zombies = [execution for execution in self.zombies if execution.worker != worker]
        assigned: list[TaskRunId] = []
        for task in self.tasks.values():
            if task.worker != worker:
                continue
            if task.life == "processing":
                assigned.append(task.submission.id)
                task.execution = None
                task.life = "waiting"
                task.suspicious += not expected
                if task.suspicious > self.allowed_failures:
                    task.life = "erred"
                    task.loss = Loss("killed", "KilledWorker", worker, self.allowed_failures + 1)
            elif task.life == "memory" and not expected:
                # It is settled next whether anybody wants it again.
                task.life, task.value = "released", None
        return assigned

    def _spoil(self, key: Key, life: Life, loss: Loss) -> None:
        task = self.tasks[key]
        self._stop(task)
        task.life, task.loss, task.value = life, loss, None
