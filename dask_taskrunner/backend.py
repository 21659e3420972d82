"""The seam between the client's brain and a cluster: all that a second engine would have to do.

It is described here once and knows no Dask. The Dask backend and the fake of the tests both keep
it, and one contract test holds them to it.

A flow run opens a channel. Commands go in by its methods, which neither block nor raise for what
happens on the cluster; news comes out through the ``post`` that it was opened with, from any
thread and in the order in which it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from dask_taskrunner.clocks import Clock
from dask_taskrunner.headers import Header, TaskRunId, child_slug
from dask_taskrunner.logs import LogStore
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Event
from dask_taskrunner.placement import Need, WorkerView


class Shared:
    """What several task runs need and is sent once. Two are the same only as the same object."""

    __slots__ = ("__weakref__",)


class Code(Shared):
    """Pickled task definitions.

    Parameters
    ----------
    tasks : tuple of bytes
        One pickle per definition.
    """

    __slots__ = ("tasks",)

    def __init__(self, tasks: tuple[bytes, ...]) -> None:
        self.tasks = tasks


class Constant(Shared):
    """A large argument.

    Parameters
    ----------
    data : bytes or None
        Its pickle; None once it is not needed any more.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes | None) -> None:
        self.data = data


class Foreign(NamedTuple):
    """What a cluster has of its own kind, as far as a plan has to know it.

    Attributes
    ----------
    types : tuple of type
        Stand for a value on the cluster, and are somebody else's.
    kept : tuple of type
        Are sent as they are, and must live on here until the runs that get them have ended.
    problem : callable
        Returns why one of `types` cannot be used on this connection, or None.
    """

    types: tuple[type, ...] = ()
    kept: tuple[type, ...] = ()
    problem: Callable[[Any], str | None] = lambda _: None


#: Of a cluster that has nothing, or that is not there yet.
NOTHING_FOREIGN: Final = Foreign()


class MapSpec(NamedTuple):
    """What sets the children of a mapped run apart from each other.

    Attributes
    ----------
    by_index : frozenset of int
        Positions of upstream runs that are children of the same index.
    own : sequence of bytes
        Per child: its pickled own arguments, where it has any.
    own_constants : mapping
        Index of a child -> its own large arguments.
    own_at : int
        Where those stand among the constants.
    common : int
        So many of the upstream runs are those of every child.
    own_slugs : sequence of tuple of str
        Per child: the names of its own upstream runs, where it has any.
    cached : mapping
        Index of a child -> the future that has the cached state it begins with.
    """

    by_index: frozenset[int] = frozenset()
    own: Sequence[bytes] = ()
    own_constants: Mapping[int, tuple[Constant, ...]] = {}
    own_at: int = 0
    common: int = 0
    own_slugs: Sequence[tuple[str, ...]] = ()
    cached: Mapping[int, Any] = {}


class RunSpec(NamedTuple):
    """What the cluster is told of one task run, whichever submission it is.

    Attributes
    ----------
    name, slug : str
        The task's name and the task run's.
    code, definition : Code, int
        The definition of the task, and its position there.
    arguments : bytes
        The pickled arguments, with placeholders for constants and upstream results.
    upstream_slugs : tuple of str
        The names of its upstream runs.
    priority : float
        Larger goes first.
    resources : mapping or None
        What a worker must have.
    workers : tuple of str or None
        Where it may run.
    constants : tuple of Constant
        Its large arguments.
    ignores_trigger : bool
        True where it is run whatever its trigger and a skip upstream say.
    initial : bytes or None
        The pickled state that it begins with, where that is not known from its run number.
    cached : object or None
        A future that has the cached state it begins with, or the large pickled state itself, as a
        Constant.
    known_as : mapping
        Position of an upstream run whose state another flow run made -> its slug here.
    foreign : object or None
        What the cluster has under another name: a future of somebody else's, of whose value this
        run makes a state.
    held : object or None
        The future that has the state of a run that is not run here.
    wire : tuple or None
        That state with its value, where no future has it yet.
    keeps : tuple
        What must not be let go before the run ends.
    maps : MapSpec or None
        Where the task is mapped; see :func:`spec_of`.
    own : bytes
        The pickled arguments of this child alone.
    template : int
        Position of the constant that has the pickled arguments, where these are many bytes and of
        many children; else -1.
    is_mapped_over : bool
        True where its result is to be something of which others take elements.
    claims : bool
        True where a second start of the same attempt is to be found out.
    splits : mapping
        Position of an upstream run of which each child reads an element and no more -> from how
        many bytes on it is cut, so that no child has the whole moved.
    """

    name: str
    slug: str
    code: Code
    definition: int
    arguments: bytes
    upstream_slugs: tuple[str, ...]
    priority: float = 0.0
    resources: Mapping[str, float] | Callable[[int], Mapping[str, float]] | None = None
    workers: tuple[str, ...] | None = None
    constants: tuple[Constant, ...] = ()
    ignores_trigger: bool = False
    initial: bytes | None = None
    cached: Any = None
    foreign: Any = None
    held: Any = None
    wire: tuple[Any, ...] | None = None
    keeps: tuple[Any, ...] = ()
    known_as: Mapping[int, str] = {}
    maps: MapSpec | None = None
    own: bytes = b""
    template: int = -1
    is_mapped_over: bool = False
    splits: Mapping[int, float] = {}
    claims: bool = False


def spec_of(specs: Mapping[TaskRunId, RunSpec], id: TaskRunId) -> RunSpec | None:
    """Return what the cluster is told of a task run, or None where that was forgotten.

    A child has no spec of its own: there may be very many, which hardly differ.
    """
    spec = specs.get(id)
    if spec is None and id[1] >= 0 and (id[0], -1) in specs:
        return _child_spec(specs[id[0], -1], id[1])
    return spec


def _child_spec(spec: RunSpec, map_index: int) -> RunSpec:
    maps = spec.maps
    assert maps is not None
    slugs, known_as = spec.upstream_slugs, spec.known_as
    if known_as:
        known_as = _child_known_as(spec, maps, map_index)
    if maps.by_index:
        slugs = tuple(
            child_slug(slug, map_index) if position in maps.by_index else slug
            for position, slug in enumerate(slugs)
        )
    if maps.own_slugs:
        slugs = (*slugs[: maps.common], *maps.own_slugs[map_index])
    constants = spec.constants
    if map_index in maps.own_constants:
        own = maps.own_constants[map_index]
        constants = (*constants[: maps.own_at], *own, *constants[maps.own_at :])
    return spec._replace(
        slug=child_slug(spec.slug, map_index),
        upstream_slugs=slugs,
        constants=constants,
        own=maps.own[map_index] if maps.own else b"",
        cached=maps.cached.get(map_index),
        known_as=known_as,
        maps=None,
    )


def _child_known_as(spec: RunSpec, maps: MapSpec, map_index: int) -> dict[int, str]:
    """Return what a child calls what another flow run made: its own ones stand elsewhere."""
    known_as = {
        position: child_slug(slug, map_index) if position in maps.by_index else slug
        for position, slug in spec.known_as.items()
        if position < maps.common
    }
    own = maps.own_slugs[map_index] if maps.own_slugs else ()
    elsewhere = set(spec.known_as.values())
    known_as |= {maps.common + n: slug for n, slug in enumerate(own) if slug in elsewhere}
    return known_as


class FlowSpec(NamedTuple):
    """What the cluster is told of a flow run.

    Attributes
    ----------
    run : str
        Eight hexadecimal digits that no other run has.
    context : mapping
        The entries of the context that all task runs share.
    runs : mapping
        Per task run.
    is_open : bool
        True where task runs may be added later.
    """

    run: str
    context: Mapping[str, Any]
    runs: Mapping[TaskRunId, RunSpec] = {}
    is_open: bool = False


class Channel(Protocol):
    """One flow run's way to the cluster and back.

    Attributes
    ----------
    logs : LogStore
        What its task runs have logged: it is no news for the machine, and comes in here.
    """

    logs: LogStore

    #: What time it is there.
    clock: Clock
    #: For how many seconds nothing may happen before the run ends; None for as long as it likes.
    stall_timeout: float | None

    @property
    def place(self) -> object:
        """The connection: what :meth:`share` gives is of use only on the same one."""

    def submit(self, runs: Sequence[Submission]) -> None:
        """Send task runs, each behind its upstream runs; news of each comes later."""

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of futures. What has not started never starts."""

    def add(self, runs: Mapping[TaskRunId, RunSpec]) -> None:
        """Take note of task runs that will be submitted later."""

    def settle(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of what only these task runs needed, which have ended."""

    def forget(self, ids: Sequence[TaskRunId]) -> None:
        """Forget task runs of which nobody will speak again."""

    def hold(self, id: TaskRunId, future: Any) -> None:
        """Take over what :meth:`share` of another channel gave as a task run's future."""

    def share(self, id: TaskRunId) -> Any:
        """Return a future of the state of a task run for somebody else, or None if it is gone."""

    def value_future(self, id: TaskRunId, header: Header) -> Any:
        """Return the cluster's own kind of future, of the plain value of a state.

        Raises
        ------
        ResultReleased
            No future holds it, and the header does not say all of it.
        """

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        """Have the header of a finished future posted."""

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        """Return a held value, or a held exception.

        Raises
        ------
        ResultReleased
            No future holds it.
        ResultLost
            The future's end took it along.
        ResultNotSerializable
            It cannot be opened here.
        TimeoutError
            It did not arrive in time.
        """

    def fetch_many(self, ids: Sequence[TaskRunId], timeout: float | None) -> dict[TaskRunId, Any]:
        """Return those of the held values that can be had, in one message."""

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a future of the task run is held."""

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:
        """Look for what nobody reported: losses, removed workers, a lost cluster.

        ``awaited`` says of which task runs the machine waits for news.
        """

    def look(self, timeout: float = 0.0) -> Sequence[WorkerView] | None:
        """Ask who is there, and return the newest answer, if there has been one.

        The machine's thread waits for nothing; whoever does waits for so many seconds at most.
        """

    def need(self, id: TaskRunId, slug: str) -> Need:
        """Return what a task run that was sent asks of a worker."""

    def finish(self) -> None:
        """Send nothing more; what is held stays held until it is released."""

    def close(self) -> None:
        """Let go of everything."""


class OpensRuns(Protocol):
    """What a flow run needs of a connection."""

    def open_run(self, spec: FlowSpec, post: Callable[[Event], None]) -> Channel:
        """Return a new flow run's channel; ``post`` gets its news."""


class Backend(OpensRuns, Protocol):
    """A connection to a cluster."""

    @property
    def place(self) -> object:
        """The connection, as the channels that were opened on it have it."""

    @property
    def foreign(self) -> Foreign:
        """What it has of its own kind."""

    def share(self, future: Any) -> Any:
        """Return one more future of the same state; None where that is gone, or on another cluster.

        What ``future`` holds must not be let go meanwhile.
        """

    def is_at_hand(self, future: Any) -> bool:
        """Return whether a state is there, and not being made again because it was lost."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something, in some thread, unless the connection has ended by then."""

    def workers(self) -> Sequence[WorkerView] | None:
        """Return who is there; None where that says nothing, for others may come."""

    def close(self) -> None:
        """End the subscription and the connection, where this package opened it."""
