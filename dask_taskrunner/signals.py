"""Exceptions that a task, or a trigger, raises to choose its own state.

They say which state, and know nothing of who catches them. They derive from `BaseException`: a
task's own ``except Exception`` must not swallow them.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, ClassVar

from dask_taskrunner.exceptions import UpstreamFailed
from dask_taskrunner.run_context import context
from dask_taskrunner.states import (
    Cancelled,
    Failed,
    Looped,
    Paused,
    Retrying,
    Skipped,
    State,
    Success,
    TriggerFailed,
    epoch_seconds,
    to_seconds,
)


class Signal(BaseException):
    """Raised by a task to end in the state of its own choice.

    Parameters
    ----------
    message : str, optional
        The message of the state.
    result : object
        The result of the state.
    """

    state_class: ClassVar[type[State]]

    def __init__(self, message: str | None = None, result: Any = None) -> None:
        super().__init__(message, result)
        self.message = message
        self.result = result

    def __str__(self) -> str:
        return self.message or ""

    def make_state(self) -> State:
        """Return the state that the signal asks for."""
        return self.state_class(self.result, self.message)


class SUCCESS(Signal):
    """The task is done; `result` is its result."""

    state_class = Success


class SKIP(Signal):
    """The task has nothing to do; what is downstream is skipped as well, unless told otherwise."""

    state_class = Skipped


class FAIL(Signal):
    """The task failed; it is retried like after any exception."""

    state_class = Failed

    def make_state(self) -> State:
        """Return a `Failed` whose exception is this signal."""
        return Failed(self.result, self.message, exception=self)


class TRIGGERFAIL(Signal):
    """The task must not run, because of what happened upstream; it is not retried.

    Parameters
    ----------
    root_cause : tuple of (str, str), optional
        The slug of the upstream run that failed by itself, and its ``TypeName: text``.
    """

    state_class = TriggerFailed

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        *,
        root_cause: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message, result)
        self.root_cause = root_cause

    def make_state(self) -> State:
        """Return a `TriggerFailed` with what a reader of its result is to be told."""
        text = self.message or "TRIGGERFAIL"
        exception = UpstreamFailed(text, root_cause=self.root_cause)
        return TriggerFailed(self.result, text, exception=exception, root_cause=self.root_cause)


class RETRY(Signal):
    """The task is to be tried again, also beyond its ``max_retries``.

    Parameters
    ----------
    delay : timedelta or float, optional
        From now, in seconds. Without it and `scheduled_time` the task's own delay is taken.
    scheduled_time : datetime or float, optional
        With its timezone, or in seconds since the epoch.

    Raises
    ------
    TypeError, ValueError
        The delay or the time is none, or both are given.
    """

    state_class = Retrying

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        *,
        delay: timedelta | float | None = None,
        scheduled_time: datetime | float | None = None,
    ) -> None:
        super().__init__(message, result)
        if delay is not None and scheduled_time is not None:
            raise TypeError("RETRY takes a delay or a scheduled_time, not both")
        #: In seconds.
        self.delay = None if delay is None else to_seconds(delay)
        #: In seconds since the epoch.
        self.scheduled_time = None if scheduled_time is None else epoch_seconds(scheduled_time)

    def make_state(self) -> State:
        """Return a `Retrying`, due when the signal says, else now."""
        due = self.scheduled_time if self.delay is None else time.time() + self.delay
        return Retrying(self.result, self.message, delay=self.delay, scheduled_time=due)


class PAUSE(Signal):
    """The task waits until somebody lets it go on."""

    state_class = Paused


class LOOP(Signal):
    """The task runs again, with `result` as ``context.task_loop_result``; that stays on workers.

    Each iteration has all of ``max_retries``, and a retry repeats the iteration that failed.
    """

    state_class = Looped


class CANCELLED(Signal):
    """The task stops, and has neither succeeded nor failed."""

    state_class = Cancelled


class DONTRUN(Signal):
    """The task should not have been run."""

    state_class = Skipped

    def make_state(self) -> State:
        """Return a `Skipped` that says so."""
        said = f": {self.message}" if self.message else ""
        return Skipped(self.result, f"the task raised DONTRUN{said}")


def check_cancelled() -> None:
    """End the calling task where its flow run was cancelled, or its time is over.

    What runs cannot be stopped from outside: long code that calls this now and then is.

    Raises
    ------
    CANCELLED
        Nobody wants the result any more.
    """
    if context.get("cancelled"):
        raise CANCELLED("check_cancelled: nobody wants the result any more")
