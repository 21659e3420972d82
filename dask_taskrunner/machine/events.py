"""What the machine is told: frozen data in the past tense, each with its own time.

``at`` is the client's monotonic clock in seconds everywhere; only :class:`RunStarted` also says
what a wall clock showed at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import NOTHING_MORE, Header, TaskRunId
from dask_taskrunner.machine.plans import InnerPlan, PlannedRun

#: How a future ended that brought no state. ``killed``: its workers died under this very key.
#: ``upstream``: the error is another task's. ``lost``: Dask forgot what it needed. ``cancelled``:
#: somebody else cancelled it. ``raised``: what is not a task of ours raised, as its own code does.
#: ``cached``: what it was to begin with is gone; it may begin without. ``error``: anything else.
LossKind: TypeAlias = Literal[
    "killed", "upstream", "lost", "cancelled", "raised", "cached", "error"
]


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
    #: What a header says of the exception, where one was raised.
    more: Mapping[str, Any] = NOTHING_MORE


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


class Stalled(NamedTuple):
    """Nothing happens, and somebody has found out why."""

    at: float
    text: str
    #: For how many seconds that has been so, where the run is to end for it.
    ends_after: float | None = None


class RunsAdded(NamedTuple):
    """Task runs joined an open plan, in topological order behind all that were there."""

    at: float
    runs: tuple[PlannedRun, ...]


class Grew(NamedTuple):
    """The graph that a task run's body returned was planned."""

    at: float
    id: TaskRunId
    #: Which send returned it.
    submission: int
    #: In topological order, behind all that were there.
    runs: tuple[PlannedRun, ...]
    inner: InnerPlan
    #: What others have to take in with them; of no meaning here.
    origin: Any = None


class GrowthFailed(NamedTuple):
    """The graph that a task run's body returned cannot be run."""

    at: float
    id: TaskRunId
    submission: int
    #: Why, as ``TypeName: text``.
    text: str
    #: What a header says of the exception.
    more: Mapping[str, Any] = NOTHING_MORE


class NoMoreRuns(NamedTuple):
    """An open plan is complete: it ends when all its runs have."""

    at: float


class ForeignEnded(NamedTuple):
    """A task run of another run ended there."""

    at: float
    id: TaskRunId
    #: None where that run ended without it.
    header: Header | None
    #: What has the result on the cluster, where the header has not; of no meaning here.
    future: Any = None


class ResultsWanted(NamedTuple):
    """Somebody holds on to these results, besides those who did so far."""

    at: float
    ids: tuple[TaskRunId, ...]


class ResultsDropped(NamedTuple):
    """Somebody who held on to these results does so no more."""

    at: float
    ids: tuple[TaskRunId, ...]


class RunsCancelled(NamedTuple):
    """Somebody asked to cancel these task runs."""

    at: float
    ids: tuple[TaskRunId, ...]
    reason: str


class Approved(NamedTuple):
    """Somebody lets paused task runs go on."""

    at: float
    ids: tuple[TaskRunId, ...]


class Rejected(NamedTuple):
    """Somebody has paused task runs skipped."""

    at: float
    ids: tuple[TaskRunId, ...]


class HistoryRead(NamedTuple):
    """The history so far was taken in; an open plan keeps no more of it."""

    at: float


Event: TypeAlias = (
    RunStarted
    | RunsAdded
    | Grew
    | GrowthFailed
    | NoMoreRuns
    | ForeignEnded
    | ResultsWanted
    | ResultsDropped
    | RunsCancelled
    | HistoryRead
    | Approved
    | Rejected
    | TaskRunsBegan
    | TaskRunEnded
    | TaskRunLost
    | WorkerRemoved
    | ValueLost
    | TimerFired
    | CancelAsked
    | ClusterLost
    | Stalled
)
