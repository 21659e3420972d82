"""The futures of a map whose length is not known yet: they come when it is. It sends nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from dask_taskrunner.task_run_future import Missing, TaskRunFuture, TaskRunFutures, time_left

R_co = TypeVar("R_co", covariant=True)

#: Seconds that what was cancelled is given to be heard of.
_PATIENCE: Final = 5.0


class FuturesToCome(TaskRunFutures[R_co]):
    """The futures of many calls; whoever asks how many there are waits until that is known.

    What cannot be mapped over is an error of whatever asks for them.

    Parameters
    ----------
    name : str
        What the calls are called.
    sources : sequence of TaskRunFuture
        What tells the lengths.
    """

    def __init__(self, name: str, sources: Sequence[TaskRunFuture[Any]]) -> None:
        super().__init__((), name)
        self._sources = tuple(sources)
        self._have_come = threading.Event()
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._is_dropped = False

    @property
    def _futures(self) -> list[TaskRunFuture[R_co]]:
        self._wait(None)
        return self._made

    def _wait(self, timeout: float | None) -> None:
        if not self._have_come.wait(timeout):
            raise TimeoutError(f"the length of {self.name} is not known after {timeout} s")
        if self._error is not None:
            raise self._error

    def arrive(self, futures: Sequence[TaskRunFuture[R_co]]) -> None:
        """Take in the futures."""
        with self._lock:
            self._made = list(futures)
            self._end()
        if self._is_dropped:
            super().release()

    def fail(self, error: Exception) -> None:
        """Take in why there are none."""
        with self._lock:
            self._error = error
            self._end()

    def _end(self) -> None:
        self._sources = ()
        self._have_come.set()

    def results(self, missing: Missing = "raise", timeout: float | None = None) -> list[R_co]:
        """Return the results in index order; see :meth:`TaskRunFutures.results`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait(timeout)
        return super().results(missing, time_left(deadline))

    @property
    def counts(self) -> dict[str, int]:
        """How many of the runs show which state; none while it is not known how many there are."""
        return super().counts if self._is_known else {}

    def cancel(self) -> None:
        """Cancel all that have not ended, and those that would come."""
        for source in self._sources:
            source.cancel()
        if self._have_come.wait(_PATIENCE) and self._error is None:
            super().cancel()

    def release(self) -> None:
        """Let the cluster forget all results, also those that would come."""
        with self._lock:
            self._is_dropped = True
        if self._is_known:
            super().release()

    @property
    def _is_known(self) -> bool:
        return self._have_come.is_set() and self._error is None

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<TaskRunFutures {self.name}: none, {type(self._error).__name__}>"
        if not self._is_known:
            return f"<TaskRunFutures {self.name}: length not known yet>"
        return super().__repr__()
