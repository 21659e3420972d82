"""Where the nodes of a graph stand."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from dask_taskrunner.drawing.layout import GAP_X, MARGIN, Size, lay_out


def some_graph(seed, count, layers=6):
    """A random one, in topological order."""
    dice = random.Random(seed)
    sizes = [Size(dice.uniform(40, 160), dice.choice([26, 40])) for _ in range(count)]
    near = max(count // layers, 2)
    edges = {
        (dice.randrange(max(0, target - 2 * near), target), target)
        for target in range(1, count)
        for _ in range(dice.choice([0, 1, 1, 2, 3]))
    }
    return sizes, sorted(edges)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_overlaps_and_everything_goes_to_the_right(seed):
    sizes, edges = some_graph(seed, 30)
    layout = lay_out(sizes, edges)
    for one, other in itertools.combinations(layout.places, 2):
        apart_x = one.x + one.width < other.x or other.x + other.width < one.x
        apart_y = one.y + one.height < other.y or other.y + other.height < one.y
        assert apart_x or apart_y, (one, other)
    for source, target in edges:
        assert layout.places[source].x + layout.places[source].width < layout.places[target].x


@pytest.mark.parametrize("seed", range(20))
def test_all_is_inside(seed):
    sizes, edges = some_graph(seed, 60)
    layout = lay_out(sizes, edges)
    points = [point for line in layout.lines for point in line]
    points += [(p.x, p.y) for p in layout.places]
    points += [(p.x + p.width, p.y + p.height) for p in layout.places]
    for x, y in points:
        assert MARGIN <= x <= layout.width - MARGIN + 1e-6
        assert MARGIN - 1e-6 <= y <= layout.height - MARGIN + 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_a_line_passes_no_node(seed):
    sizes, edges = some_graph(seed, 40)
    layout = lay_out(sizes, edges)
    for (source, target), line in zip(edges, layout.lines, strict=True):
        others = [p for node, p in enumerate(layout.places) if node not in (source, target)]
        # Where a layer is passed the line is level; in between there are no nodes.
        for (x, y), (to_x, to_y) in itertools.pairwise(line):
            if y == to_y:
                for p in others:
                    assert not (p.y < y < p.y + p.height and p.x < to_x and x < p.x + p.width)


def test_a_chain_is_a_straight_line():
    layout = lay_out([Size(50, 26)] * 5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert len({place.middle for place in layout.places}) == 1
    assert {y for line in layout.lines for _, y in line} == {layout.places[0].middle}


def test_two_chains_do_not_cross():
    # In the order of binding, the second layer is the wrong way round.
    layout = lay_out([Size(50, 26)] * 4, [(0, 3), (1, 2)])
    one, other = layout.places[:2], (layout.places[3], layout.places[2])
    assert (one[0].y < one[1].y) == (other[0].y < other[1].y)


def test_where_lines_climb_high_there_is_room_for_them():
    few = lay_out([Size(50, 26)] * 4, [(n, 3) for n in range(3)])
    many = lay_out([Size(50, 26)] * 31, [(n, 30) for n in range(30)])
    most = lay_out([Size(50, 26)] * 301, [(n, 300) for n in range(300)])
    gaps = [layout.places[-1].x - layout.places[0].x - 50 for layout in (few, many, most)]
    assert gaps[0] == GAP_X < gaps[1] <= gaps[2] == 3 * GAP_X


@pytest.mark.parametrize("seed", range(10))
def test_no_two_that_stand_side_by_side_would_cross_fewer_lines_if_they_were_swapped(seed):
    dice = random.Random(seed)
    edges = sorted({(dice.randrange(8), dice.randrange(8, 16)) for _ in range(20)} | {(7, 15)})
    places = lay_out([Size(50, 26)] * 16, edges).places
    height = [place.y for place in places]

    def crossings(height):
        pairs = itertools.combinations(edges, 2)
        return sum(
            (height[a] - height[c]) * (height[b] - height[d]) < 0 for (a, b), (c, d) in pairs
        )

    layers = [[node for node in range(16) if places[node].x == x] for x in {p.x for p in places}]
    for layer in layers:
        for one, other in itertools.pairwise(sorted(layer, key=height.__getitem__)):
            swapped = list(height)
            swapped[one], swapped[other] = height[other], height[one]
            assert crossings(swapped) >= crossings(height)


def test_what_waits_for_nothing_stands_right_before_the_first_that_needs_it():
    layout = lay_out([Size(50, 26)] * 4, [(0, 1), (1, 3), (2, 3)])
    assert layout.places[2].x == layout.places[1].x


def test_of_nothing_there_is_a_picture_of_nothing():
    assert lay_out([], []) == ([], [], 2 * MARGIN, 2 * MARGIN)
    assert lay_out([Size(50, 26)], []).width == 50 + 2 * MARGIN


def test_three_hundred_nodes_are_laid_out_within_a_second():
    sizes, edges = some_graph(1, 300, layers=10)
    began = time.perf_counter()
    lay_out(sizes, edges)
    assert time.perf_counter() - began < 1
