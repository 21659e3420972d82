"""Waiting in an event loop: nothing here blocks it, and nothing here knows a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import NotAValue
from dask_taskrunner.headers import TaskRunId

T = TypeVar("T")


async def ended(driver: Driver, id: TaskRunId | None) -> None:
    """Wait until a task run, or for None the whole run, has ended."""
    tell, wait = signal_of(asyncio.get_running_loop())
    driver.when_ended(id, tell)
    await wait


def signal_of(loop: asyncio.AbstractEventLoop) -> tuple[Callable[[], None], asyncio.Future[None]]:
    """Return what any thread may call once, and what an event loop can await for that."""
    waiter: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        # Whoever waited may have been cancelled, and the loop closed.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, waiter)

    return tell, waiter


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Awaited(Coroutine[Any, Any, T]):
    """A coroutine that says what is missing where its result is used without having awaited it.

    Parameters
    ----------
    coroutine : coroutine
        Does the work.
    line : str
        How it should have been called.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], line: str) -> None:
        self._coroutine = coroutine
        self._line = line

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise inside, as a coroutine does."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End, as a coroutine does."""
        self._coroutine.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        # Python would warn of it as well, and name nothing that the user wrote.
        self._coroutine.close()
        raise NotAwaited(f"{name!r} was asked of a call that nobody awaited; write {self._line}")


class NotAwaited(NotAValue, AttributeError):
    """A coroutine was used like its result; ``hasattr`` and its like see an AttributeError."""
