"""What the machine is told: frozen data in the past tense, each with its own time.

``at`` is the client's monotonic clock in seconds everywhere; only :class:`RunStarted` also says
what a wall clock showed at that moment.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId

#: How a future ended that brought no state. ``killed``: its workers died under this very key.
#: ``upstream``: the error is another task's. ``lost``: Dask forgot what it needed. ``cancelled``:
#: somebody else cancelled it. ``error``: anything else.
LossKind: TypeAlias = Literal["killed", "upstream", "lost", "cancelled", "error"]


class RunStarted(NamedTuple):
    """The flow run may begin."""

    at: float
    #: Epoch seconds at the same moment.
    wall: float


class BodyBegan(NamedTuple):
    """One line of a start report."""

    id: TaskRunId
    submission: int
    execution: int
    #: Epoch seconds by the worker's clock.
    started: float


class TaskRunsBegan(NamedTuple):
    """A worker reported bodies that have been running for a while."""

    at: float
    bodies: tuple[BodyBegan, ...]
    worker: str


class TaskRunEnded(NamedTuple):
    """An execution ended with a state, or a future finished and no header came with it."""

    at: float
    id: TaskRunId
    submission: int
    #: None where the future has been finished for two seconds without a word.
    header: Header | None


class Loss(NamedTuple):
    """How a future ended that brought no state."""

    kind: LossKind
    #: The error's type and text, or Dask's reason.
    text: str
    #: The address of the last worker, where Dask names it.
    worker: str = ""
    #: How often Dask started the submission: its own ``allowed-failures`` count as well.
    starts: int = 1
    #: Which task run is at fault, where the error is not this key's own.
    culprit: TaskRunId | None = None


class TaskRunLost(NamedTuple):
    """A future ended without a state."""

    at: float
    id: TaskRunId
    submission: int
    error: Loss


class WorkerRemoved(NamedTuple):
    """A worker left the cluster."""

    at: float
    worker: str
    #: True for a retirement or a scale-down.
    expected: bool
    #: The task runs that were assigned to it, running or not.
    keys: tuple[TaskRunId, ...]


class ValueLost(NamedTuple):
    """The future of a finished task run holds its value no more."""

    at: float
    id: TaskRunId
    submission: int
    text: str


class TimerFired(NamedTuple):
    """Time passed; see ``Machine.wake_at``."""

    at: float


class CancelAsked(NamedTuple):
    """Somebody asked to cancel the flow run."""

    at: float
    reason: str = "cancelled by the user"


class ClusterLost(NamedTuple):
    """The connection to the scheduler ended."""

    at: float
    text: str


Event: TypeAlias = (
    RunStarted
    | TaskRunsBegan
    | TaskRunEnded
    | TaskRunLost
    | WorkerRemoved
    | ValueLost
    | TimerFired
    | CancelAsked
    | ClusterLost
)
