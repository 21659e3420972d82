"""A flow run's shared definition on a worker, opened once."""

from __future__ import annotations

import pickle
import weakref
from typing import Any

from dask_taskrunner.worker.wire import FlowDefinition


class OpenFlow:
    """A flow run's shared definition, unpickled as far as it was needed."""

    def __init__(self, data: bytes) -> None:
        self.definition = FlowDefinition._make(pickle.loads(data))
        self._size = len(data)
        self._context: dict[str, Any] | None = None
        self._tasks: dict[int, Any] = {}

    @property
    def context(self) -> dict[str, Any]:
        """What all task runs have in their context. What opening it raises is the user's, too."""
        if self._context is None:
            self._context = pickle.loads(self.definition.context)
        return self._context

    def task(self, position: int) -> Any:
        """Return a task's definition. What unpickling it raises is the user's to see."""
        if position not in self._tasks:
            self._tasks[position] = pickle.loads(self.definition.tasks[position])
        return self._tasks[position]

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        # To another worker it goes as it came.
        return bytes, (pickle.dumps(tuple(self.definition)),)

    def __sizeof__(self) -> int:
        return self._size


#: What is open in this process, by what it was opened from.
_opened: weakref.WeakValueDictionary[tuple[bytes, bytes], OpenFlow] = weakref.WeakValueDictionary()


def open_flow(definition: list[Any]) -> OpenFlow:
    """Return the opened definition that a list holds, which is put there if need be."""
    # Two threads may both open it; they agree, and one of the two is dropped.
    opened = definition[0]
    if not isinstance(opened, OpenFlow):
        # Of several copies one is opened: what a module of the user's keeps, it keeps once.
        # With the names of modules that were sent along: what refers to one has it as it was then.
        data = bytes(opened), b"".join(definition[1:2])
        found = _opened.get(data)
        if found is None:
            found = _opened[data] = OpenFlow(data[0])
        opened = definition[0] = found
    return opened
