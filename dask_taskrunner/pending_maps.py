"""Maps that wait until it is known how long what they map over is. It sends nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from dask_taskrunner.futures_to_come import FuturesToCome
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.task_run_future import TaskRunFuture

#: Sends a map whose lengths are known, and returns its futures.
GoOn: TypeAlias = Callable[[], Sequence[TaskRunFuture[Any]]]


class PendingMaps:
    """Those of one session.

    Parameters
    ----------
    thread : HookThread
        Where they are sent.
    when_none : callable
        Called once, when nothing is pending after the session was closed.
    """

    def __init__(self, thread: HookThread, when_none: Callable[[], None]) -> None:
        self._thread = thread
        self._when_none = when_none
        self._count = 0
        self._is_closed = False
        self._lock = threading.Lock()

    def add(
        self, futures: FuturesToCome[Any], sources: Sequence[TaskRunFuture[Any]], go_on: GoOn
    ) -> None:
        """Have a map sent when its sources have ended."""
        with self._lock:
            self._count += 1
        left = [*sources]
        lock = threading.Lock()

        def one_ended() -> None:
            # Told in a thread that must not be kept.
            with lock:
                left.pop()
                if left:
                    return
            self._thread.call(self._send, futures, go_on)

        for source in sources:
            source._driver.when_ended(source._id, one_ended)

    def _send(self, futures: FuturesToCome[Any], go_on: GoOn) -> None:
        try:
            futures.arrive(go_on())
        except Exception as error:  # noqa: BLE001 (whoever asks for the futures is told)
            futures.fail(error)
        finally:
            with self._lock:
                self._count -= 1
                is_last = self._is_closed and not self._count
            if is_last:
                self._when_none()

    def close(self) -> None:
        """Take note that no map follows."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_last = not self._count
        if is_last:
            self._when_none()
