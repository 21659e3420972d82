"""A connection to a Dask cluster."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Final, cast

from distributed import Client, Future

from dask_taskrunner.backend import FlowSpec, Foreign
from dask_taskrunner.dask_backend.channel import DaskChannel
from dask_taskrunner.dask_backend.held import BAD
from dask_taskrunner.dask_backend.hub import Hub
from dask_taskrunner.dask_backend.roll_call import PATIENT, Patience, views_of
from dask_taskrunner.dask_backend.shipping import Shipment
from dask_taskrunner.dask_backend.versions import Problems, look, problems_of, run_within
from dask_taskrunner.machine.events import Event
from dask_taskrunner.placement import WorkerView
from dask_taskrunner.worker.bootstrap import make_bootstraps

#: Seconds that workers are given to take away what was sent along: one may hold Python's lock.
_LEAVING: Final = 2.0


class _LooksLikeACollection(type):
    def __instancecheck__(cls, value: object) -> bool:
        # Looked up as Python looks up special methods: an instance may invent attributes.
        return callable(getattr(type(value), "__dask_graph__", None))


class _Collection(metaclass=_LooksLikeACollection):
    """Any Dask collection: where it was persisted, its futures hold what it was made from."""


class DaskBackend:
    """A Dask client, used for flow runs.

    Parameters
    ----------
    client : distributed.Client
        Connected, and not asynchronous.
    patience : Patience
        How long what does not move is waited for.
    adapts : bool
        Whether workers come when there is work for them.
    ship : tuple of module
        Are sent along with each run, as they are then.
    """

    #: Clients whose workers can run what is sent to them: with this package sent along, without it.
    _looked_at: ClassVar[weakref.WeakKeyDictionary[Client, set[bool]]] = weakref.WeakKeyDictionary()

    def __init__(
        self,
        client: Client,
        patience: Patience = PATIENT,
        adapts: bool = False,
        ship: tuple[ModuleType, ...] = (),
    ) -> None:
        self.client = client
        self._patience = patience
        self._adapts = adapts
        self._ship = Shipment(ship)
        self._hub = Hub.acquire(client)
        self._bootstraps = make_bootstraps()
        self._closed = False

    @property
    def place(self) -> object:
        """The client."""
        return self.client

    @property
    def foreign(self) -> Foreign:
        """Dask's futures, its lazy values where anybody has made one, and its collections."""
        delayed = sys.modules.get("dask.delayed")
        types = (Future,) if delayed is None else (Future, delayed.Delayed)
        return Foreign(types, (_Collection,), self._problem_of)

    def _problem_of(self, found: Any) -> str | None:
        if not isinstance(found, Future) or found.client is self.client:
            return None
        return (
            f"is a future of another Dask client: {found!r}. Give the runner that client, "
            "DaskTaskRunner(client=...), or pass the future's result."
        )

    def open_run(self, spec: FlowSpec, post: Callable[[Event], None]) -> DaskChannel:
        """Return a new flow run's channel; ``post`` gets its news."""
        return DaskChannel(
            self.client, self._hub, self._bootstraps, spec, post, self._patience, self._ship
        )

    def share(self, future: Any) -> Future[Any] | None:
        """Return one more future of the same key; None where it is gone, or another client's."""
        if not isinstance(future, Future) or future.client is not self.client:
            return None
        return None if future.status in BAD else Future(future.key, self.client)

    def is_at_hand(self, future: Any) -> bool:
        """Return whether a state is there: a lost one Dask makes again."""
        return bool(future.status != "lost")

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something on the client's event loop, unless that has ended by then."""
        loop = cast(Any, self.client.loop)
        loop.add_callback(loop.call_later, seconds, call)

    def version_problems(self) -> Problems | None:
        """Return what keeps those who are there from running what is sent to them.

        None where no worker is there yet.
        """
        # A runner for each run of a flow is common: the client's workers are asked once.
        looked_at = self._looked_at.setdefault(self.client, set())
        ships = self._ship.has_package
        if ships in looked_at:
            return Problems([], [])
        found = look(self.client, self._bootstraps.look)
        problems = problems_of(found, ships=ships)
        if problems.errors:
            return problems
        if not found.pythons:
            return None
        looked_at.add(ships)
        return problems

    def workers(self) -> list[WorkerView] | None:
        """Return who is there; None where nobody is yet, or others come when there is work."""
        if self._adapts:
            return None
        identity = self.client.sync(cast(Any, self.client.scheduler).identity)
        return views_of(identity) or None

    def close(self) -> None:
        """End the subscription, and take away what was sent along."""
        if not self._closed:
            self._closed = True
            if self._ship.was_sent and self.client.status == "running":
                run_within(_LEAVING, self.client, self._bootstraps.leave, self._ship.owner)
            self._hub.give_back()
