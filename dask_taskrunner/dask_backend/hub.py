"""The one subscription of a Dask client, shared by all flow runs that use it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from distributed import Client

from dask_taskrunner.worker.wire import HEADERS_MESSAGE, LINES_MESSAGE


class Hub:
    """One per Dask client: it subscribes once to the client's own topic and sorts news by run.

    The topic is the client's id, because Dask empties that one after the client has gone; one
    of our own would stay on the scheduler for ever.
    """

    _hubs: ClassVar[weakref.WeakKeyDictionary[Client, Hub]] = weakref.WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, client: Client) -> None:
        # Weakly: a run that nobody holds any more must not be kept by its news.
        self._receivers: dict[str, weakref.WeakMethod[Callable[[Any], None]]] = {}
        self._users = 0
        self._client = weakref.ref(client)

    @classmethod
    def acquire(cls, client: Client) -> Hub:
        """Return the client's hub, subscribed."""
        with cls._lock:
            hub = cls._hubs.get(client)
            if hub is None:
                hub = cls._hubs[client] = cls(client)
                client.preloads = cast(Any, _Farewell(client.preloads, hub))
            if not hub._users:
                client.subscribe_topic(client.id, hub._receive)
            hub._users += 1
            return hub

    def give_back(self) -> None:
        """End the subscription with the last user."""
        with self._lock:
            self._users -= 1
            client = self._client()
            if self._users or client is None or client.status != "running":
                return
            client.unsubscribe_topic(client.id)
        # The word leaves with the next batch, in milliseconds, and has no answer of its own. A
        # round trip on another connection gives it that time before the client closes. A scheduler
        # that has a hundred thousand tasks to forget answers no sooner; the word is long with it by
        # then. Not under the lock, which the client's event loop takes when it closes.
        with contextlib.suppress(TimeoutError):
            client.sync(cast(Any, client.scheduler).identity, callback_timeout=2)

    def leave(self) -> None:
        """End the subscription of a client that is closing."""
        with self._lock:
            client = self._client()
            if self._users and client is not None:
                client.unsubscribe_topic(client.id)

    def add(self, run: str, receiver: Callable[[Any], None]) -> None:
        """Have a run's news handed to a function, on the client's event loop."""
        self._receivers[run] = weakref.WeakMethod(receiver, lambda _: self.drop(run))

    def drop(self, run: str) -> None:
        """Forget a run."""
        self._receivers.pop(run, None)

    def _receive(self, event: tuple[float, Any]) -> None:
        message = event[1]
        # The scheduler writes to this topic, too: those messages are dicts.
        if not isinstance(message, (list, tuple)):
            return
        if message[0] == HEADERS_MESSAGE:
            for run, *news in message[1]:
                kind = HEADERS_MESSAGE if len(news) == 1 else LINES_MESSAGE
                self._hand_over(run, kind, *news)
        elif message[0] == LINES_MESSAGE:
            for run, *news in message[1]:
                self._hand_over(run, LINES_MESSAGE, *news)
        else:
            self._hand_over(message[1], *message)

    def _hand_over(self, run: str, *news: Any) -> None:
        reference = self._receivers.get(run)
        receiver = reference() if reference is not None else None
        if receiver is not None:
            receiver(news)


class _Farewell(Sequence[Any]):
    """Stands in for a client's preloads, which are told when it closes: nobody else is.

    A user may close a client and leave the runner open. The scheduler would then tell the client of
    its own end, by the topic, and log at length that it cannot.
    """

    def __init__(self, preloads: Any, hub: Hub) -> None:
        self._preloads = preloads
        self._hub = hub

    def __getitem__(self, index: Any) -> Any:
        return self._preloads[index]

    def __len__(self) -> int:
        return len(self._preloads)

    async def start(self) -> None:
        await self._preloads.start()

    async def teardown(self) -> None:
        self._hub.leave()
        await self._preloads.teardown()
