"""What a plan says of a mapped task: for the machine, how it is expanded; for the cluster, what
sets its children apart. Whatever can be wrong with an element is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dask_taskrunner.backend import Constant, MapSpec, RunSpec
from dask_taskrunner.graph.tasks import BoundTask
from dask_taskrunner.headers import child_slug
from dask_taskrunner.machine.plans import MapPlan, PlannedRun
from dask_taskrunner.packing import Packer
from dask_taskrunner.wiring import Wiring

#: Arguments that all children share are sent once from here on; the scheduler holds what rides in
#: each child's own message.
SHARED_FROM: Final = 1_000


def spec_for_children(
    spec: RunSpec,
    wiring: Wiring,
    tasks: Sequence[BoundTask[Any]],
    packer: Packer,
    split_above: float,
) -> RunSpec:
    """Return what the cluster is told of a mapped task's run and of all its children.

    Raises
    ------
    UnpicklableArgument, LargeArgument
        An element cannot be sent; the error names the child.
    """
    for_all = len(packer.for_all)
    common = spec.constants[: len(spec.constants) - for_all]
    if len(spec.arguments) >= SHARED_FROM:
        # Each child opens it anew, and so may change what it got.
        shared = packer.share(spec.arguments)
        spec = spec._replace(arguments=b"", template=len(common))
        common = (*common, shared)
    own: list[bytes] = []
    labels = list(wiring.lengths)
    own_constants: dict[int, tuple[Constant, ...]] = {}
    for i, elements in enumerate(wiring.own):
        data, constants = packer.pack(child_slug(spec.slug, i), elements, common, labels)
        own.append(data)
        if found := constants[len(common) : len(constants) - for_all]:
            own_constants[i] = found
    maps = MapSpec(
        frozenset(wiring.places(is_child=True)),
        own,
        own_constants,
        len(common),
        len(wiring.wires),
        [tuple(tasks[source].slug for source in sources) for sources in wiring.own_sources],
    )
    splits = {
        place: split_above
        for place in wiring.places(is_child=False)
        # Whoever reads all of it needs all of it.
        if wiring.wires[place].source not in wiring.whole
    }
    constants = (*common, *reversed(packer.for_all))
    return spec._replace(constants=constants, maps=maps, splits=splits)


def with_maps(
    run: PlannedRun, wiring: Wiring, definition: Any, spec: RunSpec, wave: int
) -> PlannedRun:
    """Return a planned run with what it has besides where its task, or one upstream, is mapped."""
    if spec.maps is None:
        return run._replace(lists=wiring.lists) if wiring.lists else run
    maps = MapPlan(
        by_index=wiring.places(is_child=True),
        elements=wiring.places(is_child=False),
        lengths=wiring.lengths,
        zip_shortest=definition.zip_shortest,
        common=len(wiring.wires),
        own_upstream=[tuple((s, -1) for s in sources) for sources in wiring.own_sources],
        child_bytes=[len(data) for data in spec.maps.own],
    )
    settles = bool(spec.constants) or bool(spec.maps.own_constants)
    return run._replace(lists=wiring.lists, maps=maps, settles=settles, wave=wave)


def waves(wirings: Sequence[Wiring]) -> list[int]:
    """Return, per task, with which task's children its own go out, child by child.

    Not before anything that one of them stands behind.
    """
    found: list[int] = []
    for n, wiring in enumerate(wirings):
        children = {wire.source for wire in wiring.wires if wire.is_child}
        others = [source for source in wiring.sources if source not in children]
        found.append(max([*(found[source] for source in children), *others]) if children else n)
    return found
