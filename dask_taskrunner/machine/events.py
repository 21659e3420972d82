"""What the machine is told: frozen data in the past tense, each with its own time.

``at`` is the client's monotonic clock in seconds everywhere; only :class:`RunStarted` also says
what a wall clock showed at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId

#: How a future ended that brought no state. ``killed``: its workers died under this very key.
#: ``upstream``: the error is another task's. ``lost``: Dask forgot what it needed. ``cancelled``:
#: somebody else cancelled it. ``error``: anything else.
LossKind: TypeAlias = Literal["killed", "upstream", "lost", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class RunStarted:
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


@dataclass(frozen=True, slots=True)
class TaskRunsBegan:
    """A worker reported bodies that have been running for a while."""

    at: float
    bodies: tuple[BodyBegan, ...]
    worker: str


@dataclass(frozen=True, slots=True)
class TaskRunEnded:
    """An execution ended with a state, or a future finished and no header came with it."""

    at: float
    id: TaskRunId
    submission: int
    #: None where the future has been finished for two seconds without a word.
    header: Header | None


@dataclass(frozen=True, slots=True)
class Loss:
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


@dataclass(frozen=True, slots=True)
class TaskRunLost:
    """A future ended without a state."""

    at: float
    id: TaskRunId
    submission: int
    error: Loss


@dataclass(frozen=True, slots=True)
class WorkerRemoved:
    """A worker left the cluster."""

    at: float
    worker: str
    #: True for a retirement or a scale-down.
    expected: bool
    #: The task runs that were assigned to it, running or not.
    keys: tuple[TaskRunId, ...]


@dataclass(frozen=True, slots=True)
class ValueLost:
    """The future of a finished task run holds its value no more."""

    at: float
    id: TaskRunId
    submission: int
    text: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Time passed; see ``Machine.wake_at``."""

    at: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody asked to cancel the flow run."""

    at: float
    reason: str = "cancelled by the user"


@dataclass(frozen=True, slots=True)
class ClusterLost:
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
