"""How each task of a flow is wired to what is upstream: positions in the plan, and placeholders.

What a mapped task is mapped over is told apart here: children of the same index, elements of a
result that is not there yet, and what is known already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from dask_taskrunner.backend import Foreign
from dask_taskrunner.foreign_arguments import foreign_in
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.mapping import (
    Each,
    check_lengths,
    columns_of,
    element_of,
    elements_of,
)
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.worker.placeholders import ElementPlaceholder, OwnPlaceholder, Placeholder


class Wire(NamedTuple):
    """One upstream run of a task: its position, and which of its runs are meant."""

    source: int
    #: True for the child of the same index, of what is mapped itself.
    is_child: bool = False


_NONE: Final[frozenset[int]] = frozenset()


class Wiring(NamedTuple):
    """How one task is wired.

    Attributes
    ----------
    wires : tuple of Wire
        What is upstream of each of its runs.
    arguments : dict
        With placeholders.
    lists : frozenset of int
        Which of the wires bring a list: all children of what is mapped itself.
    columns : mapping
        Name of an argument that is mapped over -> its wire; not of those that are known.
    lengths : mapping
        Name of an argument that is mapped over and known -> its length.
    own : sequence of dict
        Per child: the elements of what is known, with placeholders.
    own_sources : sequence of tuple of int
        Per child: the positions of tasks among these elements.
    whole : frozenset of int
        Positions of what is passed whole to each.
    """

    wires: tuple[Wire, ...]
    arguments: dict[str, Any]
    lists: frozenset[int] = frozenset()
    columns: Mapping[str, Wire] = {}
    lengths: Mapping[str, int] = {}
    own: Sequence[dict[int, Any]] = ()
    own_sources: Sequence[tuple[int, ...]] = ()
    whole: frozenset[int] = frozenset()

    @property
    def sources(self) -> list[int]:
        """The positions of everything upstream, single children's behind those of all."""
        sources = [wire.source for wire in self.wires]
        if self.own_sources:
            sources += dict.fromkeys(source for own in self.own_sources for source in own)
        return sources

    def places(self, *, is_child: bool) -> dict[int, str]:
        """Return which of the wires are mapped over in one way, with the names of the arguments."""
        return {
            self.wires.index(wire): label
            for label, wire in self.columns.items()
            if wire.is_child == is_child
        }


class Layout(NamedTuple):
    """Where everything stands in a plan."""

    tasks: Sequence[BoundTask[Any]]
    positions: Mapping[Node, int]
    #: Those of somebody else come first.
    futures: Sequence[Any]
    #: By the id of the future.
    foreign: Mapping[int, int]
    parameters: Mapping[str, Any]
    kinds: Foreign
    #: Large containers of many task runs in which there is nothing upstream.
    plain: dict[int, object]

    def kept(self, values: list[Any]) -> tuple[Any, ...]:
        """Return what must live as long as a run that gets these arguments."""
        if not self.kinds.kept:
            return ()
        # The parameters, too: the run may read them in its context.
        filled = [*values, *self.parameters.values()]
        found = find(filled, (Node, *self.kinds.types, *self.kinds.kept))
        return tuple(v for v in found if not isinstance(v, (Node, *self.kinds.types)))

    def wire(self, flow: Flow) -> list[Wiring]:
        """Return how each task is wired.

        Raises
        ------
        ArgumentError
            A parameter cannot be mapped over.
        """
        ordered: defaultdict[int, set[int]] = defaultdict(set)
        after_each: defaultdict[int, set[int]] = defaultdict(set)
        passed: defaultdict[int, set[int]] = defaultdict(set)
        for edge in flow.edges:
            source = self.positions.get(edge.upstream_task)
            # A parameter is no task run: it is there before the run begins.
            if source is not None:
                upstream = passed
                if edge.key is None:
                    upstream = after_each if edge.mapped else ordered
                upstream[self.positions[edge.downstream_task]].add(source)
        return [
            self._wire_mapped(task, ordered.get(n, _NONE), after_each.get(n, _NONE))
            if task.is_mapped
            else self._wire_one(task, ordered.get(n, _NONE), passed.get(n, _NONE))
            for n, task in enumerate(self.tasks)
        ]

    def _wire_one(self, task: BoundTask[Any], ordered: Set[int], passed: Set[int]) -> Wiring:
        if self.foreign:
            values = [self._with_parameters(value) for value in task.arguments.values()]
            passed = passed | {self.foreign[id(value)] for value in foreign_in(values, self.kinds)}
        places = {source: place for place, source in enumerate(sorted(ordered | passed))}

        def stand_in(found: Any) -> object:
            return Placeholder(places[self._position(found)])

        wanted = (Node, *self.kinds.types)
        arguments = {
            name: replace(self._with_parameters(value), wanted, stand_in, self.plain)
            for name, value in task.arguments.items()
        }
        lists = frozenset(places[source] for source in passed if self.tasks[source].is_mapped)
        return Wiring(tuple(map(Wire, places)), arguments, lists)

    def _wire_mapped(self, task: BoundTask[Any], ordered: Set[int], after_each: Set[int]) -> Wiring:
        given = {name: self._with_parameters(value) for name, value in task.arguments.items()}
        columns = columns_of(given, task.definition.shape)
        kinds = (Node, *self.kinds.types)
        far = {label: c for label, c in columns.items() if isinstance(c.values, kinds)}
        near = {label: c for label, c in columns.items() if label not in far}
        elements = {
            label: elements_of(task.slug, label, column.values) for label, column in near.items()
        }
        lengths = {label: len(values) for label, values in elements.items()}
        check_lengths(task.slug, lengths, zip_shortest=task.definition.zip_shortest)
        whole = {
            self._position(found)
            for found in find(given, (Each, *kinds))
            if not isinstance(found, Each)
        }
        wires = {label: self._wire_to(column.values) for label, column in far.items()}
        wires |= {f"after {self.tasks[n].slug}": Wire(n, is_child=True) for n in after_each}
        all_wires = sorted({Wire(source) for source in ordered | whole} | {*wires.values()})
        # A column is an object of its own, and so it is known again.
        known = {id(column): k for k, column in enumerate(near.values())}

        def stand_in(found: Any) -> object:
            if id(found) in known:
                return OwnPlaceholder(known[id(found)])
            if not isinstance(found, Each):
                return Placeholder(all_wires.index(Wire(self._position(found))))
            wire = self._wire_to(found.values)
            return (Placeholder if wire.is_child else ElementPlaceholder)(all_wires.index(wire))

        arguments = {
            name: replace(value, (Each, *kinds), stand_in) for name, value in given.items()
        }
        lists = {n for n, wire in enumerate(all_wires) if self._is_list(wire, whole)}
        count = min(lengths.values(), default=0)
        own, own_sources = self._own(list(elements.values()), count, len(all_wires))
        wiring = Wiring(tuple(all_wires), arguments, frozenset(), wires, lengths, own, own_sources)
        own_places = enumerate(wiring.sources[len(all_wires) :], len(all_wires))
        lists |= {place for place, source in own_places if self.tasks[source].is_mapped}
        return wiring._replace(lists=frozenset(lists), whole=frozenset(whole))

    def _own(
        self, columns: list[Any], count: int, first: int
    ) -> tuple[list[dict[int, Any]], list[tuple[int, ...]]]:
        """Return the elements of each child, with placeholders from `first` on, and their tasks."""
        kinds = (Node, *self.kinds.types)
        own: list[dict[int, Any]] = []
        own_sources: list[tuple[int, ...]] = []
        for i in range(count):
            row = {k: element_of(values, i) for k, values in enumerate(columns)}
            sources = list(dict.fromkeys(map(self._position, find(row, kinds))))

            def stand_in(found: Any, sources: list[int] = sources) -> object:
                return Placeholder(first + sources.index(self._position(found)))

            filled = {k: replace(value, kinds, stand_in) for k, value in row.items()}
            own.append(filled if sources else row)
            own_sources.append(tuple(sources))
        return own, own_sources if any(own_sources) else []

    def _position(self, found: Any) -> int:
        """Return the position of a task, or of somebody else's future."""
        if isinstance(found, Node):
            return self.positions[found]
        return self.foreign[id(found)]

    def _wire_to(self, column: Any) -> Wire:
        source = self._position(column)
        return Wire(source, self.tasks[source].is_mapped)

    def _is_list(self, wire: Wire, whole: set[int]) -> bool:
        is_mapped = self.tasks[wire.source].is_mapped
        return is_mapped and not wire.is_child and wire.source in whole

    def _with_parameters(self, value: Any) -> Any:
        """Return an argument with the values of parameters in it."""
        if not self.parameters:
            return value
        return replace(value, Parameter, lambda parameter: self.parameters[parameter.name])
