"""Draws which state is a special case of which, from the classes themselves."""

from __future__ import annotations

from docutils import nodes
from docutils.parsers.rst import Directive

from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.svg import as_svg
from dask_taskrunner.states import STATE_CLASSES


class States(Directive):
    """The picture: each class beside its parent, in the color that it has everywhere."""

    def run(self):
        names = sorted(STATE_CLASSES, key=lambda name: len(STATE_CLASSES[name].__mro__))
        drawn = [
            DrawnNode(name, name, state=name, tip=STATE_CLASSES[name].__doc__) for name in names
        ]
        edges = [
            DrawnEdge(names.index(parent), place, "")
            for place, name in enumerate(names)
            if (parent := STATE_CLASSES[name].__base__.__name__) in names
        ]
        picture = as_svg(Drawing("states", "states", drawn, edges))
        return [nodes.raw("", f'<div style="overflow:auto">{picture}</div>', format="html")]


def setup(app):
    app.add_directive("states", States)
    return {"parallel_read_safe": True}
