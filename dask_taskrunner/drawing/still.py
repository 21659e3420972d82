"""A drawing as an image in a page, for what is kept.

A notebook that is opened again is often not trusted, and pages such as GitHub's trust nobody: they
take what they do not know out of somebody's HTML, SVG included, and leave the texts that were in
it. An image they leave as it is.
"""

from __future__ import annotations

import base64
import zlib
from typing import NamedTuple

from dask_taskrunner.drawing.layout import Layout, Place
from dask_taskrunner.drawing.model import Drawing, DrawnNode
from dask_taskrunner.drawing.svg import as_svg, escaped, layout_of, tip


class Still(NamedTuple):
    """A drawing in the forms in which it stays.

    Attributes
    ----------
    svg : str
        By itself.
    html : str
        The same as an image, and what is told of each node where somebody points at it.
    """

    svg: str
    html: str


def still(drawing: Drawing, layout: Layout | None = None) -> Still:
    """Return a drawing as it stays; `layout` is what :func:`layout_of` has returned for it."""
    layout = layout or layout_of(drawing)
    svg = as_svg(drawing, layout, is_brief=True).encode()
    areas = "".join(map(_area, drawing.nodes, layout.places))
    # Pages know no other; where two have the same name they are the same.
    name = f"graph-{zlib.crc32(areas.encode()):08x}"
    image = (
        f'<img alt="{escaped(drawing.title)}" usemap="#{name}" '
        # Else notebooks make it as small as there is room, and nobody can read it any more. Pages
        # that do so all the same find its height for themselves.
        f'style="max-width:none" width="{layout.width:.0f}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
    )
    return Still(svg.decode(), f'{image}<map name="{name}">{areas}</map>')


def _area(node: DrawnNode, place: Place) -> str:
    corners = (place.x, place.y, place.x + place.width, place.y + place.height)
    where = ",".join(f"{number:.0f}" for number in corners)
    return f'<area shape="rect" coords="{where}" title="{escaped(tip(node))}">'
