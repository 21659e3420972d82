"""Headers on their way to the client: gathered for a few milliseconds, and sent together.

A worker's stream to the scheduler leaves at most every two milliseconds. A header that went at
once would go alone, just before Dask's own word that the task has finished, and that word would
have to wait: each link of a chain would take two milliseconds more. So where the worker has more to
do, headers gather for a while and follow that word. Where it has not, somebody may be waiting for
this very result: then the header is put beside Dask's word, and both leave in one message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from dask_taskrunner.short_texts import size_on_the_wire
from dask_taskrunner.worker.wire import HEADERS_MESSAGE

if TYPE_CHECKING:
    from distributed import Worker

#: Seconds for which headers gather.
_GATHER: Final = 0.003
#: A message has at most about so many bytes.
_MESSAGE_BYTES: Final = 16_000
#: What a header takes without its long texts.
_PLAIN_BYTES: Final = 300


class Outbox:
    """The headers of this process's workers that have not left yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Worker, str], list[list[Any]]] = {}
        self._lock = threading.Lock()

    def send(
        self, worker: Worker, topic: str, line: list[Any], key: Any, logged: Iterable[list[Any]]
    ) -> None:
        """Send ``run, header`` soon; ``key`` is Dask's, of the task that is about to end.

        What it has logged stands before the header: who hears that it has ended has all of it.
        """
        with self._lock:
            lines = self._waiting.setdefault((worker, topic), [])
            is_first = not lines
            lines += logged
            lines.append(line)
        if is_first:
            worker.loop.add_callback(self._begin, worker, topic, key)

    def _begin(self, worker: Worker, topic: str, key: Any) -> None:
        """Gather, or wait for Dask's own word; called on the worker's event loop."""
        state = worker.state
        if state.ready or len(state.executing) > 1:
            worker.loop.call_later(_GATHER, self._flush, worker, topic)
        else:
            self._follow(worker, topic, key, time.monotonic() + _GATHER)

    def _follow(self, worker: Worker, topic: str, key: Any, latest: float) -> None:
        """Send as soon as Dask has written its word: in the turn of the loop in which it leaves."""
        task = worker.state.tasks.get(key)
        if task is not None and task.state == "executing" and time.monotonic() < latest:
            worker.loop.add_callback(self._follow, worker, topic, key, latest)
        else:
            self._flush(worker, topic)

    def _flush(self, worker: Worker, topic: str) -> None:
        """Send what has gathered; called on the worker's event loop."""
        with self._lock:
            lines = self._waiting.pop((worker, topic))
        message: list[list[Any]] = []
        size = 0
        for line in lines:
            weight = _weight(line)
            if message and size + weight > _MESSAGE_BYTES:
                worker.log_event(topic, [HEADERS_MESSAGE, message])
                message, size = [], 0
            message.append(line)
            size += weight
        worker.log_event(topic, [HEADERS_MESSAGE, message])


def _weight(line: list[Any]) -> int:
    """Return about how many bytes a header takes, or what was logged."""
    if len(line) > 2:
        return _PLAIN_BYTES + sum(size_on_the_wire(logged) for logged in line[2][-1])
    *_, small, more = line[1]
    texts = sum(len(value) for value in more.values() if isinstance(value, (str, bytes)))
    return _PLAIN_BYTES + texts + len(small or b"") + sum(map(len, more.get("inputs", {}).values()))


OUTBOX = Outbox()
