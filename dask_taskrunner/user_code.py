"""What a user's code does, as a value: it is called here, and its exceptions go no further.

From the outcome of a task's body, or of one of its hooks, follows a state. Which code is called
when is not known here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeAlias

from dask_taskrunner.cache_validators import CacheValidator
from dask_taskrunner.exceptions import ResultLost, TaskTimedOut, describe
from dask_taskrunner.name_templates import NameTemplate
from dask_taskrunner.retries import RetryDelay, RetryOn, delay_before
from dask_taskrunner.run_context import context
from dask_taskrunner.signals import FAIL, RETRY, Signal
from dask_taskrunner.states import (
    Crashed,
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)
from dask_taskrunner.time_limits import Overdue, call_within
from dask_taskrunner.times import to_seconds
from dask_taskrunner.tracebacks import forget_frames, user_traceback
from dask_taskrunner.triggers import Trigger

Values: TypeAlias = Mapping[str, Any]
StateHandler: TypeAlias = Callable[[Any, State, State], State | None]


class RunnableTask(Protocol):
    """What the pipeline asks of a task."""

    name: str
    slug: str
    trigger: Trigger
    skip_on_upstream_skip: bool
    max_retries: int
    retry_delay: RetryDelay
    retry_jitter: float
    retry_on: RetryOn
    cache_for: timedelta | None
    cache_validator: CacheValidator
    state_handlers: tuple[StateHandler, ...]
    record_inputs: bool
    task_run_name: NameTemplate | None
    timeout: timedelta | float | None
    rerun_on_loss: bool

    def call(self, inputs: Values) -> Any:
        """Run the body with inputs by the names of its parameters."""


class Outcome(NamedTuple):
    """What became of calling a user's code: a value, or an error and its traceback as text."""

    value: Any
    error: BaseException | None
    traceback: str


class RaisedElsewhere(BaseException):
    """What a body has raised in another process.

    Parameters
    ----------
    error : BaseException
        What it was.
    traceback : str
        As text, from the user's first frame on.
    """

    def __init__(self, error: BaseException, traceback: str) -> None:
        super().__init__(error, traceback)
        self.error = error
        self.traceback = traceback


class StartedBefore(BaseException):
    """A body is to be run a second time that must not."""


class Died(BaseException):
    """The process in which a body ran has ended without a word."""


class GoesOnAs:
    """What a body returns whose run goes on as a graph of others.

    Parameters
    ----------
    graph : bytes
        Pickled.
    """

    def __init__(self, graph: bytes) -> None:
        self.graph = graph


def outcome_of(function: Callable[..., Any], *args: Any) -> Outcome:
    """Call what may be a user's code; nothing that it raises gets further than here."""
    try:
        return Outcome(function(*args), None, "")
    except RaisedElsewhere as raised:
        return Outcome(None, raised.error, raised.traceback)
    # Also SystemExit and the like: on a worker they would take the thread, and the run would hang.
    except BaseException as error:
        if context.get("raise_on_exception") and not isinstance(error, Signal):
            raise
        text = user_traceback(error)
        forget_frames(error)
        return Outcome(None, error, text)


def outcome_of_body(task: RunnableTask, inputs: Values) -> Outcome:
    """Call a task's body, which may take no longer than its timeout."""
    if task.timeout is None:
        return outcome_of(task.call, inputs)
    return outcome_of(call_within, to_seconds(task.timeout), task.call, inputs)


def error_text(error: BaseException) -> str | None:
    """Return ``TypeName: text`` of what a body has raised; None where that asks for a state."""
    if isinstance(error, RaisedElsewhere):
        error = error.error
    if isinstance(error, Overdue):
        # So it is asked for, and told of, wherever a body has outrun its time.
        error = TimeoutError(str(error))
    # A FAIL is a failure in the user's words, and all others are none.
    return None if isinstance(error, Signal) and not isinstance(error, FAIL) else describe(error)


def hook_failed(
    task: RunnableTask, hook: str, outcome: Outcome, after: BaseException | None = None
) -> Failed:
    """Return the state where a hook raised, after what the body had raised."""
    failed = Failed(exception=outcome.error, traceback=outcome.traceback)
    failed.message = f"{hook} of task {task.slug}: {failed.message}"
    if after is not None:
        failed.message += f" (asked because of {describe(after)})"
    return failed


def hook_name(hook: Any) -> str:
    """Return what a hook is called in messages."""
    return getattr(hook, "__name__", None) or type(hook).__name__


def run_number() -> int:
    """Return the number that the task runs as, from 1."""
    number: int = context.get("task_run_number", 1)
    return number


def state_of(task: RunnableTask, outcome: Outcome, inputs: Values) -> State:
    """Return the state that the outcome of the body stands for."""
    error = outcome.error
    if isinstance(error, Overdue):
        text = str(error)
        return TimedOut(
            message=text,
            exception=TaskTimedOut(text),
            stopped=error.stopped,
            traceback=error.stack,
        )
    if isinstance(error, StartedBefore):
        return Failed(message=str(error), exception=ResultLost(str(error)))
    if isinstance(error, Died):
        return Crashed(message=str(error))
    if isinstance(error, Signal):
        return state_of_signal(task, error, inputs, last_run_number=run_number())
    if error is None and isinstance(outcome.value, GoesOnAs):
        return Running(outcome.value.graph)
    if error is None and isinstance(outcome.value, State):
        error = TypeError(
            f"the body returned {outcome.value!r}; to choose a state, raise a signal, "
            "as in: raise signals.SKIP('no news')"
        )
    return Success(outcome.value) if error is None else Failed(exception=error)


def may_be_retried(task: RunnableTask, state: Failed) -> bool:
    """Return whether a failure is one that another attempt might spare."""
    # What is upstream will not change by itself, and crashes have a budget of their own.
    if isinstance(state, (TriggerFailed, Crashed)):
        return False
    return task.rerun_on_loss or not isinstance(state.exception, ResultLost)


def state_of_signal(
    task: RunnableTask, signal: Signal, inputs: Values, last_run_number: int
) -> State:
    """Return the state that a signal asks for, with what only the run knows."""
    state = signal.make_state()
    if isinstance(state, Pending):
        state.cached_inputs = inputs
    if isinstance(state, Looped):
        state.loop_count = context.get("task_loop_count", 1)
    if isinstance(state, Retrying):
        state.last_run_number = last_run_number
    if isinstance(signal, RETRY) and signal.delay is None and signal.scheduled_time is None:
        return after_own_delay(task, state, signal)
    return state


def after_own_delay(task: RunnableTask, state: State, exception: BaseException | None) -> State:
    """Return a `Retrying` as due after the task's own delay."""
    outcome = outcome_of(
        delay_before,
        task.retry_delay,
        task.retry_jitter,
        run_number(),
        exception,
        random.random,
    )
    if outcome.error is not None:
        return hook_failed(task, "retry_delay", outcome, exception)
    return state.copy_with(delay=outcome.value, scheduled_time=time.time() + outcome.value)
