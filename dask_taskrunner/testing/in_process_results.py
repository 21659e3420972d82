"""What one flow run holds in this process, and how somebody else gets it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from dask_taskrunner.backend import RunSpec, spec_of
from dask_taskrunner.exceptions import ResultNotSerializable, ResultReleased
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.testing.in_process import Future, Task, wire
from dask_taskrunner.worker.envelope import Received, open_result, plain_value, wire_of


class InProcessResults:
    """The reading half of a channel.

    Parameters
    ----------
    place : object
        The backend.
    """

    def __init__(self, place: object) -> None:
        self.place = place
        self._specs: dict[TaskRunId, RunSpec] = {}
        self._tasks: dict[tuple[TaskRunId, int], Task] = {}
        self._held: dict[TaskRunId, int] = {}
        self._changed = threading.Condition(threading.RLock())

    def hold(self, id: TaskRunId, future: Future) -> None:
        """Take over what :meth:`share` of another channel gave as a task run's future."""
        self._put(id, future.task.value)

    def _put(self, id: TaskRunId, value: Any) -> None:
        task = Task(Submission(id, 1, 1, 1, (), ()), None, [])
        task.life, task.value = "finished", value
        with self._changed:
            self._tasks[id, 1], self._held[id] = task, 1

    def _slug(self, id: TaskRunId) -> str:
        spec = spec_of(self._specs, id)
        return f"task run {id[0]}" if spec is None else spec.slug

    def _task(self, id: TaskRunId) -> Task | None:
        submission = self._held.get(id)
        return None if submission is None else self._tasks.get((id, submission))

    def share(self, id: TaskRunId) -> Future | None:
        """Return a future of the state of a task run for somebody else, or None if it is gone."""
        with self._changed:
            task = self._task(id)
            return None if task is None or task.value is None else Future(task, self.place)

    def value_future(self, id: TaskRunId, header: Header) -> Any:
        """Return the plain value of a state: this is no cluster that had futures of its own."""
        source = self.share(id)
        if source is None and not header.is_complete:
            raise ResultReleased(f"the result of {self._slug(id)} was released")
        value = wire_of(header, self._slug(id)) if source is None else wire(source.task.value)
        return plain_value(value)

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        """Return a held value, or a held exception."""
        with self._changed:
            task = self._task(id)
            slug = self._slug(id)
            if task is None:
                raise ResultReleased(
                    f"the result of {slug} was released when its last reader finished; "
                    f"keep it with return_tasks=[{slug!r}]"
                )
            if not self._changed.wait_for(lambda: task.life == "finished", timeout):
                raise TimeoutError
        state = open_result(wire(task.value)).state
        return getattr(state, "exception", None) if state.is_failed() else state.result

    def fetch_many(self, ids: Sequence[TaskRunId], timeout: float | None) -> dict[TaskRunId, Any]:  # noqa: ARG002
        """Return those of the held values that can be had."""
        found = {}
        for id in ids:
            source = self.share(id)
            if source is not None:
                received = Received(wire(source.task.value))
                with contextlib.suppress(ResultNotSerializable):
                    received.open()
                    if received.state.is_successful():
                        found[id] = received.state.result
        return found

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a future of the task run is held."""
        return id in self._held
