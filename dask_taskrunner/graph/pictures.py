"""Draws a flow: as text, and as a picture where Graphviz is installed."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

from dask_taskrunner.exceptions import TaskRunnerWarning
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.flow_graph import FlowGraph
from dask_taskrunner.graph.parameters import NO_DEFAULT, Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.triggers import all_successful


class Picture:
    """A drawing of a flow: its ``str`` is text, and a notebook shows a picture if it can.

    Attributes
    ----------
    text : str
        Each task on a line, further in than all that is upstream of it.
    dot : str
        The same in Graphviz's language.
    """

    def __init__(self, text: str, dot: str) -> None:
        self.text = text
        self.dot = dot

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_svg_(self) -> str | None:
        image = self.render("svg")
        return None if image is None else image.decode()

    def render(self, format: str) -> bytes | None:
        """Return the picture in a format of Graphviz; None where Graphviz is not installed."""
        # The package only finds its program when it is used, so both are looked for.
        if shutil.which("dot") is None:
            return None
        try:
            # Not at the top of the file: it is optional, and importing us must stay cheap.
            graphviz: Any = importlib.import_module("graphviz")
        except ImportError:
            return None
        return bytes(graphviz.Source(self.dot).pipe(format=format))

    def save(self, filename: str, format: str | None = None) -> Path:
        """Write the picture to a file, and return its path.

        Without Graphviz a picture is written as text, beside the place where it would be, and a
        warning says so.
        """
        path = Path(filename)
        kind = format or path.suffix[1:] or "svg"
        if not path.suffix:
            path = path.with_suffix(f".{kind}")
        if kind in ("txt", "dot", "gv"):
            data: bytes | None = (self.text if kind == "txt" else self.dot).encode()
        else:
            data = self.render(kind)
        if data is None:
            path = path.with_suffix(".txt")
            warnings.warn(
                f"no Graphviz here (its program `dot`, and `pip install graphviz`): the flow was "
                f"drawn as text, in {str(path)!r}",
                TaskRunnerWarning,
                stacklevel=3,
            )
            data = self.text.encode()
        path.write_bytes(data)
        return path


class _Line(NamedTuple):
    """Tasks that look alike: one name, the same depth, remarks and kinds of upstream tasks."""

    depth: int
    remarks: str
    slugs: list[str]
    #: Argument's name -> slugs of what it is made of; an empty name for what only orders.
    inputs: dict[str, dict[str, None]]


def draw(flow: FlowGraph) -> Picture:
    """Return the drawing of a flow."""
    nodes = flow.sorted_tasks()
    incoming: dict[Node, list[Edge]] = {node: [] for node in nodes}
    for edge in flow.edges:
        incoming[edge.downstream_task].append(edge)
    reference = frozenset(flow.reference_tasks())
    remarks = {node: _remarks(node, flow, node in reference) for node in nodes}
    lines = _lines(incoming, remarks)
    return Picture(_text(flow, lines), _dot(flow, incoming, remarks))


def _lines(incoming: dict[Node, list[Edge]], remarks: dict[Node, str]) -> list[_Line]:
    depth: dict[Node, int] = {}
    lines: dict[object, _Line] = {}
    for node, edges in incoming.items():
        depth[node] = max((depth[edge.upstream_task] + 1 for edge in edges), default=0)
        kinds = frozenset((edge.key, edge.upstream_task.name) for edge in edges)
        alike = (depth[node], node.name, remarks[node], kinds)
        line = lines.setdefault(alike, _Line(depth[node], remarks[node], [], {}))
        line.slugs.append(node.slug)
        for edge in edges:
            line.inputs.setdefault(edge.key or "", {})[edge.upstream_task.slug] = None
    # Sorting is stable: at one depth the order of binding is kept.
    return sorted(lines.values(), key=lambda line: line.depth)


def _text(flow: FlowGraph, lines: list[_Line]) -> str:
    rows = []
    for line in lines:
        inputs = ", ".join(
            f"{key}={_short([*slugs])}" if key else f"after {_short([*slugs])}"
            for key, slugs in line.inputs.items()
        )
        right = " ".join(filter(None, [inputs and f"<- {inputs}", line.remarks]))
        rows.append(("  " * (line.depth + 1) + _short(line.slugs), right))
    width = min(max((len(left) for left, _ in rows), default=0), 48)
    drawn = [f"{left:<{width}}  {right}".rstrip() for left, right in rows]
    foot = ["* decides the flow's state"] if any(row[1].endswith("*") for row in rows) else []
    return "\n".join([f"flow {flow.name!r}", *drawn, *foot])


def _short(slugs: list[str]) -> str:
    if len(slugs) > 3:
        return f"{slugs[0]} ... {slugs[-1]} ({len(slugs)})"
    return " ".join(slugs)


def _remarks(node: Node, flow: FlowGraph, is_reference: bool) -> str:
    if isinstance(node, Parameter):
        has_default = node.default is not NO_DEFAULT
        return f"(parameter, default {_cut(node.default)})" if has_default else "(parameter)"
    definition = cast("BoundTask[Any]", node).definition
    trigger = definition.with_defaults(flow.task_defaults, {}).trigger
    name = getattr(trigger, "__name__", repr(trigger))
    words = [] if trigger is all_successful else [f"[{name}]"]
    return " ".join([*words, *(["*"] if is_reference else [])])


def _cut(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _dot(flow: FlowGraph, incoming: dict[Node, list[Edge]], remarks: dict[Node, str]) -> str:
    identity = {node: f"n{number}" for number, node in enumerate(incoming)}
    lines = [
        f"digraph {_quoted(flow.name)} {{",
        "  rankdir=LR",
        "  node [shape=box, style=rounded]",
    ]
    for node, name in identity.items():
        label = _quoted(f"{node.slug} {remarks[node]}".rstrip())
        look = ", shape=ellipse" if isinstance(node, Parameter) else ""
        lines.append(f"  {name} [label={label}{look}]")
    for edge in flow.edges:
        # A dashed arrow orders, and passes nothing.
        look = "style=dashed" if edge.key is None else f"label={_quoted(edge.key)}"
        ends = f"{identity[edge.upstream_task]} -> {identity[edge.downstream_task]}"
        lines.append(f"  {ends} [{look}]")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
