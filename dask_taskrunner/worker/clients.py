"""The Dask client that a task may use, and the leave that a task takes of its worker meanwhile.

A task that waits for others of its own cluster may wait for its own place: on a worker with one
thread nothing else would ever run. So it gives up its place in the worker's pool of threads, and
asks for one again at the end.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from distributed import Client, get_worker, rejoin, secede
from distributed import get_client as _get_client

from dask_taskrunner.time_limits import by_waiting_thread, is_overdue


def get_client() -> Client:
    """Return a Dask client of the cluster that the calling task runs on.

    Raises
    ------
    ValueError
        No task is calling, and there is no current client either.
    """
    return _get_client(_scheduler.get("address"))


#: The address of the scheduler, where this process was started for one isolated body.
_scheduler: dict[str, str] = {}


def set_scheduler(address: str) -> None:
    """Have this process's body connect there, if it asks for a client."""
    _scheduler["address"] = address


def is_inside_task() -> bool:
    """Whether the calling thread runs a Dask task, ours or anybody's."""
    try:
        get_worker()
    except ValueError:
        return False
    return True


def task_scheduler() -> str:
    """Return the address of the scheduler that sent the calling task."""
    return str(get_worker().scheduler.address)


class _Leave:
    """The leave that one task has taken of its worker's pool, for as many reasons as it has."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.reasons = 0
        self._has_left = False
        # Where the task's own code has made room already, there is nothing to give back either;
        # and in a thread that a task has started there never was.
        with contextlib.suppress(KeyError, AttributeError):
            secede()
            self._has_left = True

    def end(self) -> None:
        """Wait for a place in the pool."""
        if self._has_left:
            rejoin()


#: The leave of the task that this thread runs.
_own = threading.local()


def take_leave() -> Callable[[], None]:
    """Give up the calling task's place in its worker's pool, and return what ends that.

    Several leaves may overlap: with the end of the last one, the task waits for a place. Dask's
    `worker_client` does the same as a block; but a block that is never left, and then collected,
    would have whichever task is running then wait for a second place, for ever.
    """
    leave: Callable[[], None] = by_waiting_thread(_take_leave)

    def end() -> None:
        # A task that has timed out meanwhile has nothing to give back.
        if not is_overdue():
            by_waiting_thread(leave)

    return end


def _take_leave() -> Callable[[], None]:
    leave = _leave_of(_task_key())
    leave.reasons += 1

    def end() -> None:
        # A garbage collector may call it in any thread, and none can take a place for another. It
        # need not: a thread without a place ends with its task.
        if getattr(_own, "leave", None) is not leave:
            return
        leave.reasons -= 1
        if not leave.reasons:
            _own.leave = None
            leave.end()

    return end


def _leave_of(key: object) -> _Leave:
    leave: _Leave | None = getattr(_own, "leave", None)
    # An earlier task of this thread may never have ended its own.
    if leave is None or leave.key != key:
        leave = _own.leave = _Leave(key)
    return leave


def _task_key() -> object:
    try:
        return get_worker().get_current_task()
    except AttributeError:
        return None
