"""Start reports: which bodies have been running for a while, in one message per worker process.

A view calls a task run "running" exactly when it was reported here. Most bodies end before their
first report and are never spoken of, so a short task costs two dictionary operations.

While bodies run, and no longer, their lines are taken, and sent by the same thread.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from dask_taskrunner.worker.capturing import HOOKS
from dask_taskrunner.worker.lines import LINES
from dask_taskrunner.worker.wire import BEGAN_MESSAGE

if TYPE_CHECKING:
    from distributed import Worker

#: A body is reported when it has run so long.
REPORT_AFTER: Final = 0.05
#: The thread ends when nothing has run for so long.
_IDLE: Final = 1.0


class StartReports:
    """The bodies that run in this process."""

    def __init__(self) -> None:
        #: execution -> (monotonic start, worker, topic, run, line); reported ones leave a None.
        self._bodies: dict[int, tuple[float, Worker, str, str, list[Any]] | None] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def began(self, execution: int, worker: Worker, topic: str, run: str, line: list[Any]) -> None:
        """Take note of a body; ``line`` is ``n, map_index, submission, execution, started``."""
        self._bodies[execution] = (time.monotonic(), worker, topic, run, line)
        if self._thread is None:
            self._start()

    def ended(self, execution: int) -> None:
        """Forget a body."""
        del self._bodies[execution]

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                HOOKS.install()
                self._thread = threading.Thread(
                    target=self._report_for_ever, name="dask-taskrunner-reports", daemon=True
                )
                self._thread.start()

    def _report_for_ever(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(REPORT_AFTER / 2)
            now = time.monotonic()
            if self._is_busy():
                idle_since = now
                self._report(now)
                LINES.send()
            elif now - idle_since > _IDLE and self._has_ended():
                return

    def _has_ended(self) -> bool:
        with self._lock:
            thread, self._thread = self._thread, None
            # In this order: a body that has come since the look above saw this thread alive, and
            # then it is seen here.
            if self._is_busy():
                self._thread = thread
                return False
            HOOKS.uninstall()
            return True

    def _is_busy(self) -> bool:
        # In this order: what a body has logged waits before the body is forgotten here.
        return bool(self._bodies) or not LINES.is_empty

    def _report(self, now: float) -> None:
        lines: dict[tuple[Worker, str, str], list[list[Any]]] = defaultdict(list)
        for execution, body in list(self._bodies.items()):
            if body is None or now - body[0] < REPORT_AFTER:
                continue
            _, worker, topic, run, line = body
            lines[worker, topic, run].append(line)
            # The body may end at this very moment; only its own thread takes it out.
            if execution in self._bodies:
                self._bodies[execution] = None
        for (worker, topic, run), of_run in lines.items():
            worker.log_event(topic, [BEGAN_MESSAGE, run, worker.address, of_run])


START_REPORTS = StartReports()
