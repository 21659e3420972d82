"""A connection to a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

from distributed import Client, Future

from dask_taskrunner.backend import FlowSpec
from dask_taskrunner.dask_backend.channel import DaskChannel
from dask_taskrunner.dask_backend.held import BAD
from dask_taskrunner.dask_backend.hub import Hub
from dask_taskrunner.machine.events import Event
from dask_taskrunner.worker.bootstrap import make_bootstraps


class DaskBackend:
    """A Dask client, used for flow runs.

    Parameters
    ----------
    client : distributed.Client
        Connected, and not asynchronous.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._hub = Hub.acquire(client)
        self._bootstraps = make_bootstraps()
        self._closed = False

    @property
    def foreign_types(self) -> tuple[type, ...]:
        """Dask's futures, and its lazy values where anybody has made one."""
        delayed = sys.modules.get("dask.delayed")
        return (Future,) if delayed is None else (Future, delayed.Delayed)

    def open_run(self, spec: FlowSpec, post: Callable[[Event], None]) -> DaskChannel:
        """Return a new flow run's channel; ``post`` gets its news."""
        return DaskChannel(self.client, self._hub, self._bootstraps, spec, post)

    def share(self, future: Any) -> Future[Any] | None:
        """Return one more future of the same key; None where it is gone, or another client's."""
        if not isinstance(future, Future) or future.client is not self.client:
            return None
        return None if future.status in BAD else Future(future.key, self.client)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something on the client's event loop, unless that has ended by then."""
        loop = cast(Any, self.client.loop)
        loop.add_callback(loop.call_later, seconds, call)

    def close(self) -> None:
        """End the subscription."""
        if not self._closed:
            self._closed = True
            self._hub.give_back()
