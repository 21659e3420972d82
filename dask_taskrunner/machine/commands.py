"""What the machine answers: frozen and imperative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import PlannedRun

#: Of a run that stands behind nothing out of the ordinary.
NO_NUMBERS: Final[Mapping[int, int]] = {}


class Submission(NamedTuple):
    """One task run of a message to the cluster."""

    id: TaskRunId
    #: Names this send; never used twice for a task run.
    submission: int
    #: The run number that the body will have.
    run_number: int
    #: The number that an attempt of this send will have.
    attempt: int
    upstream_ids: tuple[TaskRunId, ...]
    #: Per upstream run: the submission whose future holds its state, or the state itself.
    upstream: tuple[int | Header, ...]
    #: Position of an upstream run in the plan -> how many of the above stand for it, where that is
    #: not one: the children of a mapped run.
    widths: Mapping[int, int] = NO_NUMBERS
    #: Position of an upstream run of which an element is taken -> how many it has promised.
    promised: Mapping[int, int] = NO_NUMBERS
    #: The submission of this run that has the result of the iteration before, and the number of
    #: this one.
    loop_from: int = 0
    loop_count: int = 1
    #: True where it is run whatever its trigger says.
    ignores_trigger: bool = False
    #: True where only the trigger of a mapped task is to be asked.
    expands: bool = False
    #: Position of an upstream run of which an element is taken -> the bytes of all of them.
    sizes: Mapping[int, int] = NO_NUMBERS
    #: Position of an upstream run -> how the states that stand for it belong together, where they
    #: are no list.
    trees: Mapping[int, Any] = NO_NUMBERS


class Grow(NamedTuple):
    """Plan the graph that a task run's body has returned; its future has it."""

    run: PlannedRun
    submission: int


class SubmitMany(NamedTuple):
    """Send these task runs in one message; each stands behind its upstream runs."""

    runs: tuple[Submission, ...]


class Release(NamedTuple):
    """Let go of the futures of these task runs."""

    ids: tuple[TaskRunId, ...]


class Settled(NamedTuple):
    """These task runs have ended: what only they needed can go."""

    ids: tuple[TaskRunId, ...]


class Forget(NamedTuple):
    """Nobody will speak of these task runs again."""

    ids: tuple[TaskRunId, ...]


class FetchHeader(NamedTuple):
    """Ask the cluster for the header of a finished future."""

    id: TaskRunId
    submission: int


class CallHook(NamedTuple):
    """Call the state handlers of a task run, or of the flow where ``id`` is None."""

    id: TaskRunId | None
    old: Header | None
    new: Header
    slug: str = ""
    #: The task, where the plan names it.
    owner: Any = None


class Note(NamedTuple):
    """Tell the user something that is no state."""

    text: str
    id: TaskRunId | None = None
    level: int = 20  # logging.INFO


class Finish(NamedTuple):
    """The flow run is over, or paused."""

    header: Header


Command: TypeAlias = (
    SubmitMany | Grow | Release | Settled | Forget | FetchHeader | CallHook | Note | Finish
)
