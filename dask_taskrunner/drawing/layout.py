"""Where the nodes of a graph stand: left to right, in layers, with few crossings.

The steps are those of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical
system structures", IEEE Trans. SMC 11 (1981): layers by the longest path, an invisible node for
each layer that an edge passes, orders by the barycenters of neighbors, then by swapping two, and
heights by least squares with the distances kept (pool adjacent violators).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

#: From one layer to the next, and from one node to the one below it.
GAP_X: Final = 46.0
GAP_Y: Final = 14.0
#: Where lines climb high there is more room, else all of them would be one upright line.
_STEEP: Final = 0.25
_WIDEST_GAP: Final = 3 * GAP_X
MARGIN: Final = 8.0
#: An edge that passes another node takes so much room.
_LANE: Final = 6.0
_SWEEPS: Final = 8
_SWAPS: Final = 4
#: More invisible nodes than this are not worth their time: long edges go straight.
_MOST_DUMMIES: Final = 4000


class Size(NamedTuple):
    """How large a node is drawn."""

    width: float
    height: float


class Place(NamedTuple):
    """Where a node is drawn: its left upper corner, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The height of its middle."""
        return self.y + self.height / 2


class Layout(NamedTuple):
    """A graph's.

    Attributes
    ----------
    places : sequence of Place
        One for each node.
    lines : sequence of sequence of (x, y)
        For each edge, from right of its source to left of its target, the points that it passes.
    width, height : float
        Of the whole, margins included.
    """

    places: Sequence[Place]
    lines: Sequence[Sequence[tuple[float, float]]]
    width: float
    height: float


def lay_out(sizes: Sequence[Size], edges: Sequence[tuple[int, int]]) -> Layout:
    """Return where everything stands.

    Parameters
    ----------
    sizes : sequence of Size
        Those of the nodes, in an order in which each stands behind all that it depends on.
    edges : sequence of (int, int)
        Positions of a source and of its target.
    """
    layer_of = _layers(len(sizes), edges)
    chains, layers, all_sizes = _with_dummies(sizes, edges, layer_of)
    left, right = _neighbors(chains, len(all_sizes))
    _untangle(layers, left, right)
    heights = _heights(layers, all_sizes, left, right)
    return _placed(sizes, edges, _Levels(layers, layer_of, chains, heights))


class _Levels(NamedTuple):
    """What the steps have found."""

    layers: list[list[int]]
    layer_of: list[int]
    #: For each edge: its source, the invisible nodes, its target.
    chains: list[list[int]]
    #: Of each node's middle.
    heights: list[float]


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    layer = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        layer[target] = max(layer[target], layer[source] + 1)
    # What waits for nothing stands right before the first that needs it.
    first: dict[int, int] = {}
    has_upstream = {target for _, target in edges}
    for source, target in edges:
        first[source] = min(first.get(source, count), layer[target])
    return [
        first[node] - 1 if node not in has_upstream and node in first else layer[node]
        for node in range(count)
    ]


def _with_dummies(
    sizes: Sequence[Size], edges: Sequence[tuple[int, int]], layer_of: list[int]
) -> tuple[list[list[int]], list[list[int]], list[Size]]:
    layers: list[list[int]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for node, layer in enumerate(layer_of):
        layers[layer].append(node)
    all_sizes = list(sizes)
    chains = []
    for source, target in edges:
        chain = [source]
        for layer in range(layer_of[source] + 1, layer_of[target]):
            if len(all_sizes) - len(sizes) >= _MOST_DUMMIES:
                break
            layers[layer].append(len(all_sizes))
            chain.append(len(all_sizes))
            all_sizes.append(Size(0.0, _LANE))
        chains.append([*chain, target])
    return chains, layers, all_sizes


def _neighbors(chains: list[list[int]], count: int) -> tuple[list[list[int]], list[list[int]]]:
    left: list[list[int]] = [[] for _ in range(count)]
    right: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for one, other in pairwise(chain):
            right[one].append(other)
            left[other].append(one)
    return left, right


def _untangle(layers: list[list[int]], left: list[list[int]], right: list[list[int]]) -> None:
    """Order each layer so that few edges cross."""
    position = [0.0] * len(left)

    def number(layer: list[int]) -> None:
        for place, node in enumerate(layer):
            # In the middle of 0 to 1, so that layers of different lengths can be compared.
            position[node] = (place + 0.5) / len(layer)

    for layer in layers:
        number(layer)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, right)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        side = left if forth else right
        for layer in layers if forth else reversed(layers):
            layer.sort(key=lambda node: _mean(side[node], position, position[node]))
            number(layer)
        crossings = _crossings(layers, right)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best
    _swap_neighbors(layers, left, right)


def _swap_neighbors(layers: list[list[int]], left: list[list[int]], right: list[list[int]]) -> None:
    """Swap two nodes, one above the other, where fewer edges cross then."""
    place = {node: at for layer in layers for at, node in enumerate(layer)}
    for _ in range(_SWAPS):
        is_better = False
        for layer in layers:
            # While one layer is put in order, those beside it stay.
            ends = [
                {node: sorted(place[other] for other in side[node]) for node in layer}
                for side in (left, right)
            ]
            for at in range(len(layer) - 1):
                upper, lower = layer[at : at + 2]
                now = sum(_crossed(ends_of[upper], ends_of[lower]) for ends_of in ends)
                if now > sum(_crossed(ends_of[lower], ends_of[upper]) for ends_of in ends):
                    layer[at : at + 2] = lower, upper
                    is_better = True
            place.update((node, at) for at, node in enumerate(layer))
        if not is_better:
            break


def _crossed(upper: list[int], lower: list[int]) -> int:
    """Return how often edges to these places cross, from one node and from the one below it."""
    return sum(bisect_left(lower, end) for end in upper)


def _mean(nodes: list[int], values: Sequence[float], default: float) -> float:
    return sum(values[node] for node in nodes) / len(nodes) if nodes else default


def _crossings(layers: list[list[int]], right: list[list[int]]) -> int:
    total = 0
    for layer, after in pairwise(layers):
        place = {node: at for at, node in enumerate(after)}
        ends = [
            at
            for node in layer
            for at in sorted(place[other] for other in right[node] if other in place)
        ]
        total += _inversions(ends, len(after))
    return total


def _inversions(ends: list[int], size: int) -> int:
    """Return how many pairs stand the wrong way round, by a Fenwick tree."""
    tree = [0] * (size + 1)
    total = 0
    for seen, end in enumerate(ends):
        at, smaller = end + 1, 0
        while at:
            smaller += tree[at]
            at &= at - 1
        total += seen - smaller
        at = end + 1
        while at <= size:
            tree[at] += 1
            at += at & -at
    return total


def _heights(
    layers: list[list[int]], sizes: Sequence[Size], left: list[list[int]], right: list[list[int]]
) -> list[float]:
    """Return the heights of the nodes' middles: near those of their neighbors, none too near."""
    heights = [0.0] * len(sizes)
    for layer in layers:
        _settle(layer, sizes, heights, [0.0] * len(layer))
    beside = [[*before, *after] for before, after in zip(left, right, strict=True)]
    # At last a chain goes straight on from where it begins.
    for near in [left, right] * 2 + [beside] * _SWEEPS + [left]:
        for layer in reversed(layers) if near is right else layers:
            wishes = [_mean(near[node], heights, heights[node]) for node in layer]
            _settle(layer, sizes, heights, wishes)
    return heights


def _settle(
    layer: list[int],
    sizes: Sequence[Size],
    heights: list[float],
    wishes: list[float],
) -> None:
    """Set a layer's heights as near to what is wished as the distances between them let it."""
    offsets, at = [], 0.0
    for place, node in enumerate(layer):
        if place:
            at += (sizes[layer[place - 1]].height + sizes[node].height) / 2 + GAP_Y
        offsets.append(at)
    # Without the distances, what is left to keep is the order: an isotonic regression.
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        total, count = wish - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            more, size = blocks.pop()
            total, count = total + more, count + size
        blocks.append((total, count))
    means = (total / count for total, count in blocks for _ in range(count))
    for node, offset, mean in zip(layer, offsets, means, strict=True):
        heights[node] = mean + offset


def _placed(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], levels: _Levels) -> Layout:
    layer_of, heights = levels.layer_of, levels.heights
    widths = [
        max((sizes[node].width for node in layer if node < len(sizes)), default=0.0)
        for layer in levels.layers
    ]
    lefts = [MARGIN]
    for width, gap in zip(widths, _gaps(levels), strict=True):
        lefts.append(lefts[-1] + width + gap)
    tops = [heights[node] - size.height / 2 for node, size in enumerate(sizes)]
    # Lines need room, too.
    shift = MARGIN - min([*tops, *heights[len(sizes) :]], default=0.0)
    places = [
        Place(lefts[layer_of[node]], tops[node] + shift, *size) for node, size in enumerate(sizes)
    ]
    middles = [height + shift for height in heights]
    span = _Span(lefts, widths, middles)
    lines = [
        _line(chain, places[source], places[target], layer_of[source], span)
        for chain, (source, target) in zip(levels.chains, edges, strict=True)
    ]
    bottoms = [place.y + place.height for place in places] + middles[len(sizes) :]
    width = lefts[-1] - GAP_X + MARGIN if places else 2 * MARGIN
    return Layout(places, lines, width, max(bottoms, default=MARGIN) + MARGIN)


def _gaps(levels: _Levels) -> list[float]:
    """Return how much room there is behind each layer."""
    climbs = [0.0] * len(levels.layers)
    for chain in levels.chains:
        for layer, (one, other) in enumerate(pairwise(chain), levels.layer_of[chain[0]]):
            climb = abs(levels.heights[other] - levels.heights[one])
            climbs[layer] = max(climbs[layer], climb)
    return [min(max(GAP_X, _STEEP * climb), _WIDEST_GAP) for climb in climbs]


class _Span(NamedTuple):
    """Where the layers stand, and how wide they are; and how high each node's middle is."""

    lefts: Sequence[float]
    widths: Sequence[float]
    middles: Sequence[float]


def _line(
    chain: list[int], source: Place, target: Place, layer: int, span: _Span
) -> list[tuple[float, float]]:
    points = [(source.x + source.width, source.middle)]
    # A layer is passed at the height of the invisible node, from its left to its right.
    points.append((span.lefts[layer] + span.widths[layer], source.middle))
    for passed, node in enumerate(chain[1:-1], layer + 1):
        left = span.lefts[passed]
        points += [(left, span.middles[node]), (left + span.widths[passed], span.middles[node])]
    return [*points, (target.x, target.middle)]


#: What a node's text is made of, for its width: a letter of a usual proportional font.
_LETTER: Final[Mapping[str, float]] = {
    **dict.fromkeys("iljtf.,:;'|![]() ", 0.38),
    **dict.fromkeys("mwMW@%", 1.0),
}


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in a font of so many pixels."""
    return sum(_LETTER.get(letter, 0.62 if letter.isascii() else 1.0) for letter in text) * size
