"""Draws a graph as SVG, which needs nothing else to be shown.

The same picture stands in light and in dark pages, in files, and where all style is taken out of
what others have written: so it has no style, takes no color from where it stands, and all its text
is on ground of its own.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.drawing.colors import color_of, readable_on
from dask_taskrunner.drawing.layout import Layout, Place, Size, lay_out, text_width
from dask_taskrunner.drawing.model import Drawing, DrawnNode
from dask_taskrunner.short_texts import shorten_name

_FONT: Final = 12.0
_SMALL: Final = 10.0
_PADDING: Final = 10.0
#: Room for a countdown; and beside a name for how many have finished.
_LINE_WIDTH: Final = 104.0
_BESIDE: Final = 100.0
_HEIGHT: Final = 26.0
_WITH_LINE: Final = 40.0
_BAR: Final = 6.0
#: Is seen on light and on dark ground.
_LINES: Final = "#808080"
#: What most texts are written in.
_TEXT: Final = "#000000"
#: The ground of what has no state.
_PLAIN: Final = "#f4f4f4"


def layout_of(drawing: Drawing) -> Layout:
    """Return where everything stands; it stays as it is while only states change."""
    sizes = [_size(node) for node in drawing.nodes]
    return lay_out(sizes, list(dict.fromkeys((e.source, e.target) for e in drawing.edges)))


def as_svg(drawing: Drawing, layout: Layout | None = None, *, is_brief: bool = False) -> str:
    """Return the graph as an ``<svg>``.

    Parameters
    ----------
    drawing : Drawing
        What is drawn.
    layout : Layout, optional
        What :func:`layout_of` has returned for the same nodes and edges.
    is_brief : bool
        Whether nodes tell nothing where somebody points at them.
    """
    layout = layout or layout_of(drawing)
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    # Where one of several edges between two nodes passes a value, the line says so.
    passing = {(e.source, e.target) for e in drawing.edges if e.key is not None}
    between = dict.fromkeys((edge.source, edge.target) for edge in drawing.edges)
    lines = [
        _edge(points, is_order=pair not in passing)
        for pair, points in zip(between, layout.lines, strict=True)
    ]
    placed = list(zip(drawing.nodes, layout.places, strict=True))
    boxes = [_box(node, place, is_brief=is_brief) for node, place in placed]
    texts = [text for node, place in placed for text in _inside(node, place)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(drawing.title)}" '
        f'font-family="system-ui,sans-serif" font-size="{_FONT:.0f}">'
        f'<g fill="none" stroke="{_LINES}">{"".join(lines)}</g>'
        f'<g stroke="{_LINES}">{"".join(boxes)}</g>'
        # Who points at a text means the node.
        f'<g fill="{_TEXT}" pointer-events="none">{"".join(texts)}</g></svg>'
    )


def _size(node: DrawnNode) -> Size:
    width = text_width(shorten_name(node.slug), _FONT)
    if node.has_line:
        # What stands in it changes, and the node stays as it is.
        width = width + _BESIDE if node.is_many else max(width, _LINE_WIDTH)
    return Size(width + 2 * _PADDING, _WITH_LINE if node.has_line else _HEIGHT)


def _edge(points: Sequence[tuple[float, float]], *, is_order: bool) -> str:
    (x, y), *rest = points
    path = [f"M{x:.0f} {y:.0f}"]
    for to_x, to_y in rest:
        middle = (x + to_x) / 2
        if abs(to_y - y) < 0.5:
            path.append(f"H{to_x:.0f}")
        else:
            path.append(f"C{middle:.0f} {y:.0f} {middle:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
    # The head of the arrow.
    path.append("m-5 -3.5l5 3.5l-5 3.5")
    dashed = ' stroke-dasharray="4 3"' if is_order else ""
    return f'<path d="{"".join(path)}"{dashed}/>'


def _box(node: DrawnNode, place: Place, *, is_brief: bool) -> str:
    look = f'fill="{_ground(node)}"'
    look += ' stroke-width="1.6"' if node.decides else ""
    look += f' rx="{place.height / 2 if node.is_parameter else 5:.0f}"'
    if is_brief:
        return _rect(place, look)
    named = f' data-slug="{escaped(node.slug)}"'
    named += f' data-state="{node.state}"' if node.state else ""
    return _rect(place, look + named, f"<title>{escaped(tip(node))}</title>")


def _ground(node: DrawnNode) -> str:
    return _PLAIN if node.state is None else color_of(node.state)


def _inside(node: DrawnNode, place: Place) -> Iterator[str]:
    """Yield what stands in a node's box."""
    color = readable_on(_ground(node))
    look = "" if color == _TEXT else f' fill="{color}"'
    first = place.y + (17 if node.has_line else place.height / 2 + 4)
    yield _text(place.x + _PADDING, first, shorten_name(node.slug), look)
    small = f'{look} font-size="{_SMALL:.0f}"'
    if node.is_many and node.has_line:
        end = place.x + place.width - _PADDING
        if node.note:
            yield _text(end, first, node.note, f'{small} text-anchor="end"')
        yield _bar(node.counts, place)
    elif node.note:
        yield _text(place.x + _PADDING, place.y + 31, shorten_name(node.note), small)


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}"{look}>{escaped(text)}</text>'


def escaped(text: str) -> str:
    """Return a text as XML takes it, in which a control code is an error."""
    return html.escape(harmless(text))


def tip(node: DrawnNode) -> str:
    """Return what is told of a node where somebody points at it."""
    told = node.tip or " ".join(filter(None, [node.slug, node.remarks]))
    return f"{told}\ndecides the flow's state" if node.decides else told


def _bar(counts: Mapping[str, int], place: Place) -> str:
    width, total = place.width - 2 * _PADDING, sum(counts.values())
    if not total:
        return ""
    # Even one of thousands is to be seen.
    shares = [max(width * count / total, 2.0) for count in counts.values()]
    scale = width / sum(shares)
    x, y = place.x + _PADDING, place.y + 25
    # On the node's own color a state of the same color would not be seen.
    parts = [_rect(Place(x - 1, y - 1, width + 2, _BAR + 2), 'rx="2" fill="#ffffff"')]
    for state, share in zip(counts, shares, strict=True):
        look = f'fill="{color_of(state)}" data-state="{state}"'
        parts.append(_rect(Place(x, y, share * scale, _BAR), look))
        x += share * scale
    return "".join(parts)


def _rect(place: Place, look: str, inside: str = "") -> str:
    x, y, width, height = (f"{number:.1f}".removesuffix(".0") for number in place)
    end = f">{inside}</rect>" if inside else "/>"
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {look}{end}'
