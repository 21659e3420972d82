"""What the client sends with a task run and a flow run, and a value's form on the wire.

Only plain built-in types stand at the top, so that a process which has Dask but not this package
can receive, hold and pass on all of it; whatever is the user's lies inside as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

#: Marks what is ours; the number goes up when the form changes.
PROTOCOL: Final = "dtr1"
#: Marks headers, and a start report, on the client's topic. Where lines of what a body has logged
#: are still to be sent, they stand among the headers: three items instead of two.
HEADERS_MESSAGE: Final = "dtr1-headers"
BEGAN_MESSAGE: Final = "dtr1-began"
#: Marks such lines that come meanwhile.
LINES_MESSAGE: Final = "dtr1-lines"

#: A state and its value: the mark, ``pickle((list(header), slug))``, and a list of one pair
#: ``(pickle of the value, its buffers)``. In a list, because who opens it puts the value there.
#: Where a later run may take the value instead of running, one more such list, of what that run is
#: compared with.
WireState: TypeAlias = tuple[str, bytes, list[Any]] | tuple[str, bytes, list[Any], list[Any]]

#: Up to so many references are arguments of their own; more are one list, which costs Dask more.
NARROW: Final = 4


class Call(NamedTuple):
    """What is particular to one submission of one task run; travels as ``pickle(tuple(call))``."""

    run: str
    n: int
    map_index: int
    submission: int
    run_number: int
    attempt: int
    slug: str
    name: str
    #: Position of the task's definition in the flow's.
    definition: int
    #: ``pickle`` of the arguments by parameter name, with placeholders for upstream results.
    arguments: bytes
    #: Upstream states that no future holds: position -> (list(header), slug).
    by_value: Mapping[int, tuple[list[Any], str]]
    #: How many references come along: constants, upstream runs, and what it begins with, if that
    #: is a result that another run has cached, or a large state.
    references: int = 0
    #: How many of them, the first ones, are constants.
    constants: int = 0
    has_cached: bool = False
    #: True where the one reference is a plain value, of which a state is to be made.
    is_foreign: bool = False
    ignores_trigger: bool = False
    #: ``pickle`` of the state that the run begins with; None for what its run number says.
    initial: bytes | None = None
    #: What upstream runs are called here, whose states another flow run made: position -> slug.
    known_as: Mapping[int, str] = {}
    #: Position of an upstream run in the plan -> how many states stand for it, where that is not
    #: one: those of a mapped run's children.
    widths: Mapping[int, int] = {}
    #: Position of an upstream run of whose result a child takes an element -> its length.
    promised: Mapping[int, int] = {}
    #: ``pickle`` of the arguments that only this child has, by their places.
    own: bytes = b""
    #: Position of the constant that has the pickled arguments; -1 where they are in the call.
    template: int = -1
    #: Which iteration of a loop this is, from 1. From the second on, the last reference is the
    #: state of the one before.
    loop_count: int = 1
    #: True where only the trigger of a mapped task is asked.
    expands: bool = False
    #: True where the result is to be something of which others take elements.
    is_mapped_over: bool = False
    #: Position of an upstream run in the plan -> its slug, and how the states that stand for it
    #: belong together, where they are no list: a dict or a list of such, None for each state.
    trees: Mapping[int, tuple[str, Any]] = {}


def claim_name(run: str, *numbers: int) -> str:
    """Return what the first start of an attempt claims, so that a second one is found out.

    Parameters
    ----------
    run : str
        The flow run.
    *numbers : int
        The task run's two, the iteration, the run number, and that of the attempt: not the
        submission's, for what is sent once more uncounted may have begun before.
    """
    return "-".join(["dask-taskrunner", run, *map(str, numbers)])


class FlowDefinition(NamedTuple):
    """What all task runs of a flow run share; travels as ``[pickle(tuple(definition))]``.

    In a list, because who opens it puts the opened one there. Behind it stands what is sent along,
    if anything is: ``pickle((owner, [(name, digest), ...]))``, and the zipped files of each module.
    """

    run: str
    #: The Dask client's topic.
    topic: str
    #: One pickle per task definition.
    tasks: tuple[bytes, ...]
    #: The pickled entries of the context that are the same everywhere.
    context: bytes
