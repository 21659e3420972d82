"""What there is to draw of a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.picture import Picture
from dask_taskrunner.graph.flow_graph import FlowGraph
from dask_taskrunner.graph.parameters import NO_DEFAULT, Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.triggers import all_successful

#: So many letters of a default are shown.
_LETTERS: Final = 40


def draw(flow: FlowGraph) -> Picture:
    """Return the drawing of a flow."""
    nodes = flow.sorted_tasks()
    reference = frozenset(flow.reference_tasks())
    places: Mapping[Node, int] = {node: place for place, node in enumerate(nodes)}
    edges = [
        DrawnEdge(places[edge.upstream_task], places[edge.downstream_task], edge.key)
        for edge in flow.edges
    ]
    drawn = [_drawn(node, flow, decides=node in reference) for node in nodes]
    return Picture(Drawing(f"flow {flow.name!r}", flow.name, drawn, edges))


def _drawn(node: Node, flow: FlowGraph, *, decides: bool) -> DrawnNode:
    if isinstance(node, Parameter):
        has_default = node.default is not NO_DEFAULT
        told = f"(parameter, default {_cut(node.default)})" if has_default else "(parameter)"
        return DrawnNode(node.slug, node.name, told, is_parameter=True)
    definition = cast("BoundTask[Any]", node).definition
    trigger = definition.with_defaults(flow.task_defaults, {}).trigger
    name = getattr(trigger, "__name__", repr(trigger))
    told = "" if trigger is all_successful else f"[{name}]"
    return DrawnNode(node.slug, node.name, told, decides=decides)


def _cut(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 3]}..."
