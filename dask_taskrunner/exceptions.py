"""All errors and warnings of the package, one tree; it knows nothing but Python.

The type says whose fault it is, the text says what happened, to which task, and what to do about
it, the attributes hold the facts. Signals are not here, for they are no errors::

    TaskRunnerError
    ├── FlowError                        the flow, or what was passed to it, is wrong
    │   ├── CycleError
    │   ├── UnknownTask                  (also a KeyError)
    │   ├── OutsideFlow
    │   ├── EmptyFlow
    │   ├── ParameterError
    │   ├── ArgumentError                (also a TypeError)
    │   ├── UnpicklableArgument
    │   ├── LargeArgument
    │   └── MissingTaskState
    ├── OptionError                      (also a TypeError) a wrong option of a task or a runner
    ├── NotAValue                        (also a TypeError) a task was used like its result
    └── RunError                         what happens when a flow runs
        ├── FlowRunFailed
        ├── UpstreamFailed               these stand for the state of a task run
        ├── TaskTimedOut
        ├── TaskCrashed
        ├── TaskCancelled                (also a concurrent.futures.CancelledError)
        ├── MappedFailed
        ├── RemoteTaskError
        ├── NotFinished                  these say why there is no result
        ├── MissingResult
        ├── ResultReleased
        ├── ResultLost
        ├── ResultNotHere
        ├── ResultNotSerializable
        ├── ConnectFailed                these are about the runner and its cluster
        ├── NoCluster
        ├── ClusterLost
        ├── RunnerClosed
        ├── MissingMainGuard
        └── InternalError                our own fault

    TaskRunnerWarning                    (a UserWarning)
    ├── UnsatisfiableWarning
    └── LargeArgumentWarning

Every one pickles with its attributes: what is positional is in ``args``, and a fact that is not
is a keyword with a default, which travels in ``__dict__``.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any


def describe(exception: BaseException) -> str:
    """Return ``TypeName: text`` of any exception, also of one whose own text cannot be made."""
    if isinstance(exception, RemoteTaskError):
        return str(exception)
    name = type(exception).__name__
    try:
        text = str(exception)
    except BaseException as error:  # noqa: BLE001 (a user's class may do anything)
        text = f"(its text could not be made: {type(error).__name__})"
    return f"{name}: {text}" if text else name


class TaskRunnerError(Exception):
    """Every error that this package raises by itself."""


# --- the flow, or what was passed to it, is wrong ---------------------------------------------


class FlowError(TaskRunnerError):
    """A flow is wrong; found while it is built, or before anything of it is sent."""


class CycleError(FlowError):
    """Tasks wait for each other.

    Parameters
    ----------
    cycle : sequence of str
        The slugs along the cycle; the first one comes again at the end.
    """

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__(tuple(cycle))
        self.cycle = tuple(cycle)

    def __str__(self) -> str:
        arrows = " -> ".join(self.cycle)
        return f"{arrows}. A task cannot wait for itself; drop one of these edges."


class UnknownTask(FlowError, KeyError):
    """No task of the flow is meant, or more than one."""

    def __str__(self) -> str:
        # A KeyError would show its text as a repr, in quotes.
        return str(self.args[0]) if self.args else ""


class OutsideFlow(FlowError):
    """A task was called, or a parameter made, outside a ``with Flow(...)`` block."""


class EmptyFlow(FlowError):
    """A flow without tasks was run."""


class ParameterError(FlowError):
    """A parameter is missing, unknown, defined twice or of another type."""


class ArgumentError(FlowError, TypeError):
    """The arguments of a task do not fit its signature."""


class _OfArgument(FlowError):
    """One argument of one task is wrong."""

    def __init__(self, text: str = "", *, task: str = "", argument: str = "") -> None:
        super().__init__(text)
        #: The slug of the task.
        self.task = task
        #: The name of the argument.
        self.argument = argument


class UnpicklableArgument(_OfArgument):
    """An argument cannot be sent, because it cannot be pickled."""


class LargeArgument(_OfArgument):
    """An argument is larger than ``max_constant_bytes``."""


class MissingTaskState(FlowError):
    """A flow is started in its middle, and the state of an upstream outside is not given."""


class OptionError(TaskRunnerError, TypeError):
    """An option of a task, a flow or a runner is unknown, or its value cannot be used."""


class NotAValue(TaskRunnerError, TypeError):
    """A task was used as if it were its result."""


# --- what happens when a flow runs -------------------------------------------------------------


class RunError(TaskRunnerError):
    """Something happened while a flow ran."""


class FlowRunFailed(RunError):
    """A flow run failed.

    Parameters
    ----------
    text : str
        The report of the whole run.
    failures : sequence
        The task runs that failed by themselves, root causes first; in another process than the
        run's, such as where a task had run a flow, their reprs.
    """

    def __init__(self, text: str = "", *, failures: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.failures = failures

    def __reduce__(self) -> tuple[Any, ...]:
        # A task run is a look at a record, and that one stays where the flow runs.
        told = [run if isinstance(run, str) else repr(run) for run in self.failures]
        return type(self), self.args, {**vars(self), "failures": told}


class UpstreamFailed(RunError):
    """A task did not run, because of what happened upstream of it.

    Parameters
    ----------
    text : str
        What the task's trigger said.
    root_cause : tuple of (str, str), optional
        The slug of the run that failed by itself, and its ``TypeName: text``.
    """

    def __init__(self, text: str = "", *, root_cause: tuple[str, str] | None = None) -> None:
        super().__init__(text)
        self.root_cause = root_cause


class TaskTimedOut(RunError):
    """An attempt took longer than the task's ``timeout``."""


class TaskCrashed(RunError):
    """The infrastructure died under a task: killed worker, memory limit, lost data."""


class TaskCancelled(RunError, concurrent.futures.CancelledError):
    """A task run was cancelled."""


class MappedFailed(RunError):
    """Children of a mapped task failed."""


class RemoteTaskError(RunError):
    """Stands for a task's own exception, where the object did not survive the trip.

    Parameters
    ----------
    original_type : str
        The name of the exception's type.
    message : str
        The exception's text.
    traceback : str
        The traceback as text, from the user's first frame on.
    """

    def __init__(self, original_type: str, message: str = "", traceback: str = "") -> None:
        super().__init__(original_type, message, traceback)
        self.original_type = original_type
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.original_type}: {self.message}" if self.message else self.original_type


class NotFinished(RunError):
    """A result was asked for of a task run that ended unfinished."""


class MissingResult(RunError):
    """What a task gets as its input, where the upstream run has no result.

    It is falsy, so ``if rows:`` and ``[x for x in many if x]`` do the natural thing.

    Parameters
    ----------
    slug : str
        The upstream task run.
    state : State
        Its final state.
    """

    def __init__(self, slug: str, state: Any) -> None:
        super().__init__(slug, state)
        self.slug = slug
        self.state = state
        #: The upstream's own exception; ``None`` where it has none, as after a skip.
        self.exception: BaseException | None = getattr(state, "exception", None)

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.slug} has no result: {self.state!r}"


class ResultReleased(RunError):
    """A result is no longer held by the cluster."""


class ResultLost(RunError):
    """A result went with its worker and was not made again."""


class ResultNotHere(RunError):
    """A state in hand is a header: its result lies on a worker."""


class ResultNotSerializable(RunError):
    """A result cannot be pickled, or cannot be opened where it is needed."""


class ConnectFailed(RunError):
    """Nobody answers at a scheduler's address."""


class NoCluster(RunError):
    """Something was asked of a cluster, and this runner has none."""


class ClusterLost(RunError):
    """The scheduler went away while a flow ran."""


class RunnerClosed(RunError):
    """A runner was used after it was closed."""


class MissingMainGuard(RunError):
    """A script would start worker processes without ``if __name__ == "__main__":``."""


class InternalError(RunError):
    """An error of this package itself.

    Parameters
    ----------
    text : str
        What went wrong.
    events : sequence
        The last events before it.
    """

    def __init__(self, text: str = "", *, events: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.events = events


# --- warnings ------------------------------------------------------------------------------------


class TaskRunnerWarning(UserWarning):
    """Something that the caller can mend, said before anything is sent."""


class UnsatisfiableWarning(TaskRunnerWarning):
    """A task needs something that no worker has."""


class LargeArgumentWarning(TaskRunnerWarning):
    """An argument of more than 100 MB is about to be sent."""
