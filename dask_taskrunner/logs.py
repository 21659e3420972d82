"""What task runs log, on the client: bounded, and beside the machine's records, for it is no state.

A task run keeps its first and its last lines, whichever of its attempts they are of. The worker's
side bounds what it has not sent yet in the same way. It knows no Dask, and prints nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, overload

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.short_texts import shorten_traceback
from dask_taskrunner.times import utc

#: Of each task run so many bytes of the first lines are kept, and so many of the last ones.
FIRST_BYTES: Final = 16_000
LAST_BYTES: Final = 48_000
#: A short line counts as so many bytes, for it takes no less.
_LEAST_BYTES: Final = 32
#: So many bytes are kept of all task runs of a flow run together; what comes then is dropped.
_MOST_BYTES: Final = 100_000_000
#: What views may ask for of the newest lines of a flow run.
_RECENT: Final = 200
#: What is shown of many lines.
_SHOWN: Final = 10


class Source(NamedTuple):
    """Which execution lines are of."""

    worker: str
    submission: int
    execution: int
    #: The number that the attempt was sent under, where no record says another.
    attempt: int


#: Time in epoch seconds, level, text; and once it has arrived, where it is from.
Line: TypeAlias = tuple[float, int, str]
SourcedLine: TypeAlias = tuple[float, int, str, Source]


def bounded(text: str) -> tuple[str, int]:
    """Return a line's text, cut in its middle where it is very long, and what it counts as."""
    # An exact one, for nothing else travels.
    text = str.__str__(text)
    if not text.isascii() or len(text) > FIRST_BYTES // 2:
        # A message may hold a whole file, of which most is not even looked at.
        text = text if len(text) < 4 * FIRST_BYTES else text[:FIRST_BYTES] + text[-FIRST_BYTES:]
        data = shorten_traceback(text).encode(errors="backslashreplace")
        return data.decode(), max(len(data) + 1, _LEAST_BYTES)
    return text, max(len(text) + 1, _LEAST_BYTES)


class Delivery(NamedTuple):
    """Some lines of one execution, as they come."""

    source: Source
    lines: Sequence[Sequence[Any]]
    #: How many others were dropped, and before which of these.
    dropped: int = 0
    gap: int = 0


def read_group(worker: str, fields: Sequence[Any]) -> tuple[TaskRunId, Delivery]:
    """Return what a worker sends of an execution."""
    n, map_index, submission, execution, attempt, dropped, gap, lines = fields
    return (n, map_index), Delivery(
        Source(worker, submission, execution, attempt), lines, dropped, gap
    )


class KeptLines:
    """The first and the last of what may be very many lines; not safe against other threads.

    Attributes
    ----------
    first, last : deque
        Lines, each with what it counts as.
    dropped : int
        How many lines are gone from between the two.
    """

    __slots__ = ("_first_room", "_last_bytes", "dropped", "first", "last")

    def __init__(self) -> None:
        self.first: deque[tuple[Any, int]] = deque()
        self.last: deque[tuple[Any, int]] = deque()
        self.dropped = 0
        self._first_room = FIRST_BYTES
        self._last_bytes = 0

    @property
    def nbytes(self) -> int:
        """What all that is kept counts as."""
        return FIRST_BYTES - self._first_room + self._last_bytes

    def add(self, line: Any, nbytes: int) -> None:
        """Take a line; the oldest ones of the last go for it."""
        # A shorter line that comes later must not stand before a longer one.
        if nbytes <= self._first_room and not self.last and not self.dropped:
            self._first_room -= nbytes
            self.first.append((line, nbytes))
            return
        self.last.append((line, nbytes))
        self._last_bytes += nbytes
        while self._last_bytes > LAST_BYTES:
            self._last_bytes -= self.last.popleft()[1]
            self.dropped += 1

    def cut(self, dropped: int) -> None:
        """Take in that so many lines are missing here.

        What stands between the first lines and these goes with them: one gap can be shown, and
        lines on both sides of another would look as if they followed each other.
        """
        self.dropped += dropped + len(self.last)
        self.last.clear()
        self._last_bytes = 0


class LogStore:
    """The lines of one flow run, by task run; safe against other threads."""

    def __init__(self) -> None:
        self._kept: dict[TaskRunId, KeptLines] = {}
        self._recent: deque[tuple[TaskRunId, SourcedLine]] = deque(maxlen=_RECENT)
        self._nbytes = 0
        #: How many lines have come.
        self._count = 0
        #: Task runs of which lines were dropped that nobody was told of.
        self._untold: dict[TaskRunId, int] = {}
        self._lock = threading.Lock()

    def add(
        self, id: TaskRunId, news: Delivery, is_known: Callable[[], bool] = lambda: True
    ) -> None:
        """Take lines that have come.

        ``is_known`` says whether anybody may still ask for them: a task run that was forgotten
        does not come back by what was late.
        """
        with self._lock:
            if not is_known():
                return
            kept = self._kept.get(id)
            if kept is None:
                kept = self._kept[id] = KeptLines()
            nbytes, dropped = kept.nbytes, kept.dropped
            for place, (at, level, text) in enumerate(news.lines):
                if news.dropped and place == news.gap:
                    kept.cut(news.dropped)
                self._recent.append((id, (at, level, text, news.source)))
                kept.add((at, level, text, news.source), bounded(text)[1])
            if news.dropped and news.gap == len(news.lines):
                kept.cut(news.dropped)
            self._count += len(news.lines)
            if self._nbytes + kept.nbytes - nbytes > _MOST_BYTES:
                # Of very many task runs the first lines must do.
                kept.cut(0)
            self._nbytes += kept.nbytes - nbytes
            if kept.dropped > dropped:
                self._untold[id] = self._untold.get(id, 0) + kept.dropped - dropped

    def get(self, id: TaskRunId) -> KeptLines | None:
        """Return what is kept of a task run; for :meth:`read`."""
        return self._kept.get(id)

    def read(self, kept: KeptLines | None) -> tuple[list[SourcedLine], int, int]:
        """Return the lines, how many stand before those that were dropped, and how many these are.

        Parameters
        ----------
        kept : KeptLines or None
            As :meth:`get` gave it; it may have been forgotten since.
        """
        if kept is None:
            return [], 0, 0
        with self._lock:
            first = [line for line, _ in kept.first]
            return first + [line for line, _ in kept.last], len(first), kept.dropped

    def forget(self, ids: Iterable[TaskRunId]) -> None:
        """Forget task runs of which nobody will speak again."""
        with self._lock:
            for id in ids:
                kept = self._kept.pop(id, None)
                self._untold.pop(id, None)
                if kept is not None:
                    self._nbytes -= kept.nbytes

    def since(self, count: int) -> tuple[list[tuple[TaskRunId, SourcedLine]], int]:
        """Return the newest of the lines that came after so many, and how many have come by now."""
        with self._lock:
            new = min(self._count - count, len(self._recent))
            return list(self._recent)[len(self._recent) - new :], self._count

    def take_untold(self) -> Mapping[TaskRunId, int]:
        """Return of which task runs how many lines were dropped since this was last asked."""
        with self._lock:
            untold, self._untold = self._untold, {}
            return untold


class LogLine(NamedTuple):
    """One line of what a task run has logged or printed.

    Attributes
    ----------
    time : pendulum.DateTime
        In UTC, by the worker's clock.
    level : int
        As in :mod:`logging`; what was printed has ``INFO``.
    text : str
        The message, and the traceback where one was logged with it.
    attempt : int
        The number of the attempt, as in ``attempts``.
    worker : str
        The worker's address.
    """

    time: Any
    level: int
    text: str
    attempt: int
    worker: str


class Logs(Sequence[LogLine]):
    """What a task run has logged, and printed where ``log_prints`` is set, oldest first.

    ``str(logs)`` is the text.

    Attributes
    ----------
    dropped : int
        How many lines are not here: a task run keeps its first 16 kB and its last 48 kB, and a
        worker sends 64 kB a second.
    """

    def __init__(
        self, lines: Iterable[tuple[float, int, str, int, str]] = (), dropped: int = 0, gap: int = 0
    ) -> None:
        self._lines = tuple(lines)
        self._gap = gap
        self.dropped = dropped

    @overload
    def __getitem__(self, index: int) -> LogLine: ...

    @overload
    def __getitem__(self, index: slice) -> list[LogLine]: ...

    def __getitem__(self, index: int | slice) -> LogLine | list[LogLine]:
        if isinstance(index, slice):
            return [_shown_line(*line) for line in self._lines[index]]
        return _shown_line(*self._lines[index])

    def __len__(self) -> int:
        return len(self._lines)

    def __str__(self) -> str:
        texts = [line[2] for line in self._lines]
        if self.dropped:
            texts.insert(self._gap, f"[... {self.dropped:,} lines dropped ...]")
        return "\n".join(texts)

    def __repr__(self) -> str:
        said = [f"{len(self)} lines" if len(self) != 1 else "1 line"]
        if self.dropped:
            said.append(f"{self.dropped:,} dropped")
        shown = self._lines[-_SHOWN:]
        if len(shown) < len(self):
            said.append(f"the last {len(shown)}")
        lines = [f"  {clock(at)} {level_name(level)} {text}" for at, level, text, *_ in shown]
        return "\n".join([f"<Logs: {', '.join(said)}", *lines]) + ">"


def _shown_line(at: float, level: int, text: str, attempt: int, worker: str) -> LogLine:
    return LogLine(utc(at), level, text, attempt, worker)


def clock(at: float) -> str:
    """Return a time as a line shows it: ``12:00:01``, by the reader's own clock."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def level_name(level: int) -> str:
    """Return what a level is called: ``INFO``."""
    return logging.getLevelName(level)


def logs_of(record: TaskRunRecord, store: LogStore, kept: KeptLines | None) -> Logs:
    """Return what is kept of a task run, each line with the number of its attempt."""
    lines, gap, dropped = store.read(kept)
    numbers: dict[Source, int] = {}
    for *_, source in lines:
        if source not in numbers:
            numbers[source] = _attempt_number(record, source)
    with_numbers = ((at, level, text, numbers[s], s.worker) for at, level, text, s in lines)
    return Logs(with_numbers, dropped, gap)


def logs_of_several(parts: Sequence[Logs]) -> Logs:
    """Return the lines of several task runs by their time, as those of one."""
    lines = sorted((line for part in parts for line in part._lines), key=lambda line: line[0])
    return Logs(lines, sum(part.dropped for part in parts), len(lines))


def _attempt_number(record: TaskRunRecord, source: Source) -> int:
    """Return which of a run's attempts an execution is."""
    executions = [v for v in (*record.values, record.left_running, record.running) if v is not None]
    for number, one in enumerate(executions, start=1):
        # Of one that was lost no word says which execution it was.
        if isinstance(one, Attempt):
            is_it = (one.submission, one.worker) == (source.submission, source.worker)
        else:
            is_it = one.execution == source.execution
        if is_it:
            return number
    return source.attempt
