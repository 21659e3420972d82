"""Which workers left the cluster, read from Dask's own log."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from distributed import Client

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.events import Event, WorkerRemoved


class Removals:
    """Reads which workers left the cluster, without ever waiting for the answer.

    By asking, not by subscribing: a topic has one handler per client, and it may be the user's.
    """

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run
        self._since = time.time() - 1
        self._answer: concurrent.futures.Future[Any] | None = None
        self._asked_at = 0.0

    def silent_for(self, at: float) -> float:
        """Return for how many seconds the scheduler has owed an answer."""
        is_owed = self._answer is not None and not self._answer.done()
        return at - self._asked_at if is_owed else 0.0

    def take(self, at: float) -> list[Event]:
        """Return what the last question brought, and ask again."""
        events: list[Event] = []
        if self._answer is not None:
            if not self._answer.done():
                return events
            if self._answer.exception() is None:
                events = list(self._read(self._answer.result(), at))
        self._answer = None
        if self._client.status == "running":
            self._asked_at = at
            self._answer = asyncio.run_coroutine_threadsafe(
                cast(Any, self._client.scheduler).events(topic="all"),
                cast(Any, self._client.loop).asyncio_loop,
            )
        return events

    def _read(self, log: Iterable[tuple[float, Any]], at: float) -> Iterator[Event]:
        newest = self._since
        for when, message in log:
            if when <= self._since:
                continue
            newest = max(newest, when)
            if isinstance(message, dict) and message.get("action") == "remove-worker":
                keys = message.get("processing-tasks", ())
                ids = tuple(id for key in keys if (id := self._id_of(key)) is not None)
                yield WorkerRemoved(at, message["worker"], bool(message.get("expected")), ids)
        self._since = newest

    def _id_of(self, key: Any) -> TaskRunId | None:
        """Return the task run of one of this run's keys."""
        if not isinstance(key, (tuple, list)) or len(key) != 3:
            return None
        parts = str(key[0]).rsplit("-", 2)
        if len(parts) != 3 or parts[1] != self._run:
            return None
        return int(parts[2]), int(key[1])
