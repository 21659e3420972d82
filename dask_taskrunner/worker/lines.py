"""What bodies log, on its way to the client: gathered, and sent in few and small messages.

A worker sends at most ten messages and 64 kB of lines a second, whatever its bodies do. What they
log faster is dropped here, and counted: while a body runs, its first 16 kB wait until they are
sent, and of the rest the newest 48 kB. What still waits when it ends goes with its header, as far
as that second has room; so nothing comes later, and no more waits than running bodies have.
Nothing here runs where nothing is logged.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dask_taskrunner.logs import KeptLines, Line, bounded
from dask_taskrunner.worker.capturing import Capture
from dask_taskrunner.worker.wire import LINES_MESSAGE, Call

if TYPE_CHECKING:
    from distributed import Worker

#: Seconds between two messages of a worker.
_MESSAGE_EVERY: Final = 0.1
_MESSAGE_BYTES: Final = 16_000
_BYTES_PER_SECOND: Final = 64_000
#: As much of that is for bodies that go on; the rest is for the last words of those that end.
_LIVE_BYTES_PER_SECOND: Final = 32_000
#: A body that has much to say when it ends leaves so much to those that have less.
_RESERVED_BYTES: Final = 8_000
_FEW_BYTES: Final = 1_000
#: What a line takes besides its text, and a group besides its lines.
_LINE_BYTES: Final = 14
_GROUP_BYTES: Final = 80


class Part(NamedTuple):
    """Some lines of one execution, in their order."""

    first: list[list[Any]]
    #: How many others were dropped between these and those that follow.
    dropped: int
    last: list[list[Any]]
    #: What it takes on the wire.
    nbytes: int


class WaitingLines(KeptLines):
    """Those of one execution that have not left yet."""

    __slots__ = ()

    def take_oldest(self, room: int) -> Part | None:
        """Take out the oldest lines for which there is room."""
        first, left = _pop(self.first, room - _GROUP_BYTES)
        last: list[list[Any]] = []
        dropped = 0
        if not self.first and left >= 0:
            dropped, self.dropped = self.dropped, 0
            last, left = _pop(self.last, left)
            self._last_bytes = sum(nbytes for _, nbytes in self.last)
        return Part(first, dropped, last, room - left) if first or last or dropped else None

    @property
    def wire_bytes(self) -> int:
        """What all of them take on the wire."""
        return _wire_bytes(self.first) + _wire_bytes(self.last)

    def take_all(self, room: int) -> list[Part]:
        """Take out all, a message's worth at a time; where there is no room, drop the middle."""
        room -= _GROUP_BYTES * (room // _MESSAGE_BYTES + 1)
        first, last = _wire_bytes(self.first), _wire_bytes(self.last)
        # The last words say most, and the first ones what they are about.
        while self.first and first > max(room // 4, room - last):
            first -= self.first.pop()[1] + _LINE_BYTES
            self.dropped += 1
        while self.last and last > room - first:
            last -= self.last.popleft()[1] + _LINE_BYTES
            self.dropped += 1
        parts = []
        while (part := self.take_oldest(_MESSAGE_BYTES)) is not None:
            parts.append(part)
        return parts

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to send."""
        return not (self.first or self.last or self.dropped)


def _wire_bytes(lines: deque[tuple[Any, int]]) -> int:
    return sum(nbytes + _LINE_BYTES for _, nbytes in lines)


def _pop(lines: deque[tuple[Any, int]], room: int) -> tuple[list[Any], int]:
    """Take out the oldest lines for which there is room, and return what is left of it."""
    taken = []
    while lines and lines[0][1] + _LINE_BYTES <= room:
        line, nbytes = lines.popleft()
        taken.append(line)
        room -= nbytes + _LINE_BYTES
    return taken, room


class BodyLines:
    """The lines of one execution.

    Parameters
    ----------
    worker : Worker
        Runs it.
    topic : str
        The client's.
    call : Call
        What is executed.
    execution : int
        The execution's own number.
    """

    __slots__ = ("_call", "_execution", "_is_over", "_thread", "_waiting", "topic", "worker")

    def __init__(self, worker: Worker, topic: str, call: Call, execution: int) -> None:
        self.worker = worker
        self.topic = topic
        self._waiting: WaitingLines | None = None
        self._is_over = False
        self._call = call
        self._execution = execution
        self._thread = threading.get_ident()

    @property
    def waiting(self) -> WaitingLines:
        """What has not left yet. Most executions log nothing, and have none."""
        if self._waiting is None:
            self._waiting = WaitingLines()
        return self._waiting

    def around(self, body: Callable[[Any], Any], task: Any) -> Callable[[Any], Any]:
        """Return a body whose lines are taken."""

        def call(inputs: Mapping[str, Any]) -> Any:
            with Capture(task.log_level, self._take, prints=task.log_prints):
                return body(inputs)

        return call

    def _take(self, at: float, level: int, text: str) -> None:
        # What a thread does that was left behind belongs to no attempt.
        if not (self._is_over or self._is_another_task()):
            LINES.put(self, (at, level, text))

    def _is_another_task(self) -> bool:
        """Return whether the calling thread has only inherited the body's context.

        Where a body makes room for another task, Dask begins that one in a copy of its context,
        and what the worker's event loop does because of it is done in a copy, too.
        """
        thread = threading.get_ident()
        if thread == self._thread:
            return False
        running = self.worker.active_threads
        key = running.get(thread)
        return thread == self.worker.thread_id or (
            key is not None and key != running.get(self._thread)
        )

    def group(self, part: Part) -> list[Any]:
        """Return lines as they travel."""
        call = self._call
        source = [call.n, call.map_index, call.submission, self._execution, call.attempt]
        lines = [*part.first, *part.last]
        return [call.run, self.worker.address, [*source, part.dropped, len(part.first), lines]]

    def take_rest(self) -> list[list[Any]]:
        """Return what goes with the header; nothing is taken afterwards."""
        self._is_over = True
        return [] if self._waiting is None else LINES.take_rest(self)


class WorkerLines:
    """The lines of one worker that have not left yet; it has no thread, and is told the time."""

    def __init__(self) -> None:
        #: Those that have something to send, in the order in which they are served.
        self._sources: dict[BodyLines, None] = {}
        #: When how many bytes were sent, within a second.
        self._sent: deque[tuple[float, int]] = deque()
        self._next_at = -math.inf

    @property
    def is_empty(self) -> bool:
        """True where nothing waits."""
        return not self._sources

    def put(self, source: BodyLines, line: Line) -> None:
        """Take a line."""
        self._sources[source] = None
        at, level, text = line
        text, nbytes = bounded(text)
        source.waiting.add([float(at), int(level), text], nbytes)

    def take(self, now: float) -> tuple[str, list[list[Any]]] | None:
        """Return a topic and what is to be sent to it, or None where nothing may be sent yet."""
        if now < self._next_at or not self._sources:
            return None
        topic = next(iter(self._sources)).topic
        room = free = min(self._room(now, _LIVE_BYTES_PER_SECOND), _MESSAGE_BYTES)
        groups: list[list[Any]] = []
        sources = [source for source in self._sources if source.topic == topic]
        for n, source in enumerate(sources):
            # What one does not use of its share is the others'. A long line takes more than one.
            share = room // (len(sources) - n)
            part = source.waiting.take_oldest(share) or source.waiting.take_oldest(room)
            if part is None:
                break
            room -= part.nbytes
            groups.append(source.group(part))
            # The others come first the next time.
            del self._sources[source]
            if not source.waiting.is_empty:
                self._sources[source] = None
        if not groups:
            return None
        self._sent.append((now, free - room))
        self._next_at = now + _MESSAGE_EVERY
        return topic, groups

    def take_rest(self, source: BodyLines, now: float) -> list[list[Any]]:
        """Return what goes with an execution's header."""
        if source not in self._sources:
            return []
        del self._sources[source]
        room = self._room(now, _BYTES_PER_SECOND)
        if source.waiting.wire_bytes > _FEW_BYTES:
            room -= _RESERVED_BYTES
        parts = source.waiting.take_all(room)
        self._sent.append((now, sum(part.nbytes for part in parts)))
        return [source.group(part) for part in parts]

    def _room(self, now: float, per_second: int) -> int:
        """Return how many bytes may be sent now."""
        while self._sent and self._sent[0][0] <= now - 1:
            self._sent.popleft()
        return per_second - sum(nbytes for _, nbytes in self._sent)


class OutgoingLines:
    """Those of all workers of this process; safe against other threads."""

    def __init__(self) -> None:
        # What was sent within a second counts, also where nothing waits.
        self._workers: weakref.WeakKeyDictionary[Worker, WorkerLines] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """True where nothing waits."""
        with self._lock:
            return all(lines.is_empty for lines in self._workers.values())

    def put(self, source: BodyLines, line: Line) -> None:
        """Take a line; it is sent soon, or with the header at the latest."""
        with self._lock:
            lines = self._workers.get(source.worker)
            if lines is None:
                lines = self._workers[source.worker] = WorkerLines()
            lines.put(source, line)

    def take_rest(self, source: BodyLines) -> list[list[Any]]:
        """Return what goes with an execution's header."""
        with self._lock:
            return self._workers[source.worker].take_rest(source, time.monotonic())

    def send(self) -> None:
        """Send what may be sent now; called again and again while anything waits."""
        with self._lock:
            now = time.monotonic()
            taken = [(worker, lines.take(now)) for worker, lines in self._workers.items()]
        for worker, message in taken:
            if message is not None:
                topic, groups = message
                worker.log_event(topic, [LINES_MESSAGE, groups])


LINES: Final = OutgoingLines()
