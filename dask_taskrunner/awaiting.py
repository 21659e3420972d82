"""Waiting in an event loop: nothing here blocks it, and nothing here knows a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import NotAValue, TaskRunnerWarning
from dask_taskrunner.headers import TaskRunId

T = TypeVar("T")


async def ended(driver: Driver, id: TaskRunId | None) -> None:
    """Wait until a task run, or for None the whole run, has ended."""
    tell, wait = signal_of(asyncio.get_running_loop())
    driver.when_ended(id, tell)
    try:
        await wait
    finally:
        driver.forget_waiter(id, tell)


def signal_of(loop: asyncio.AbstractEventLoop) -> tuple[Callable[[], None], asyncio.Future[None]]:
    """Return what any thread may call once, and what an event loop can await for that."""
    waiter: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        # Whoever waited may have been cancelled, and the loop closed.
        with contextlib.suppress(RuntimeError):
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
        #: True where somebody awaits it, or was told that nobody does.
        self._is_settled = False

    def __await__(self) -> Generator[Any, Any, T]:
        self._is_settled = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        self._is_settled = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise inside, as a coroutine does."""
        self._is_settled = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End, as a coroutine does."""
        self._is_settled = True
        self._coroutine.close()

    def __del__(self) -> None:
        if not self._is_settled:
            # Python would name a method of ours, and nothing that the user wrote.
            self.close()
            text = f"a call was not awaited, and nothing was done; write {self._line}"
            warnings.warn(text, TaskRunnerWarning, stacklevel=2)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(repr(name))

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse(f"[{key!r}]")

    def _refuse(self, what: str) -> NoReturn:
        self.close()
        raise NotAwaited(f"{what} was asked of a call that nobody awaited; write {self._line}")


class NotAwaited(NotAValue, AttributeError):
    """A coroutine was used like its result; ``hasattr`` and its like see an AttributeError."""
