"""What a user holds of a single call, or of many: futures, while they run and after.

A result stays on the cluster while its future lives. Dropping one does not stop its work.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, Generic, Literal, NoReturn, TypeAlias, TypeVar, overload

from dask_taskrunner.awaiting import ended
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import (
    MissingResult,
    NotAValue,
    OptionError,
    ResultReleased,
    RunnerClosed,
)
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.logs import KeptLines, Logs, logs_of
from dask_taskrunner.machine.events import RunsCancelled
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.outcomes import mapped_failed, values_of
from dask_taskrunner.shown import Shown
from dask_taskrunner.states import Pending, State
from dask_taskrunner.task_run import TaskRun, has_result
from dask_taskrunner.view.text import futures_repr, task_run_repr

R_co = TypeVar("R_co", covariant=True)

#: What becomes of a child without a result: an error, a `MissingResult`, or nothing.
Missing: TypeAlias = Literal["raise", "keep", "drop"]
_MISSING: Final = ("raise", "keep", "drop")
#: Seconds that a cancelled run is given to be heard of.
_PATIENCE: Final = 5.0


class TaskRunFuture(Generic[R_co], Shown):
    """One task run that was submitted by itself.

    It has the words of `concurrent.futures.Future`, and can be awaited.
    """

    __slots__ = (
        "__weakref__", "_callbacks", "_driver", "_id", "_is_held", "_kept", "_kept_lines",
        "_max_retries", "slug",
    )  # fmt: skip

    def __init__(
        self, driver: Driver, callbacks: HookThread, id: TaskRunId, slug: str, max_retries: int
    ) -> None:
        self._driver = driver
        self._callbacks = callbacks
        self._id = id
        self._max_retries = max_retries
        self._is_held = True
        #: What was known when it was released: the machine forgets it then.
        self._kept: TaskRunRecord | None = None
        self._kept_lines: KeptLines | None = None
        #: The name of the task run among those of its runner.
        self.slug = slug

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Let the cluster forget the result; the work goes on where it has not ended."""
        if self._is_held:
            self._kept = self._record
            self._kept_lines = self._driver.channel.logs.get(self._id)
            self._is_held = False
            self._driver.drop((self._id,))

    # -- looking --------------------------------------------------------------------------

    @property
    def _record(self) -> TaskRunRecord | None:
        # Not there yet for an instant after the call, and not any more after release().
        record = self._driver.machine.records.get(self._id)
        if record is None:
            return self._kept
        if not self._is_held:
            self._kept = record
        return record

    @property
    def task_run(self) -> TaskRun:
        """The task run, as a flow run would have it."""
        record = self._record
        if record is None:
            self._driver.wait_for(lambda: self._record is not None or self.done(), None)
            record = self._record
        if record is None:
            raise self._not_known()
        return self._look_at(record)

    def _look_at(self, record: TaskRunRecord) -> TaskRun:
        return TaskRun(record, self._driver, self._max_retries)

    def _not_known(self) -> Exception:
        if not self._is_held:
            return ResultReleased(f"{self.slug} is not known any more: its future was released")
        return RunnerClosed(f"the runner was closed before {self.slug} was sent")

    @property
    def state(self) -> State:
        """What is known of the run; a header, whose result may lie on a worker."""
        record = self._record
        if record is not None:
            return self._look_at(record).state
        return Pending(message=str(self._not_known())) if self.done() else Pending()

    @property
    def name(self) -> str:
        """What people call the run: by the task's ``task_run_name``, else its slug.

        Known once the body has ended.
        """
        record = self._record
        return self.slug if record is None else self._look_at(record).name

    @property
    def attempts(self) -> list[Attempt]:
        """Each execution of the body, in the order in which they are known to have begun."""
        record = self._record
        return [] if record is None else record.attempts()

    @property
    def logs(self) -> Logs:
        """What the body has logged, and printed with ``log_prints``, while it runs and after."""
        record, store = self._record, self._driver.channel.logs
        if record is None:
            return Logs()
        if not self._is_held:
            self._kept_lines = store.get(self._id) or self._kept_lines
            return logs_of(record, store, self._kept_lines)
        return self._look_at(record).logs

    def done(self) -> bool:
        """Return whether the run has ended, or paused, or never will end."""
        return self._driver.has_ended(self._id)

    def running(self) -> bool:
        """Return whether the body is known to be running."""
        record = self._record
        return record is not None and record.running is not None

    def cancelled(self) -> bool:
        """Return whether the run was cancelled."""
        return self.state.is_cancelled()

    def __repr__(self) -> str:
        state = self.state
        text = task_run_repr(self.slug, type(state).__name__, state.message, len(self.attempts))
        return text.replace("<TaskRun ", "<TaskRunFuture ", 1)

    # -- results --------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R_co:
        """Return the result, from wherever it lies; wait for it where the run goes on.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Raises
        ------
        Exception
            As :meth:`TaskRun.result`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait(timeout)
        value: R_co = self.task_run.result(time_left(deadline))
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what :meth:`result` would raise for the run's state, or None.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Raises
        ------
        TimeoutError
            The run went on for longer.
        """
        self._wait(timeout)
        return self.task_run.exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        if not self._driver.wait_for(self.done, timeout):
            raise TimeoutError(f"{self.slug} has not finished after {timeout} s")

    @property
    def future(self) -> Any:
        """A Dask future of the plain value; see :attr:`TaskRun.future`."""
        return self.task_run.future

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._result_async().__await__()

    async def _result_async(self) -> R_co:
        await ended(self._driver, self._id)
        if self._is_here:
            return self.result()
        # It has to be fetched, and that waits.
        return await asyncio.to_thread(self.result)

    @property
    def _is_successful(self) -> bool:
        record = self._record
        return record is not None and record.header is not None and record.header.is_successful

    @property
    def _is_here(self) -> bool:
        """Whether the result came with the news of the end."""
        record = self._record
        header = None if record is None else record.header
        return header is not None and header.is_successful and header.is_complete

    # -- acting ---------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the run, and return whether it is cancelled; what runs cannot be stopped."""
        if not self.done():
            event = RunsCancelled(time.monotonic(), (self._id,), "cancelled by the user")
            self._driver.post(event)
            self._driver.hurry()
            self._driver.wait_for(self.done, _PATIENCE)
        return self.cancelled()

    def add_done_callback(self, function: Callable[[TaskRunFuture[R_co]], object]) -> None:
        """Have ``function(self)`` called when the run has ended.

        Callbacks are called one after the other, in a thread kept for them.
        """
        self._driver.when_ended(self._id, lambda: self._callbacks.call(_call, function, self))

    def __reduce__(self) -> NoReturn:
        # Inside what is not looked into it would not be replaced by its result.
        raise NotAValue(
            f"the future of {self.slug!r} cannot be pickled or copied; pass it as an argument by "
            "itself or in a list, tuple, set, dict or dataclass, or pass future.result()"
        )

    # -- not a value ----------------------------------------------------------------------

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> NoReturn:
        self._refuse("the length", f"runner.submit(len, {self.slug})")

    def __iter__(self) -> NoReturn:
        self._refuse("the elements", "for x in future.result(): ...")

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse("an element", f"runner.submit(operator.getitem, future, {key!r})")

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise NotAValue(
            f"{what} of {self.slug!r} was asked for: a future is not a value, and how many there "
            f"are is not known. Write `future.result()`, or `{instead}`."
        )


def time_left(deadline: float | None) -> float | None:
    """Return the seconds until a time by the monotonic clock, None for no such time."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _call(function: Callable[[Any], object], future: object) -> None:
    function(future)


class TaskRunFutures(Sequence[TaskRunFuture[R_co]], Shown):
    """The futures of many calls, in the order of what was mapped over."""

    def __init__(self, futures: Iterable[TaskRunFuture[R_co]], name: str = "") -> None:
        self._made = list(futures)
        self.name = name

    @property
    def _futures(self) -> list[TaskRunFuture[R_co]]:
        return self._made

    def __len__(self) -> int:
        return len(self._futures)

    @overload
    def __getitem__(self, index: int) -> TaskRunFuture[R_co]: ...

    @overload
    def __getitem__(self, index: slice) -> TaskRunFutures[R_co]: ...

    def __getitem__(self, index: int | slice) -> TaskRunFuture[R_co] | TaskRunFutures[R_co]:
        if isinstance(index, slice):
            return TaskRunFutures(self._futures[index], self.name)
        return self._futures[index]

    def results(self, missing: Missing = "raise", timeout: float | None = None) -> list[R_co]:
        """Return the results in index order; wait for those that are not there yet.

        Parameters
        ----------
        missing : {'raise', 'keep', 'drop'}
            What becomes of a run without a result: an error, a `MissingResult` in its place, or
            nothing. A skipped run without a result has none.
        timeout : float, optional
            In seconds, for all together.

        Raises
        ------
        MappedFailed
            Some have none.
        TimeoutError
            They did not all come in time.
        """
        if missing not in _MISSING:
            known = ", ".join(map(repr, _MISSING))
            raise OptionError(f"missing must be one of {known}, not {missing!r}")
        deadline = None if timeout is None else time.monotonic() + timeout
        for future in self._futures:
            future._wait(time_left(deadline))
        failed = [future for future in self._futures if not future._is_successful]
        if failed and missing == "raise":
            told = [(future.slug, future.state.message) for future in failed]
            raise mapped_failed(told, failed[0].exception())
        values = self._values(deadline)
        found: list[Any] = []
        for future, value in zip(self._futures, values, strict=True):
            record = future._record
            if missing == "raise" or (record is not None and has_result(record)):
                found.append(value)
            elif missing == "keep":
                found.append(MissingResult(future.slug, future.state))
        return found

    def _values(self, deadline: float | None) -> list[Any]:
        """Return the value of each run, None where it has none; of those that lie on workers at
        once, for one by one each would be a round trip.
        """
        by_driver: dict[Driver, dict[int, TaskRunRecord]] = {}
        for place, future in enumerate(self._futures):
            record = future._record
            if record is not None and has_result(record):
                by_driver.setdefault(future._driver, {})[place] = record
        values: list[Any] = [None] * len(self._futures)
        for driver, records in by_driver.items():
            found = values_of(list(records.values()), driver, time_left(deadline))
            for place, value in zip(records, found, strict=True):
                values[place] = value
        return values

    @property
    def counts(self) -> dict[str, int]:
        """How many of the runs show which state."""
        return dict(Counter(type(future.state).__name__ for future in self._futures))

    def cancel(self) -> None:
        """Cancel all that have not ended."""
        by_driver: dict[Driver, list[TaskRunId]] = {}
        for future in self._futures:
            if not future.done():
                by_driver.setdefault(future._driver, []).append(future._id)
        for driver, ids in by_driver.items():
            driver.post(RunsCancelled(time.monotonic(), tuple(ids), "cancelled by the user"))
            driver.hurry()

    def release(self) -> None:
        """Let the cluster forget all results."""
        for future in self._futures:
            future.release()

    def __repr__(self) -> str:
        return futures_repr(self.name, self.counts)
