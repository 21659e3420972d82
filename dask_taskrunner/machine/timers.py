"""When each delayed task run is due, by the client's monotonic clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from dask_taskrunner.headers import TaskRunId


class Timers:
    """The times of one flow run."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, TaskRunId]] = []

    def __contains__(self, id: object) -> bool:
        return any(waiting == id for _, waiting in self._heap)

    @property
    def due_at(self) -> float | None:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else None

    def set(self, id: TaskRunId, due: float) -> None:
        """Have a task run come back at a time."""
        heapq.heappush(self._heap, (due, id))

    def take_due(self, at: float) -> Iterator[TaskRunId]:
        """Yield those whose time has come."""
        while (due := self.due_at) is not None and due <= at:
            yield heapq.heappop(self._heap)[1]

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
