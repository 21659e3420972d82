"""Who is there: asked of the scheduler where that is wanted, without waiting for the answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, cast

from distributed import Client

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.placement import WorkerView
from dask_taskrunner.times import to_seconds


class Patience(NamedTuple):
    """How long a run that does not move, and a scheduler that does not answer, are waited for."""

    stall: float | None = None
    cluster: float = 60.0


#: Where nobody says otherwise.
PATIENT = Patience()


def read_patience(stall: timedelta | float | None, cluster: timedelta | float) -> Patience:
    """Return what a user's two options say.

    Raises
    ------
    OptionError
        One is no duration of more than zero.
    """
    stall_seconds = None if stall is None else _seconds("stall_timeout", stall)
    return Patience(stall_seconds, _seconds("cluster_timeout", cluster))


def _seconds(name: str, duration: object) -> float:
    try:
        seconds = to_seconds(cast(Any, duration))
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}: {error}") from error
    if not seconds:
        raise OptionError(f"{name} must be more than zero")
    return seconds


class RollCall:
    """The workers of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answer: concurrent.futures.Future[Any] | None = None
        self._workers: list[WorkerView] | None = None

    def call(self) -> list[WorkerView] | None:
        """Ask, and return what the last question but this one has brought, if anything."""
        if self._answer is not None:
            if not self._answer.done():
                return self._workers
            if self._answer.exception() is None:
                self._workers = views_of(self._answer.result())
            self._answer = None
        elif self._client.status == "running":
            self._answer = self._question()
        return self._workers

    def ask(self, timeout: float) -> list[WorkerView] | None:
        """Ask, and return the answer; what was known before, where there is none in time.

        Any thread may ask; what the machine's thread has asked is its own.
        """
        if self._client.status != "running" or self._is_loop():
            return self._workers
        question = self._question()
        try:
            return views_of(question.result(timeout))
        # Whatever the connection says: who only looks is not to be told of it so.
        except Exception:  # noqa: BLE001
            question.cancel()
            return self._workers

    def _question(self) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(
            cast(Any, self._client.scheduler).identity(),
            cast(Any, self._client.loop).asyncio_loop,
        )

    def _is_loop(self) -> bool:
        """Return whether the answer would come in the very thread that waits for it."""
        try:
            return asyncio.get_running_loop() is cast(Any, self._client.loop).asyncio_loop
        except RuntimeError:
            return False


def views_of(identity: Mapping[str, Any]) -> list[WorkerView]:
    """Return what a scheduler says of its workers; how busy they are, they tell now and then."""
    return [
        WorkerView(
            address,
            str(worker["name"]),
            worker["nthreads"],
            worker["resources"],
            worker["metrics"].get("task_counts", {}).get("executing", 0),
            worker.get("status") == "paused",
        )
        for address, worker in identity["workers"].items()
    ]
