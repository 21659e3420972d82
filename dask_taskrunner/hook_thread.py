"""A thread of a flow run's own for what is the user's: state handlers, and loggers.

Calls are made one after the other, in the order in which they were asked for. The thread lives
while there is something to call.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from dask_taskrunner.exceptions import describe

logger = logging.getLogger("dask_taskrunner")


class HookThread:
    """Calls what it is given, in a thread that is started when it is needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()
        self._is_alive = False

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Have a function called that raises nothing."""
        with self._lock:
            self._calls.append((function, args))
            if self._is_alive:
                return
            self._is_alive = True
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:  # The interpreter is ending, and starts no thread any more.
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._is_alive = False
                    return
                function, args = self._calls.popleft()
            try:
                function(*args)
            except BaseException as error:  # Else all that follows would wait for ever.
                logger.error("%s: %s", self._name, describe(error), exc_info=error)
