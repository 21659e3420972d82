"""What a runner says of its connection."""

from __future__ import annotations

from typing import Any

from dask_taskrunner.backend import Backend
from dask_taskrunner.dask_backend.connecting import Connection
from dask_taskrunner.observing import OnEvent
from dask_taskrunner.view.progress import Progress


class Connected:
    """The part of :class:`~dask_taskrunner.runner.DaskTaskRunner` that only looks."""

    #: Are told of each change of state.
    _on_event: tuple[OnEvent, ...] = ()

    @property
    def _connection(self) -> Connection:
        """The connection; it is made where that has not been done yet."""
        raise NotImplementedError

    @property
    def _backend(self) -> Backend:
        """The same, as the machine's way to the cluster."""
        raise NotImplementedError

    def _check_open(self) -> None:
        """Raise `RunnerClosed` where the runner is closed."""
        raise NotImplementedError

    @property
    def client(self) -> Any:
        """The Dask client in use."""
        return self._connection.client

    @property
    def cluster(self) -> Any:
        """The cluster object, where it is known."""
        return self._connection.cluster

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self._connection.address

    @property
    def dashboard_link(self) -> str:
        """Where Dask's own dashboard is."""
        return str(self._connection.client.dashboard_link)

    @property
    def where(self) -> str:
        """The cluster, in words."""
        return self._connection.where

    def _shown(self, progress: Progress) -> Progress:
        """Return what was asked for; whoever looks at a worker's terminal asked for nothing."""
        return False if progress is None and self._connection.task_thread is not None else progress
