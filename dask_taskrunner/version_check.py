"""Has a runner find out whether the workers of its cluster can run what is sent to them."""

from __future__ import annotations

import time
import warnings
from typing import Final

from dask_taskrunner.dask_backend.backend import DaskBackend
from dask_taskrunner.dask_backend.connecting import Connection
from dask_taskrunner.exceptions import ConnectFailed, TaskRunnerWarning
from dask_taskrunner.flow_running import frames_to_the_user

#: Seconds between two questions, where no worker is there yet.
_EVERY: Final = 0.2


class VersionCheck:
    """Is called at connect, and before something is sent; asks until a worker has answered.

    Parameters
    ----------
    connection, backend
        The runner's.
    """

    def __init__(self, connection: Connection, backend: DaskBackend) -> None:
        self._where = connection.where
        self._backend = backend
        # Workers of our own are made of what is installed here; a task's, of what runs the task.
        self._is_over = connection.is_like_here or connection.task_thread is not None
        self._last = -_EVERY

    def __call__(self) -> None:
        """Warn about workers on which nothing of ours can be run.

        Raises
        ------
        ConnectFailed
            There are no others.
        """
        now = time.monotonic()
        if self._is_over or now < self._last + _EVERY:
            return
        self._last = now
        problems = self._backend.version_problems()
        if problems is None:
            return
        self._is_over = True
        if problems.errors:
            raise ConnectFailed(
                f"nothing can be run on {self._where}: {'; '.join(problems.errors)}"
            )
        for text in problems.warnings:
            warnings.warn(text, TaskRunnerWarning, stacklevel=frames_to_the_user())
