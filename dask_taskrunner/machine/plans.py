"""What a flow run is made of, as the machine is told of it before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId, child_slug

#: How a task run stands in the plan. ``run``: it is run, from the state that it is given or from
#: the beginning; ``given``: it has its final state already; ``outside``: it is not part of this
#: run; ``foreign``: it belongs to another run and ends there.
Role: TypeAlias = Literal["run", "given", "outside", "foreign"]


class MapPlan(NamedTuple):
    """How a mapped task run becomes its children.

    Attributes
    ----------
    by_index : mapping
        Position of an upstream run that is mapped itself -> the name of the argument: a child
        stands behind that one's child of its own index.
    elements : mapping
        Position of an upstream run of whose result each child takes an element -> the name of the
        argument.
    lengths : mapping
        Name of an argument that was there from the beginning -> its length.
    zip_shortest : bool
        True where the shortest tells how many children there are.
    common : int
        So many of the upstream runs are those of every child.
    own_upstream : sequence of tuple of TaskRunId
        Per child: what only it stands behind, where there is such.
    child_bytes : sequence of int
        Per child: bytes of its own in the message.
    promised : mapping
        Position of an upstream run of whose result each child takes an element -> how many there
        were when the children came to be, where that was in an earlier run.
    """

    by_index: Mapping[int, str] = {}
    elements: Mapping[int, str] = {}
    lengths: Mapping[str, int] = {}
    zip_shortest: bool = False
    common: int = 0
    own_upstream: Sequence[tuple[TaskRunId, ...]] = ()
    child_bytes: Sequence[int] = ()
    promised: Mapping[int, int] = {}


class InnerPlan(NamedTuple):
    """What a task run is made of whose body has returned a graph.

    Attributes
    ----------
    runs : tuple of TaskRunId
        Its inner runs: not those that one of them is made of.
    reference : tuple of TaskRunId
        Those whose states decide its state.
    results : tuple of TaskRunId
        Those whose results are its result.
    names : tuple of str or None
        Under which names they are in a dict; None for one alone.
    """

    runs: tuple[TaskRunId, ...]
    reference: tuple[TaskRunId, ...]
    results: tuple[TaskRunId, ...]
    names: tuple[str, ...] | None = None


class PlannedRun(NamedTuple):
    """A task run as the flow's plan has it.

    Plans list their runs in topological order, and ``id[0]`` is the position in that list.
    """

    id: TaskRunId
    #: The task's name: what views group by.
    name: str
    slug: str
    upstream: tuple[TaskRunId, ...]
    max_crash_retries: int = 2
    #: Bytes of its own in the message, for the size of slices.
    nbytes: int = 0
    #: True where the client must report its own changes of state to state handlers.
    has_handlers: bool = False
    #: True where the cluster is to be told that the run has ended.
    settles: bool = False
    role: Role = "run"
    #: The state that it has from the beginning; none where the role says all.
    given: Header | None = None
    #: The task with these handlers, for whoever calls them; of no meaning here.
    owner: Any = None
    #: True where somebody holds on to the result from the beginning.
    is_held: bool = False
    #: Where the task is mapped; its children have none.
    maps: MapPlan | None = None
    #: Positions of upstream runs of which it is passed a list, if these are mapped.
    lists: frozenset[int] = frozenset()
    #: Of a mapped run whose children are known from the beginning: those that are given, and None
    #: for each that is run. Where the run is given itself, all are.
    children: tuple[PlannedRun | None, ...] | None = None
    #: True where it is given and its result cannot be had: whoever stands behind it is told the
    #: state alone.
    has_no_result: bool = False
    #: True where it is given and its task can be run here, as it is where the result is lost.
    can_be_run: bool = False
    #: What goes out first where several can; -1 for its own position.
    wave: int = -1

    def reads_children(self, position: int) -> bool:
        """Return whether it reads children of a mapped run upstream, and not its state alone."""
        by_index = () if self.maps is None else self.maps.by_index
        return position in self.lists or position in by_index

    @property
    def order(self) -> tuple[int, int, int]:
        """Where it stands among what is to be sent: behind all that it stands behind.

        Chains of mapped tasks have one wave, so that they go out child by child.
        """
        n, map_index = self.id
        return (n if self.wave < 0 else self.wave, map_index, n)


class Plan(NamedTuple):
    """What a flow run is made of.

    Attributes
    ----------
    runs : tuple of PlannedRun
        In topological order.
    reference : frozenset of TaskRunId
        Whose states decide the flow run's.
    kept : frozenset of TaskRunId or None
        Whose results are held when nobody on the cluster needs them; None for all.
    has_handlers : bool
        True where the flow itself has state handlers.
    is_open : bool
        True where task runs may be added later, and are forgotten when nobody needs them.
    """

    runs: tuple[PlannedRun, ...]
    reference: frozenset[TaskRunId]
    kept: frozenset[TaskRunId] | None = frozenset()
    has_handlers: bool = False
    is_open: bool = False

    def keeps(self, id: TaskRunId) -> bool:
        """Return whether the result is held when nobody on the cluster needs it."""
        return self.kept is None or (id[0], -1) in self.kept


def plan_children(plan: PlannedRun, length: int) -> Iterator[PlannedRun]:
    """Yield the children of a mapped run."""
    maps = plan.maps
    assert maps is not None
    child = plan._replace(maps=None, children=None)
    lists = {plan.upstream[position] for position in plan.lists}
    for i in range(length):
        upstream = plan.upstream
        if maps.by_index:
            upstream = tuple(
                (id[0], i) if position in maps.by_index else id
                for position, id in enumerate(upstream)
            )
        if maps.own_upstream:
            upstream = (*upstream[: maps.common], *maps.own_upstream[i])
            child = child._replace(lists=_positions(upstream, lists))
        yield child._replace(
            id=(plan.id[0], i),
            slug=child_slug(plan.slug, i),
            upstream=upstream,
            nbytes=plan.nbytes + (maps.child_bytes[i] if maps.child_bytes else 0),
        )


def _positions(ids: tuple[TaskRunId, ...], wanted: set[TaskRunId]) -> frozenset[int]:
    return frozenset(position for position, id in enumerate(ids) if id in wanted)
