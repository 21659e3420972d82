"""A cluster in this process: it runs task runs by the real pipeline, in threads, without Dask.

It keeps the protocol of :mod:`dask_taskrunner.backend`, to which the contract test holds it. What a
worker hands on to another goes in its wire form, as on a cluster. What may go wrong, a test says.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from dask_taskrunner import Flow, FlowRun
from dask_taskrunner.backend import Code, Constant, FlowSpec, Foreign, RunSpec, Shared, spec_of
from dask_taskrunner.clocks import REAL_CLOCK
from dask_taskrunner.dask_backend.messages import pickle_call
from dask_taskrunner.exceptions import ResultLost, ResultNotSerializable, ResultReleased
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.launching import launch
from dask_taskrunner.logs import LogStore, read_group
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import (
    BodyBegan,
    ClusterLost,
    Event,
    Loss,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    ValueLost,
    WorkerRemoved,
)
from dask_taskrunner.packing import pickle_whole
from dask_taskrunner.placement import Need, WorkerView
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.worker import run_task as worker_side
from dask_taskrunner.worker.envelope import Envelope, Received, open_result, plain_value, wire_of
from dask_taskrunner.worker.wire import (
    BEGAN_MESSAGE,
    HEADERS_MESSAGE,
    LINES_MESSAGE,
    NARROW,
    WireState,
)
from fakes.gates import eventually

Post = Callable[[Event], None]


class FakeWorker:
    """As much of a Dask worker as the pipeline's surroundings ask for."""

    def __init__(self, address: str, backend: FakeBackend) -> None:
        self.address = address
        self._backend = backend
        self.loop = self
        # All threads of the pool run bodies, and none is an event loop's.
        self.active_threads: dict[int, object] = {}
        self.scheduler = SimpleNamespace(address="")
        self.thread_id = 0
        # It is never busy, and says itself when a task has ended.
        self.state = SimpleNamespace(ready=(), executing=(), tasks={})
        self.transfer_incoming_log = ()

    def get_current_task(self) -> None:
        return None

    def log_event(self, topic: str, message: list[Any]) -> None:
        # What goes through Dask is msgpack's afterwards: no tuples.
        self._backend.receive(message)

    def claim(self, name: str) -> bool:
        is_new = name not in self._backend.claims
        self._backend.claims.add(name)
        return is_new

    def add_callback(self, callback: Callable[..., None], *args: Any) -> None:
        callback(*args)

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        callback(*args)


@dataclass
class FakeTask:
    """A submission on the cluster."""

    run: Submission
    worker: FakeWorker
    life: Literal["waiting", "running", "finished", "lost"] = "waiting"
    value: Any = None
    loss: Loss | None = None
    is_asked_for: bool = False


class FakeFuture:
    """What this cluster calls a future: it has its value at once, or is that of a submission."""

    def __init__(self, value: Any, task: FakeTask | None = None, home: Any = None) -> None:
        self._value = value
        self.task = task
        #: The backend that made it.
        self.home = home

    @property
    def value(self) -> Any:
        task = self.task
        if task is None:
            return self._value
        # A header comes before its future is finished.
        eventually(lambda: task.value is not None or self.is_gone)
        return task.value

    @property
    def is_gone(self) -> bool:
        return self.task is not None and self.task.life == "lost"


class FakeBackend:
    """A cluster of threads.

    Parameters
    ----------
    threads : int
        How many task runs it runs at a time; with one, in the order in which they become ready.
    """

    def __init__(self, threads: int = 2) -> None:
        self.workers = [FakeWorker(f"fake://{n}", self) for n in range(threads)]
        self.pool = ThreadPoolExecutor(threads, "fake-worker", initializer=self._on_thread)
        self.channels: dict[str, FakeChannel] = {}
        #: A run whose headers are swallowed must be asked for them.
        self.is_silent = False
        self.claims: set[str] = set()
        #: What is said of the workers, and how long a run may stand still.
        self.views: list[WorkerView] | None = None
        self.stall_timeout: float | None = None
        #: What was lost, and is being made again.
        self.late: list[FakeTask | None] = []
        #: What was asked to be called, and in how many seconds.
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self._free = list(self.workers)
        self._here = threading.local()

    def _on_thread(self) -> None:
        self._here.worker = self._free.pop()

    @property
    def worker_here(self) -> FakeWorker:
        worker: FakeWorker = self._here.worker
        return worker

    def install(self, monkeypatch: Any) -> None:
        """Let the pipeline's surroundings find these workers instead of Dask's."""
        monkeypatch.setattr(worker_side, "get_worker", lambda: self.worker_here)

    @property
    def place(self) -> object:
        return self

    @property
    def foreign(self) -> Foreign:
        return Foreign((FakeFuture,))

    def open_run(self, spec: FlowSpec, post: Post) -> FakeChannel:
        channel = self.channels[spec.run] = FakeChannel(self, spec, post)
        return channel

    def share(self, future: FakeFuture) -> FakeFuture | None:
        if future.home is not self or future.is_gone:
            return None
        return FakeFuture(None, future.task, self)

    def is_at_hand(self, future: FakeFuture) -> bool:
        return future.task not in self.late

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((seconds, call))

    def workers(self) -> list[WorkerView] | None:
        return self.views

    def close(self) -> None:
        for channel in list(self.channels.values()):
            channel.close()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def receive(self, message: list[Any]) -> None:
        if message[0] == HEADERS_MESSAGE:
            for run, *news in message[1]:
                if len(news) == 2:
                    self._hear_lines(run, *news)
                elif not self.is_silent and run in self.channels:
                    self.channels[run].hear(Header.from_wire(news[0]))
        elif message[0] == LINES_MESSAGE:
            for run, *news in message[1]:
                self._hear_lines(run, *news)
        elif message[0] == BEGAN_MESSAGE:
            _, run, address, bodies = message
            if run in self.channels:
                self.channels[run].hear_began(address, bodies)

    def _hear_lines(self, run: str, address: str, fields: list[Any]) -> None:
        if run in self.channels:
            self.channels[run].hear_lines(address, fields)


class FakeChannel:
    """One flow run's submissions."""

    clock = REAL_CLOCK

    def __init__(self, backend: FakeBackend, spec: FlowSpec, post: Post) -> None:
        self._backend = backend
        self._spec = spec
        self._post = post
        self._specs: dict[TaskRunId, RunSpec] = {}
        self._context = pickle_whole(dict(spec.context))
        self.logs = LogStore()
        self.stall_timeout = backend.stall_timeout
        #: What several runs share, as it lies on the cluster, and who needs it still.
        self.shared: dict[Shared, list[Any]] = {}
        self.users: dict[Shared, set[TaskRunId]] = {}
        self._tasks: dict[tuple[TaskRunId, int], FakeTask] = {}
        self._held: dict[TaskRunId, int] = {}
        self.forgotten: list[TaskRunId] = []
        self._loops: dict[TaskRunId, FakeTask] = {}
        self._changed = threading.Condition(threading.RLock())
        self._events: list[Event] = []
        self.submitted: list[Submission] = []
        self.is_finished = False
        #: Raised by the next call of a method, by its name.
        self.errors: dict[str, Exception] = {}
        self.add(spec.runs)

    # -- the protocol ---------------------------------------------------------------------

    @property
    def place(self) -> object:
        return self._backend

    def add(self, runs: Mapping[TaskRunId, RunSpec]) -> None:
        self._specs.update(runs)
        for id, spec in runs.items():
            if spec.held is not None:
                self.hold(id, spec.held)
            elif spec.wire is not None:
                self.hold(id, FakeFuture(spec.wire))

    def hold(self, id: TaskRunId, future: FakeFuture) -> None:
        with self._changed:
            run = Submission(id, 1, 1, 1, (), ())
            task = FakeTask(run, self._backend.workers[0], "finished", future.value)
            self._tasks[id, 1] = task
            self._held[id] = 1

    def share(self, id: TaskRunId) -> FakeFuture | None:
        with self._changed:
            task = self._task(id)
            if task is None or task.life == "lost":
                return None
            return FakeFuture(None, task, self._backend)

    def value_future(self, id: TaskRunId, header: Header) -> FakeFuture:
        source = self.share(id)
        if source is None and not header.is_complete:
            raise ResultReleased(f"the result of {self._slug(id)} was released")
        wire = wire_of(header, self._slug(id)) if source is None else _wire(source.value)
        return FakeFuture(plain_value(wire))

    def _slug(self, id: TaskRunId) -> str:
        spec = spec_of(self._specs, id)
        return f"task run {id[0]}" if spec is None else spec.slug

    def fetch_many(self, ids: Sequence[TaskRunId], timeout: float | None) -> dict[TaskRunId, Any]:
        found = {}
        for id in ids:
            task = self._task(id)
            if task is not None and task.value is not None:
                received = Received(_wire(task.value))
                with contextlib.suppress(ResultNotSerializable):
                    received.open()
                    if received.state.is_successful():
                        found[id] = received.state.result
        return found

    def settle(self, ids: Sequence[TaskRunId]) -> None:
        for id in ids:
            self._loops.pop(id, None)
            for shared in self._needs(id):
                # One that was cancelled before it was sent needed nothing yet.
                self.users.setdefault(shared, set()).discard(id)
            if id in self._specs:
                self._specs[id] = self._specs[id]._replace(keeps=())

    def forget(self, ids: Sequence[TaskRunId]) -> None:
        for id in ids:
            self._specs.pop(id, None)
        self.logs.forget(ids)
        self.forgotten += ids

    def _spec_of(self, id: TaskRunId) -> RunSpec:
        spec = spec_of(self._specs, id)
        assert spec is not None
        return spec

    def _needs(self, id: TaskRunId) -> tuple[Shared, ...]:
        spec = self._spec_of(id)
        large = (spec.cached,) if isinstance(spec.cached, Constant) else ()
        return (spec.code, *spec.constants, *large)

    def submit(self, runs: Sequence[Submission]) -> None:
        self._may_fail("submit")
        with self._changed:
            for run in runs:
                if run.loop_from and (run.id, run.loop_from) in self._tasks:
                    self._loops[run.id] = self._tasks[run.id, run.loop_from]
                worker = self._backend.workers[run.id[0] % len(self._backend.workers)]
                self._tasks[run.id, run.submission] = FakeTask(run, worker)
                self._held[run.id] = run.submission
                self.submitted.append(run)
            self._start_ready()

    def release(self, ids: Sequence[TaskRunId]) -> None:
        self._may_fail("release")
        with self._changed:
            for id in ids:
                self._held.pop(id, None)
            self._forget()

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        with self._changed:
            task = self._task(id)
            if task is None or task.run.submission != submission:
                return
            # As with Dask, who asks stands behind the value and gets the answer when it is there.
            task.is_asked_for = task.value is None
            if task.value is not None:
                self.hear(task.value.header)

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        with self._changed:
            task = self._task(id)
            slug = self._slug(id)
            if task is None:
                raise ResultReleased(
                    f"the result of {slug} was released when its last reader finished; "
                    f"keep it with return_tasks=[{slug!r}]"
                )
            if not self._changed.wait_for(lambda: task.life in ("finished", "lost"), timeout):
                raise TimeoutError
        if task.value is None:
            raise ResultLost(f"the result of {slug} is gone: {task.loss and task.loss.text}")
        state = open_result(_wire(task.value)).state
        return getattr(state, "exception", None) if state.is_failed() else state.result

    def holds(self, id: TaskRunId) -> bool:
        return id in self._held

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:
        self._may_fail("sweep")
        at = time.monotonic()
        with self._changed:
            events, self._events = self._events, []
            for id, submission in sorted(self._held.items()):
                task = self._tasks[id, submission]
                if task.life == "finished" and awaited(id):
                    events.append(TaskRunEnded(at, id, submission, None))
                elif task.loss is not None and awaited(id):
                    events.append(TaskRunLost(at, id, submission, task.loss))
                elif task.loss is not None:
                    events.append(ValueLost(at, id, submission, task.loss.text))
        return events

    def look(self, timeout: float = 0.0) -> list[WorkerView] | None:
        return self._backend.views

    def need(self, id: TaskRunId, slug: str) -> Need:
        spec = self._spec_of(id)
        resources = None if callable(spec.resources) else spec.resources
        return Need(slug, resources, spec.workers)

    def finish(self) -> None:
        self._may_fail("finish")
        self.is_finished = True

    def close(self) -> None:
        self.release(list(self._held))
        self.finish()
        self._backend.channels.pop(self._spec.run, None)

    # -- faults ---------------------------------------------------------------------------

    def lose(self, id: TaskRunId, loss: Loss) -> None:
        """End a future without a state; whatever stands behind it goes along."""
        with self._changed:
            task = self._task(id)
            assert task is not None
            self._end_badly(task, loss)

    def post(self, event: Event) -> None:
        """Have an event come with the next sweep."""
        with self._changed:
            self._events.append(event)

    def lose_cluster(self) -> None:
        self.post(ClusterLost(time.monotonic(), "the fake went away"))

    def remove_worker(self, address: str, ids: Sequence[TaskRunId]) -> None:
        self.post(WorkerRemoved(time.monotonic(), address, False, tuple(ids)))

    def execute_again(self, id: TaskRunId) -> None:
        """Have a finished submission executed once more, as after the loss of its value."""
        with self._changed:
            task = self._task(id)
            assert task is not None
            task.life, task.value = "waiting", None
            self._start_ready()

    def _may_fail(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]

    # -- running --------------------------------------------------------------------------

    def _task(self, id: TaskRunId) -> FakeTask | None:
        submission = self._held.get(id)
        return None if submission is None else self._tasks[id, submission]

    def _upstream(self, run: Submission) -> list[FakeTask]:
        sources = zip(run.upstream_ids, run.upstream, strict=True)
        return [self._tasks[id, value] for id, value in sources if isinstance(value, int)]

    def _start_ready(self) -> None:
        for task in self._tasks.values():
            # A header comes before its future is finished: the iteration before may be on its way.
            before = [self._loops[id] for id in (task.run.id,) if id in self._loops]
            if task.life == "waiting" and all(
                source.life == "finished" for source in (*self._upstream(task.run), *before)
            ):
                task.life = "running"
                self._backend.pool.submit(self._execute, task)

    def _execute(self, task: FakeTask) -> None:
        with self._changed:
            if self._tasks.get((task.run.id, task.run.submission)) is not task:
                return  # released before it had begun
            task.worker = self._backend.worker_here
            definition, row = self._references(task)
            spec = self._spec_of(task.run.id)
            cached = self._begins_with(spec) is not None and not task.run.loop_from
            call = pickle_call(self._spec.run, task.run, spec, references=len(row), cached=cached)
        value = worker_side.run_task(call, definition, row if len(row) <= NARROW else (list(row),))
        with self._changed:
            if task.life == "running":
                task.life, task.value = "finished", value
                if task.is_asked_for:
                    self.hear(value.header)
            if self._tasks.get((task.run.id, task.run.submission)) is task:
                self._start_ready()
            self._changed.notify_all()

    def _references(self, task: FakeTask) -> tuple[list[Any], tuple[Any, ...]]:
        """Return what a run stands behind."""
        spec = self._spec_of(task.run.id)
        for shared in self._needs(task.run.id):
            self.users.setdefault(shared, set()).add(task.run.id)
            if shared not in self.shared:
                self.shared[shared] = [self._content(shared)]
        row = [] if task.run.expands else [self.shared[constant] for constant in spec.constants]
        if spec.foreign is not None:
            return self.shared[spec.code], (*row, spec.foreign.value)
        row += [_handed_to(task.worker, source) for source in self._upstream(task.run)]
        if task.run.loop_from:
            before = self._loops[task.run.id]
            row.append(_handed_to(task.worker, before))
        elif (first := self._begins_with(spec)) is not None:
            row.append(first)
        return self.shared[spec.code], tuple(row)

    def _begins_with(self, spec: RunSpec) -> Any:
        """Return what a run begins with, where that does not travel with it."""
        if isinstance(spec.cached, Constant):
            return self.shared[spec.cached]
        return None if spec.cached is None or spec.cached.is_gone else _wire(spec.cached.value)

    def _content(self, shared: Shared) -> Any:
        if isinstance(shared, Constant):
            return (shared.data, [])
        assert isinstance(shared, Code)
        return pickle.dumps((self._spec.run, "topic", shared.tasks, self._context))

    def _end_badly(self, task: FakeTask, loss: Loss) -> None:
        task.life, task.loss, task.value = "lost", loss, None
        for reader in self._tasks.values():
            if reader.life in ("waiting", "running") and task in self._upstream(reader.run):
                self._end_badly(reader, Loss("upstream", loss.text, culprit=task.run.id))
        self._changed.notify_all()

    def _forget(self) -> None:
        """Forget what nobody holds and nothing stands behind."""
        held = [task for key, task in self._tasks.items() if self._held.get(key[0]) == key[1]]
        needed: set[int] = set()
        # What a run has grown to comes behind those that read it.
        while held:
            task = held.pop()
            if id(task) not in needed:
                needed.add(id(task))
                held += self._upstream(task.run)
        self._tasks = {key: task for key, task in self._tasks.items() if id(task) in needed}

    # -- news -----------------------------------------------------------------------------

    def hear(self, header: Header) -> None:
        self._post(TaskRunEnded(time.monotonic(), header.id, header.submission, header))

    def hear_began(self, address: str, bodies: list[list[Any]]) -> None:
        lines = tuple(BodyBegan((n, i), *line) for n, i, *line in bodies)
        self._post(TaskRunsBegan(time.monotonic(), lines, address))

    def hear_lines(self, address: str, fields: list[Any]) -> None:
        id, lines = read_group(address, fields)
        self.logs.add(id, lines, lambda: spec_of(self._specs, id) is not None)


def _handed_to(worker: FakeWorker, source: FakeTask) -> Envelope | WireState:
    assert source.value is not None
    return source.value if source.worker is worker else _wire(source.value)


def _wire(value: Envelope | WireState) -> WireState:
    """Return what another process makes of an envelope."""
    wire: WireState = pickle.loads(pickle.dumps(value, protocol=5))
    return wire


def launched(backend: FakeBackend, flow: Flow, **options: Any) -> FlowRun:
    """Start a flow there, as a runner would."""
    defaults: dict[str, Any] = {
        "parameters": {},
        "run_name": "nightly",
        "return_tasks": None,
        "context": {},
        "keep": "reference",
        "task_defaults": {},
        "max_constant_bytes": 1_000_000_000,
        "check": lambda plan: None,
        "cache": ResultCache(backend),
    }
    return launch(flow, backend, **(defaults | options))
