"""A cluster in this process: bodies run one after the other, in the thread that drives the run.

It keeps the protocol of :mod:`dask_taskrunner.backend`. What a worker hands on to another goes in
its wire form, as on a cluster. It knows no flows.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import math
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, Literal

from dask_taskrunner.backend import (
    NOTHING_FOREIGN,
    Code,
    Constant,
    FlowSpec,
    Foreign,
    RunSpec,
    Shared,
)
from dask_taskrunner.dask_backend.messages import pickle_call
from dask_taskrunner.headers import Header
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Event
from dask_taskrunner.packing import pickle_whole
from dask_taskrunner.testing.faults import Script
from dask_taskrunner.time_limits import Overdue
from dask_taskrunner.times import to_seconds
from dask_taskrunner.worker.envelope import Envelope
from dask_taskrunner.worker.open_flow import OpenFlow
from dask_taskrunner.worker.run_task import run_task
from dask_taskrunner.worker.wire import NARROW, WireState

Post = Callable[[Event], None]
Life = Literal["waiting", "running", "finished"]


class Worker:
    """As much of a Dask worker as the pipeline's surroundings ask for."""

    def __init__(self, address: str, hear: Callable[[list[Any]], None], claims: set[str]) -> None:
        self.address: Final = address
        self.running: list[Task] = []
        self.loop = self
        self._hear = hear
        self._claims = claims
        # The thread that runs bodies is no event loop's.
        self.active_threads: dict[int, object] = {}
        self.scheduler = SimpleNamespace(address="")
        self.thread_id = 0
        self.state = SimpleNamespace(ready=(), executing=(), tasks={})
        self.transfer_incoming_log = ()

    def get_current_task(self) -> None:
        """Return Dask's name of a task: there is none."""

    def log_event(self, topic: str, message: list[Any]) -> None:  # noqa: ARG002
        """Tell the channel, which has the header from the envelope, and tells it when it is due."""
        self._hear(message)

    def claim(self, name: str) -> bool:
        """Return whether nobody has claimed a name before."""
        is_new = name not in self._claims
        self._claims.add(name)
        return is_new

    def add_callback(self, callback: Callable[..., None], *args: Any) -> None:
        """Call something in the event loop, of which there is none."""
        callback(*args)

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:  # noqa: ARG002
        """Call something later, which is now."""
        callback(*args)


class Task:
    """A submission on the cluster."""

    def __init__(self, run: Submission, spec: RunSpec | None, sources: list[Task]) -> None:
        self.run = run
        self.spec = spec
        self.sources = sources
        self.life: Life = "waiting"
        self.value: Any = None
        self.worker: Worker | None = None
        #: Names the execution at hand.
        self.execution = 0
        self.was_killed = False

    @property
    def is_ready(self) -> bool:
        """Whether it can begin."""
        return self.life == "waiting" and all(one.life == "finished" for one in self.sources)

    def handed_to(self, worker: Worker) -> Envelope | WireState:
        """Return what a reader on a worker gets."""
        value: Envelope | WireState = self.value
        return value if self.worker is worker else wire(value)


class Future:
    """One more hold of a task's value, for another run."""

    def __init__(self, task: Task, home: object) -> None:
        self.task = task
        self.home = home


def wire(value: Envelope | WireState) -> WireState:
    """Return what another process makes of an envelope."""
    made: WireState = pickle.loads(pickle.dumps(value, protocol=5))
    return made


class Workers:
    """The workers of one flow run, and whose bodies end when.

    Parameters
    ----------
    number, threads : int
        Of workers, and of bodies at a time on each.
    """

    def __init__(self, number: int, threads: int) -> None:
        self._threads = threads
        self._numbers = itertools.count()
        #: Gets what bodies log.
        self.hear: Callable[[list[Any]], None] = lambda _: None
        self._claims: set[str] = set()
        self.workers = [self._new() for _ in range(number)]
        self._ends: list[tuple[float, int, int, Task]] = []
        self._order = itertools.count(1)

    def _new(self) -> Worker:
        address = f"in-process://{next(self._numbers)}"
        return Worker(address, lambda message: self.hear(message), self._claims)

    @property
    def free(self) -> Worker | None:
        """One that has the fewest bodies, if it may have one more."""
        worker = min(self.workers, key=lambda worker: len(worker.running))
        return worker if len(worker.running) < self._threads else None

    def begin(self, task: Task, worker: Worker, until: float) -> None:
        """Take a place until a time."""
        task.life, task.worker, task.execution = "running", worker, next(self._order)
        worker.running.append(task)
        heapq.heappush(self._ends, (until, next(self._order), task.execution, task))

    def hasten(self, task: Task, until: float) -> None:
        """Have what has taken a place leave it earlier."""
        task.execution = next(self._order)
        heapq.heappush(self._ends, (until, next(self._order), task.execution, task))

    @property
    def next_end(self) -> float | None:
        """When a body ends."""
        while self._ends and self._ends[0][2] != self._ends[0][3].execution:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def end(self) -> Task:
        """Return the task whose body ends next, and free its place."""
        task = heapq.heappop(self._ends)[3]
        assert task.worker is not None
        task.worker.running.remove(task)
        return task

    def kill(self, worker: Worker) -> list[Task]:
        """Put another worker in the place of one, and return what was running there."""
        place = self.workers.index(worker)
        self.workers[place] = self._new()
        for task in worker.running:
            task.execution = 0
        return worker.running


class Executions:
    """Runs the bodies of one flow run by the real pipeline.

    Parameters
    ----------
    spec : FlowSpec
        Of the run.
    script : Script
        What goes wrong.
    """

    def __init__(self, spec: FlowSpec, script: Script) -> None:
        self._run = spec.run
        self._script = script
        self._context = pickle_whole(dict(spec.context))
        #: What several runs share, as it lies on the cluster.
        self._shared: dict[Shared, list[Any]] = {}

    def execute(self, task: Task, before: Task | None, worker: Worker) -> Envelope:
        """Run a task's pipeline, with what it stands behind."""
        run, spec = task.run, task.spec
        assert spec is not None
        row = self._references(task, before, worker)
        cached = spec.cached is not None and not run.loop_from
        call = pickle_call(self._run, run, spec, references=len(row), cached=cached)
        definition = self._content(spec.code)
        error = None if run.expands else self._error(spec, run.run_number)
        if error is not None:
            definition = [_Failing(self._pickled(spec.code), error)]
        references = tuple(row) if len(row) <= NARROW else (row,)
        return run_task(call, definition, references, worker)

    def seconds(self, run: Submission, spec: RunSpec) -> float:
        """Return how long a body takes: no longer than it may."""
        seconds = 0.0 if run.expands else self._script.seconds(spec.slug)
        return min(seconds, self._limit(spec)) if seconds else 0.0

    def _error(self, spec: RunSpec, run_number: int) -> BaseException | None:
        seconds = self._script.seconds(spec.slug)
        if seconds and seconds > (limit := self._limit(spec)):
            return Overdue(limit, "its code was stopped", stopped=True)
        return self._script.error(spec.slug, run_number)

    def _limit(self, spec: RunSpec) -> float:
        timeout = OpenFlow(self._pickled(spec.code)).task(spec.definition).timeout
        return math.inf if timeout is None else to_seconds(timeout)

    def _references(self, task: Task, before: Task | None, worker: Worker) -> list[Any]:
        run, spec = task.run, task.spec
        assert spec is not None
        row: list[Any] = []
        if not run.expands:
            row = [self._content(constant) for constant in spec.constants]
        row += [source.handed_to(worker) for source in task.sources if source is not before]
        if run.loop_from:
            assert before is not None
            row.append(before.handed_to(worker))
        elif isinstance(spec.cached, Constant):
            row.append(self._content(spec.cached))
        elif spec.cached is not None:
            row.append(wire(spec.cached.task.value))
        return row

    def _content(self, shared: Shared) -> list[Any]:
        if shared not in self._shared:
            if isinstance(shared, Constant):
                self._shared[shared] = [(shared.data, [])]
            else:
                assert isinstance(shared, Code)
                self._shared[shared] = [self._pickled(shared)]
        found = self._shared[shared]
        return found

    def _pickled(self, code: Code) -> bytes:
        return pickle.dumps((self._run, "topic", code.tasks, self._context))


class _Failing(OpenFlow):
    """A flow's definition whose tasks raise."""

    def __init__(self, data: bytes, error: BaseException) -> None:
        super().__init__(data)
        self._error = error

    def task(self, position: int) -> Any:
        """Return a task's definition with a body that raises."""
        task = copy.copy(super().task(position))
        error = self._error

        def call(inputs: Any) -> Any:  # noqa: ARG001
            raise error

        task.call = call
        # It raises at once, and here.
        task.timeout = task.isolate = task.memory_limit = None
        return task


def at_virtual_times(header: Header, started: float, seconds: float) -> Header:
    """Return a header as a worker with the virtual clock would have made it."""
    if header.started is None:
        return header._replace(at=started)
    return header._replace(started=started, seconds=seconds, at=started + seconds)


class InProcessBackend:
    """Opens runs in this process.

    Parameters
    ----------
    script : Script
        What goes wrong.
    workers, threads : int
        How many workers each run has, and how many bodies run at a time on each.
    open_channel : callable
        Makes the channel of a run.
    """

    def __init__(
        self, script: Script, workers: int, threads: int, open_channel: Callable[..., Any]
    ) -> None:
        self._script = script
        self._size = (workers, threads)
        self._open_channel = open_channel

    @property
    def place(self) -> object:
        """Itself."""
        return self

    @property
    def foreign(self) -> Foreign:
        """Nothing."""
        return NOTHING_FOREIGN

    def open_run(self, spec: FlowSpec, post: Post) -> Any:
        """Return a new flow run's channel."""
        return self._open_channel(self, spec, post, self._script, Workers(*self._size))

    def share(self, future: Future) -> Future | None:
        """Return one more future of the same state."""
        gone = future.home is not self or future.task.value is None
        return None if gone else Future(future.task, self)

    def is_at_hand(self, future: Future) -> bool:
        """Return whether a state is there, and not being made again because it was lost."""
        return future.task.life == "finished"

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Do nothing: what is too old is found out where it is asked for."""

    def workers(self) -> None:
        """Return nothing: all are alike."""

    def close(self) -> None:
        """Do nothing: everything goes with the process."""
