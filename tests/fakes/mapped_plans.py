"""Plans with mapped runs, told by the numbers of tasks: wired as a real flow's are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import MapPlan, PlannedRun
from dask_taskrunner.mapped_runs import waves
from dask_taskrunner.wiring import Wire, Wiring


class Over(NamedTuple):
    """What a task is mapped over, by the numbers of the tasks upstream."""

    #: Mapped themselves: a child stands behind the child of its own index.
    by_index: tuple[int, ...] = ()
    #: Of their results each child takes an element.
    elements: tuple[int, ...] = ()
    #: Known from the beginning.
    lengths: tuple[int, ...] = ()
    zip_shortest: bool = False
    #: A list with tasks in it: per element, which ones.
    own: tuple[tuple[int, ...], ...] = ()
    child_bytes: tuple[int, ...] = ()


NO_MAPS: Mapping[int, Over] = MappingProxyType({})
NO_LISTS: Mapping[int, Collection[int]] = MappingProxyType({})


def with_maps(
    runs: Sequence[PlannedRun],
    maps: Mapping[int, Over],
    lists: Mapping[int, Collection[int]],
) -> tuple[PlannedRun, ...]:
    """Return the runs of a plan with some mapped, and lists of children passed to some.

    Parameters
    ----------
    runs : sequence of PlannedRun
        All of the plan, each behind everything that it stands behind.
    maps : mapping
        Number of a mapped task -> what it is mapped over. A task upstream of it that is not named
        there is one of all its children.
    lists : mapping
        Number of a task -> the mapped ones upstream of which it is passed all results.
    """
    wirings = [_wiring(run, maps, lists.get(run.id[0], ())) for run in runs]
    return tuple(
        run._replace(
            upstream=tuple((source, -1) for source in wiring.sources),
            lists=wiring.lists,
            maps=_map_plan(maps.get(run.id[0]), wiring),
            wave=wave if run.id[0] in maps else -1,
        )
        for run, wiring, wave in zip(runs, wirings, waves(wirings), strict=True)
    )


def _wiring(run: PlannedRun, maps: Mapping[int, Over], whole: Collection[int]) -> Wiring:
    over = maps.get(run.id[0], Over())
    named = {*over.by_index, *(source for sources in over.own for source in sources)}
    common = {u for u, _ in run.upstream if u not in named} | {*over.elements, *whole}
    wires = sorted({Wire(u) for u in common} | {Wire(u, True) for u in over.by_index})
    columns = {f"a{u}": Wire(u, True) for u in over.by_index}
    columns |= {f"a{u}": Wire(u) for u in over.elements}
    lengths = {f"c{k}": length for k, length in enumerate(over.lengths)}
    if over.own:
        lengths["own"] = len(over.own)
    wiring = Wiring(tuple(wires), {}, frozenset(), columns, lengths, (), over.own)
    lists = {
        place
        for place, source in enumerate(wiring.sources)
        if source in maps
        and (place >= len(wires) or (source in whole and not wires[place].is_child))
    }
    return wiring._replace(lists=frozenset(lists))


def _map_plan(over: Over | None, wiring: Wiring) -> MapPlan | None:
    if over is None:
        return None
    return MapPlan(
        by_index=wiring.places(is_child=True),
        elements=wiring.places(is_child=False),
        lengths=wiring.lengths,
        zip_shortest=over.zip_shortest,
        common=len(wiring.wires),
        own_upstream=[tuple((u, -1) for u in sources) for sources in over.own],
        child_bytes=over.child_bytes,
    )


class ChildPlan(NamedTuple):
    """What one child of a mapped run stands behind, by the plan alone."""

    upstream: tuple[TaskRunId, ...]
    #: Positions of which it is passed a list, and of which it takes an element.
    lists: frozenset[int]
    elements: frozenset[int]


def child_plan(run: PlannedRun, map_index: int) -> ChildPlan:
    """Return what a child stands behind."""
    maps = run.maps
    assert maps is not None
    upstream = [
        (n, map_index) if position in maps.by_index else (n, -1)
        for position, (n, _) in enumerate(run.upstream[: maps.common])
    ]
    lists = {position for position in run.lists if position < maps.common}
    own = maps.own_upstream[map_index] if maps.own_upstream else ()
    for id in own:
        if run.upstream.index(id, maps.common) in run.lists:
            lists.add(len(upstream))
        upstream.append(id)
    return ChildPlan(tuple(upstream), frozenset(lists), frozenset(maps.elements))
