"""Makes one node of many that look alike: a hundred boxes in a column tell nobody anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.states import OWN_FAILURES

#: More than so many that look alike are one.
ALIKE: Final = 12
#: So many of them are named where somebody points at it.
_NAMED: Final = 5

#: Returns states in the order in which they are shown.
Order: TypeAlias = Callable[[Mapping[str, int]], Sequence[tuple[str, int]]]


def as_it_comes(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return states in the order in which they were counted."""
    return list(counts.items())


class Gathering:
    """Which nodes of a graph are drawn as one; it stays as it is while only states change.

    Nodes look alike that have one name, and wait for the same, or for what looks alike itself.

    Parameters
    ----------
    drawing : Drawing
        All nodes.
    """

    def __init__(self, drawing: Drawing) -> None:
        kinds = _kinds(drawing)
        sizes = Counter(kinds)
        #: For each node: where it is drawn.
        self.place_of: list[int] = []
        self._members: list[list[int]] = []
        places: dict[int, int] = {}
        for number, kind in enumerate(kinds):
            place = places.get(kind)
            if place is None or sizes[kind] <= ALIKE:
                place = places[kind] = len(self._members)
                self._members.append([])
            self._members[place].append(number)
            self.place_of.append(place)
        edges = {
            (self.place_of[edge.source], self.place_of[edge.target], edge.key): None
            for edge in drawing.edges
        }
        self._edges = [DrawnEdge(*edge) for edge in edges]

    def __call__(self, drawing: Drawing, order: Order = as_it_comes) -> Drawing:
        """Return the graph with these nodes drawn as one.

        Parameters
        ----------
        drawing : Drawing
            The graph of the beginning, maybe in other states.
        order : callable
            Puts states in the order in which a bar shows them.
        """
        nodes = [
            drawing.nodes[members[0]]
            if len(members) == 1
            else _as_one([drawing.nodes[member] for member in members], order)
            for members in self._members
        ]
        return drawing._replace(nodes=nodes, edges=self._edges)


def _kinds(drawing: Drawing) -> list[int]:
    sources: list[set[int]] = [set() for _ in drawing.nodes]
    for edge in drawing.edges:
        sources[edge.target].add(edge.source)
    numbers: dict[object, int] = {}
    kinds: list[int] = []
    for node, upstream in zip(drawing.nodes, sources, strict=True):
        behind = frozenset(kinds[source] for source in upstream)
        # What has children has a bar of its own.
        alike = (node.name, node.remarks, node.is_parameter, behind, node.is_many and node.slug)
        kinds.append(numbers.setdefault(alike, len(numbers)))
    return kinds


def _as_one(nodes: Sequence[DrawnNode], order: Order) -> DrawnNode:
    first = nodes[0]
    states = Counter(node.state for node in nodes if node.state is not None)
    counts = dict(order(states))
    named = [node.slug for node in nodes if node.state in OWN_FAILURES]
    more = f", and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    told = f"\nfailed: {', '.join(named[:_NAMED])}{more}" if named else ""
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    return first._replace(
        slug=f"{first.name} x {len(nodes)}",
        state=_state_of(counts),
        counts=counts,
        note="",
        decides=any(node.decides for node in nodes),
        has_line=bool(counts),
        is_many=True,
        tip=f"{first.slug} ... {nodes[-1].slug}: {counted or len(nodes)}{told}",
    )


def _state_of(counts: Mapping[str, int]) -> str | None:
    """Return the state that many are in together, if there is one: where not, the bar tells."""
    return next(iter(counts)) if len(counts) == 1 else None
