"""When a worker has fetched what its tasks read: from Dask's own log of transfers.

Dask attaches a transfer to one of the tasks that wait for it. What several wait for is here found
for each of them, by the names of what was fetched.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from typing import Any, Final, TypeAlias

#: Of so many fetched results a worker remembers when that was.
_REMEMBERED: Final = 10_000
#: So many transfers of a task are told at most, the last ones.
_TOLD: Final = 8

#: When a transfer began and ended, in epoch seconds by the worker's clock.
Interval: TypeAlias = tuple[float, float]


class _Fetched:
    """What one worker has fetched; its threads may all ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Any = None
        self._when: OrderedDict[Any, Interval] = OrderedDict()

    def of(self, worker: Any, key: Any) -> list[Interval]:
        """Return when the inputs of a task came, those that did."""
        task = worker.state.tasks.get(key)
        if task is None:
            return []
        with self._lock:
            self._read(worker)
            when = self._when
            return sorted({when[one.key] for one in task.dependencies if one.key in when})

    def _read(self, worker: Any) -> None:
        """Take in what is new in the log."""
        for entry in reversed(self._news(worker.transfer_incoming_log)):
            # Dask writes the scheduler's time there.
            start, stop = (entry[name] - worker.scheduler_delay for name in ("start", "stop"))
            for name in entry["keys"]:
                self._when[name] = (start, stop)
                self._when.move_to_end(name)
            self._last = entry
        while len(self._when) > _REMEMBERED:
            self._when.popitem(last=False)

    def _news(self, log: Any) -> list[Any]:
        """Return what has come since the last look, the newest first."""
        news: list[Any] = []
        # It may grow meanwhile: then something is seen twice, and nothing is missed.
        for place in range(1, len(log) + 1):
            entry = log[-place]
            if entry is self._last:
                break
            news.append(entry)
        return news


#: Since when each thread has had no body.
_idle = threading.local()
_workers: weakref.WeakKeyDictionary[Any, _Fetched] = weakref.WeakKeyDictionary()


def fetched(worker: Any, key: Any) -> list[Interval]:
    """Return when the inputs of a task came from other workers, as far as that is known.

    Parameters
    ----------
    worker : distributed.Worker
        Which runs it.
    key : Dask's key
        Of the task.

    Returns
    -------
    list of Interval
        One for each of the last transfers. What had come before this thread was free kept nobody
        waiting, and is left out; what came for other tasks, which read the same, is among them.
    """
    if not worker.transfer_incoming_log:
        return []
    since = getattr(_idle, "since", 0.0)
    known = _workers.get(worker) or _workers.setdefault(worker, _Fetched())
    found = known.of(worker, key)
    return [interval for interval in found if interval[1] > since][-_TOLD:]


def note_end() -> None:
    """Note that this thread is free for another task."""
    _idle.since = time.time()
