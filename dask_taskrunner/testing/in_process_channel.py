"""One flow run's submissions in this process: what begins when, and what is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_taskrunner.backend import FlowSpec, RunSpec, spec_of
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.logs import Delivery, LogStore, read_group
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import (
    BodyBegan,
    Event,
    Loss,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    WorkerRemoved,
)
from dask_taskrunner.placement import Need
from dask_taskrunner.testing.faults import Script
from dask_taskrunner.testing.in_process import (
    Executions,
    Post,
    Task,
    Worker,
    Workers,
    at_virtual_times,
)
from dask_taskrunner.testing.in_process_results import InProcessResults
from dask_taskrunner.testing.virtual_clock import VirtualClock
from dask_taskrunner.worker.wire import HEADERS_MESSAGE, LINES_MESSAGE


class InProcessChannel(InProcessResults):
    """Keeps the protocol of a channel, and is what the virtual clock waits for.

    Parameters
    ----------
    place : object
        The backend.
    spec : FlowSpec
        The flow run.
    post : callable
        Gets the news.
    script : Script
        What goes wrong.
    workers : Workers
        Where bodies run.
    """

    def __init__(
        self, place: object, spec: FlowSpec, post: Post, script: Script, workers: Workers
    ) -> None:
        super().__init__(place)
        self.clock = VirtualClock(self)
        self.logs = LogStore()
        self.stall_timeout: float | None = None
        self._post = post
        self._script = script
        self._workers = workers
        workers.hear = self._hear
        self._executions = Executions(spec, script)
        self.add(spec.runs)

    # -- the work -------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """Return when something is to be done, or None."""
        with self._changed:
            if self._workers.free is not None and self._next() is not None:
                return self.clock.monotonic()
            return self._workers.next_end

    def step(self) -> None:
        """Begin what can begin, else end what is due."""
        with self._changed:
            task, worker = self._next(), self._workers.free
        if task is not None and worker is not None:
            self._begin(task, worker)
        else:
            self._end(self._workers.end())

    def _next(self) -> Task | None:
        """Return what begins next: what comes first in the flow, among what somebody wants."""
        wanted = {id(task) for key, task in self._tasks.items() if self._held.get(key[0]) == key[1]}
        stack = [task for task in self._tasks.values() if id(task) in wanted]
        while stack:
            task = stack.pop()
            for source in task.sources if task.life == "waiting" else ():
                if id(source) not in wanted:
                    wanted.add(id(source))
                    stack.append(source)
        ready = [task for task in self._tasks.values() if task.is_ready and id(task) in wanted]
        return max(ready, key=lambda task: task.spec.priority if task.spec else 0.0, default=None)

    def _begin(self, task: Task, worker: Worker) -> None:
        run, spec = task.run, task.spec
        assert spec is not None
        seconds = self._executions.seconds(run, spec)
        now, at = self.clock.monotonic(), self.clock.time()
        kills = not (task.was_killed or run.expands) and self._script.kills(spec.slug, run.attempt)
        with self._changed:
            self._workers.begin(task, worker, now + seconds)
        if kills:
            task.was_killed, task.value = True, None
        else:
            before = self._tasks[run.id, run.loop_from] if run.loop_from else None
            envelope = self._executions.execute(task, before, worker)
            envelope.header = at_virtual_times(envelope.header, at, seconds)
            task.value = envelope
            if envelope.header.started is None:
                # What was skipped, or has paused, had no body to take its time.
                with self._changed:
                    self._workers.hasten(task, now)
            if seconds == 0 or envelope.header.started is None:
                return
        line = BodyBegan(run.id, run.submission, self._execution(task), at)
        self._post(TaskRunsBegan(now, (line,), worker.address))

    def _hear(self, message: list[Any]) -> None:
        """Take what a body has logged: alone, or on the way with a header."""
        if message[0] not in (LINES_MESSAGE, HEADERS_MESSAGE):
            return
        for _, *news in message[1]:
            if len(news) == 2:
                self._hear_lines(*read_group(*news))

    def _hear_lines(self, id: TaskRunId, news: Delivery) -> None:
        # A body that takes an hour by the virtual clock has logged at its time.
        at = self.clock.time()
        lines = [(at, level, text) for _, level, text in news.lines]
        is_known = spec_of(self._specs, id) is not None
        self.logs.add(id, news._replace(lines=lines), lambda: is_known)

    @staticmethod
    def _execution(task: Task) -> int:
        return task.execution if task.value is None else task.value.header.execution

    def _end(self, task: Task) -> None:
        if task.value is None:
            self._kill_under(task)
            return
        with self._changed:
            task.life = "finished"
            self._tell(task)
            self._forget()
            self._changed.notify_all()

    def _tell(self, task: Task) -> None:
        header = task.value.header
        self._post(TaskRunEnded(self.clock.monotonic(), header.id, header.submission, header))

    def _kill_under(self, task: Task) -> None:
        """Let the worker die on which a body runs."""
        worker, now = task.worker, self.clock.monotonic()
        assert worker is not None
        with self._changed:
            others = self._workers.kill(worker)
            for one in self._tasks.values():
                if one.worker is worker:
                    one.life, one.value, one.worker = "waiting", None, None
            self._tasks.pop((task.run.id, task.run.submission), None)
        text = f"worker {worker.address} died"
        loss = Loss("killed", text, worker.address)
        self._post(TaskRunLost(now, task.run.id, task.run.submission, loss))
        ids = tuple(one.run.id for one in others)
        self._post(WorkerRemoved(now, worker.address, False, ids))

    # -- the protocol ---------------------------------------------------------------------

    def add(self, runs: Mapping[TaskRunId, RunSpec]) -> None:
        """Take note of task runs that will be submitted later."""
        self._specs.update(runs)
        for id, spec in runs.items():
            if spec.held is not None:
                self.hold(id, spec.held)
            elif spec.wire is not None:
                self._put(id, spec.wire)

    def submit(self, runs: Sequence[Submission]) -> None:
        """Send task runs, each behind its upstream runs."""
        with self._changed:
            for run in runs:
                pairs = zip(run.upstream_ids, run.upstream, strict=True)
                sources = [self._tasks[id, n] for id, n in pairs if isinstance(n, int)]
                if run.loop_from:
                    sources.append(self._tasks[run.id, run.loop_from])
                task = Task(run, spec_of(self._specs, run.id), sources)
                self._tasks[run.id, run.submission] = task
                self._held[run.id] = run.submission

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of futures. What has not started never starts."""
        with self._changed:
            for id in ids:
                self._held.pop(id, None)
            self._forget()
            self._changed.notify_all()

    def _forget(self) -> None:
        """Forget what nobody holds and nothing stands behind."""
        stack = [task for key, task in self._tasks.items() if self._held.get(key[0]) == key[1]]
        needed: set[int] = set()
        while stack:
            task = stack.pop()
            if id(task) not in needed:
                needed.add(id(task))
                # What a finished run was made of must be there to make it again.
                stack += task.sources
        self._tasks = {key: task for key, task in self._tasks.items() if id(task) in needed}

    def settle(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of what only these task runs needed, which have ended."""
        for id in ids:
            if id in self._specs:
                self._specs[id] = self._specs[id]._replace(keeps=())

    def forget(self, ids: Sequence[TaskRunId]) -> None:
        """Forget task runs of which nobody will speak again."""
        for id in ids:
            self._specs.pop(id, None)
        self.logs.forget(ids)

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        """Have the header of a finished future posted."""
        with self._changed:
            task = self._task(id)
            if task is not None and task.run.submission == submission and task.life == "finished":
                self._tell(task)

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:  # noqa: ARG002
        """Return nothing: what is lost was told of at once."""
        return []

    def look(self, timeout: float = 0.0) -> None:
        """Return nothing: here nothing waits for a worker."""

    def need(self, id: TaskRunId, slug: str) -> Need:  # noqa: ARG002
        """Return nothing."""
        return Need(slug, None, None)

    def finish(self) -> None:
        """Send nothing more; bodies that a cancelled run has left end now."""
        with self._changed:
            while self._workers.next_end is not None:
                task = self._workers.end()
                if task.value is not None:
                    task.life = "finished"
                    self._tell(task)
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of everything."""
        self.release(list(self._held))
        self.finish()
