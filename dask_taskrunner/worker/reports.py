"""Start reports: which bodies have been running for a while, in one message per worker process.

A view calls a task run "running" exactly when it was reported here. Most bodies end before their
first report and are never spoken of, so a short task costs two dictionary operations.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

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
                self._thread = threading.Thread(
                    target=self._report_for_ever, name="dask-taskrunner-reports", daemon=True
                )
                self._thread.start()

    def _report_for_ever(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(REPORT_AFTER / 2)
            now = time.monotonic()
            if self._bodies:
                idle_since = now
                self._report(now)
            elif now - idle_since > _IDLE:
                with self._lock:
                    # A body may have come since the look above: its thread saw this one alive.
                    if not self._bodies:
                        self._thread = None
                        return

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
