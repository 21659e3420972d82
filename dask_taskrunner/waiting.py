"""Waiting for many futures: ``wait`` and ``as_completed``, as `concurrent.futures` has them."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, overload

from dask_taskrunner.awaiting import signal_of
from dask_taskrunner.exceptions import OptionError, RunError
from dask_taskrunner.task_run_future import TaskRunFuture

R = TypeVar("R")
T = TypeVar("T")

ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
_RETURN_WHEN: Final = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")


class DoneAndNotDone(NamedTuple, Generic[R]):
    """What :func:`wait` returns."""

    done: set[TaskRunFuture[R]]
    not_done: set[TaskRunFuture[R]]


def wait(
    fs: Iterable[TaskRunFuture[R]],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
) -> DoneAndNotDone[R]:
    """Wait for futures.

    Parameters
    ----------
    fs : iterable of TaskRunFuture
        What to wait for.
    timeout : float, optional
        In seconds; what is done by then is returned, and nothing is raised.
    return_when : {'ALL_COMPLETED', 'FIRST_COMPLETED', 'FIRST_EXCEPTION'}
        When to return. A run that did not succeed is an exception.

    Returns
    -------
    done, not_done : set of TaskRunFuture

    Raises
    ------
    OptionError
        `return_when` is none of these, or `fs` holds something else.
    """
    if return_when not in _RETURN_WHEN:
        known = ", ".join(map(repr, _RETURN_WHEN))
        raise OptionError(f"return_when must be one of {known}, not {return_when!r}")
    futures = set(_checked("wait", fs))
    enough = threading.Event()
    counter = _Counter(len(futures), enough)

    def tell(future: TaskRunFuture[R]) -> None:
        counter.down()
        first = return_when == "FIRST_COMPLETED"
        if first or (return_when == "FIRST_EXCEPTION" and not future._is_successful):
            enough.set()

    if not futures:
        enough.set()
    waiters = {future: functools.partial(tell, future) for future in futures}
    try:
        for future, waiter in waiters.items():
            future._driver.when_ended(future._id, waiter)
        enough.wait(timeout)
    finally:
        for future, waiter in waiters.items():
            future._driver.forget_waiter(future._id, waiter)
    done = {future for future in futures if future.done()}
    return DoneAndNotDone(done, futures - done)


class _Counter:
    """Counts down, in whichever thread, and sets an event at the end."""

    def __init__(self, count: int, event: threading.Event) -> None:
        self._left = count
        self._event = event
        self._lock = threading.Lock()

    def down(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._event.set()


@overload
def as_completed(
    fs: Iterable[TaskRunFuture[R]],
    timeout: float | None = ...,
    with_results: Literal[False] = ...,
) -> AsCompleted[TaskRunFuture[R]]: ...


@overload
def as_completed(
    fs: Iterable[TaskRunFuture[R]], timeout: float | None = ..., *, with_results: Literal[True]
) -> AsCompleted[tuple[TaskRunFuture[R], R | BaseException]]: ...


def as_completed(
    fs: Iterable[TaskRunFuture[Any]], timeout: float | None = None, with_results: bool = False
) -> AsCompleted[Any]:
    """Iterate over futures as they end, with ``for`` or ``async for``; never raise for a failure.

    Parameters
    ----------
    fs : iterable of TaskRunFuture
        Each is given once.
    timeout : float, optional
        In seconds, from now until the last.
    with_results : bool
        Whether to give pairs of a future and its result; the result of a run that did not succeed
        is the exception that ``future.result()`` raises.

    Raises
    ------
    TimeoutError
        They have not all ended in time.
    OptionError
        `fs` holds something else.
    """
    return AsCompleted(list(dict.fromkeys(_checked("as_completed", fs))), timeout, with_results)


def _checked(name: str, fs: Iterable[TaskRunFuture[R]]) -> list[TaskRunFuture[R]]:
    if isinstance(fs, TaskRunFuture):
        raise OptionError(f"{name} takes a list of futures; write {name}([future])")
    if not isinstance(fs, Iterable):
        raise OptionError(f"{name} takes futures that a runner returned, not {fs!r}")
    futures = list(fs)
    for future in futures:
        if not isinstance(future, TaskRunFuture):
            raise OptionError(f"{name} takes futures that a runner returned, not {future!r}")
    return futures


class AsCompleted(Iterator[T], AsyncIterator[T]):
    """What :func:`as_completed` returns."""

    def __init__(
        self, futures: list[TaskRunFuture[Any]], timeout: float | None, with_results: bool
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._with_results = with_results
        self._left = len(futures)
        self._ended: queue.SimpleQueue[TaskRunFuture[Any]] = queue.SimpleQueue()
        #: Set by whoever puts something in, for an event loop that waits.
        self._tell: Any = None
        self._waiters = {future: functools.partial(self._put, future) for future in futures}
        for future, waiter in self._waiters.items():
            future._driver.when_ended(future._id, waiter)

    def _put(self, future: TaskRunFuture[Any]) -> None:
        self._ended.put(future)
        tell = self._tell
        if tell is not None:
            tell()

    def __iter__(self) -> AsCompleted[T]:
        return self

    def __aiter__(self) -> AsCompleted[T]:
        return self

    def __len__(self) -> int:
        """Return how many are still to come."""
        return self._left

    def __next__(self) -> T:
        if not self._left:
            raise StopIteration
        try:
            future = self._ended.get(timeout=self._seconds_left())
        except queue.Empty:
            raise self._too_late() from None
        item: T = self._item(self._counted(future))
        return item

    async def __anext__(self) -> T:
        if not self._left:
            raise StopAsyncIteration
        future = self._counted(await self._next_async())
        if not self._with_results:
            return cast(T, future)
        # It may have to be fetched, and that waits.
        return cast(T, await asyncio.to_thread(self._item, future))

    async def _next_async(self) -> TaskRunFuture[Any]:
        while True:
            # First the signal, then the look: what comes in between is seen by one of them.
            self._tell, told = signal_of(asyncio.get_running_loop())
            try:
                return self._ended.get_nowait()
            except queue.Empty:
                pass
            try:
                await asyncio.wait_for(told, self._seconds_left())
            except TimeoutError:
                raise self._too_late() from None

    def _counted(self, future: TaskRunFuture[Any]) -> TaskRunFuture[Any]:
        self._left -= 1
        # From now on it lives as long as whoever gets it wants.
        self._waiters.pop(future, None)
        return future

    def _item(self, future: TaskRunFuture[Any]) -> Any:
        if not self._with_results:
            return future
        error = future.exception()
        if error is None:
            try:
                return future, future.result()
            except RunError as why:  # It succeeded, but its result cannot be had.
                return future, why
        return future, error

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _too_late(self) -> TimeoutError:
        for future, waiter in self._waiters.items():
            future._driver.forget_waiter(future._id, waiter)
        return TimeoutError(f"{self._left} futures have not ended after {self._timeout} s")
