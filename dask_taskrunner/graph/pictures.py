"""Draws a flow: as text, and as a picture where Graphviz is installed."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_taskrunner.exceptions import TaskRunnerWarning
from dask_taskrunner.graph.edges import Edge
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


@dataclass
class _Line:
    """Tasks that look alike: one name, the same depth, trigger and kinds of upstream tasks."""

    depth: int
    remarks: tuple[str, ...]
    inputs: dict[str, list[str]] = field(default_factory=dict)
    slugs: list[str] = field(default_factory=list)


def draw(
    name: str, nodes: Sequence[Node], edges: Iterable[Edge], reference_tasks: Iterable[Node]
) -> Picture:
    """Return the drawing of a flow, whose nodes come in topological order."""
    incoming: dict[Node, list[Edge]] = {node: [] for node in nodes}
    for edge in edges:
        incoming[edge.downstream_task].append(edge)
    reference = frozenset(reference_tasks)
    text = _draw_text(name, nodes, incoming, reference)
    return Picture(text, _draw_dot(name, nodes, incoming, reference))


def _draw_text(
    name: str, nodes: Sequence[Node], incoming: dict[Node, list[Edge]], reference: frozenset[Node]
) -> str:
    depth: dict[Node, int] = {}
    lines: dict[object, _Line] = {}
    for node in nodes:
        upstream = [edge.upstream_task for edge in incoming[node]]
        depth[node] = max((depth[other] + 1 for other in upstream), default=0)
        kinds = frozenset((edge.key, edge.upstream_task.name) for edge in incoming[node])
        remarks = _remarks(node, reference)
        alike = (depth[node], node.name, kinds, remarks)
        line = lines.setdefault(alike, _Line(depth[node], remarks))
        line.slugs.append(node.slug)
        for edge in incoming[node]:
            slugs = line.inputs.setdefault(edge.key or "after", [])
            if edge.upstream_task.slug not in slugs:
                slugs.append(edge.upstream_task.slug)
    rows = []
    # Sorting is stable: at one depth the order of binding is kept.
    for line in sorted(lines.values(), key=lambda line: line.depth):
        inputs = "; ".join(_input_text(key, slugs) for key, slugs in line.inputs.items())
        left = "  " * (line.depth + 1) + _short(line.slugs)
        rows.append((left, " ".join(filter(None, [inputs and f"<- {inputs}", *line.remarks]))))
    width = min(max((len(left) for left, _ in rows), default=0), 48)
    drawn = [f"{left:<{width}}  {right}".rstrip() for left, right in rows]
    return "\n".join([f"flow {name!r}", *drawn])


def _input_text(key: str, slugs: list[str]) -> str:
    return f"after {_short(slugs)}" if key == "after" else f"{key}={_short(slugs)}"


def _short(slugs: list[str]) -> str:
    if len(slugs) > 3:
        return f"{slugs[0]} ... {slugs[-1]} ({len(slugs)})"
    return ", ".join(slugs)


def _remarks(node: Node, reference: frozenset[Node]) -> tuple[str, ...]:
    if isinstance(node, Parameter):
        return (_parameter_text(node),)
    trigger = node.definition.trigger if isinstance(node, BoundTask) else all_successful
    remarks = []
    if trigger is not all_successful:
        remarks.append(f"[{getattr(trigger, '__name__', repr(trigger))}]")
    if node in reference:
        remarks.append("*")
    return tuple(remarks)


def _parameter_text(parameter: Parameter) -> str:
    if parameter.default is NO_DEFAULT:
        return "(parameter)"
    return f"(parameter, default {_cut(repr(parameter.default))})"


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _draw_dot(
    name: str, nodes: Sequence[Node], incoming: dict[Node, list[Edge]], reference: frozenset[Node]
) -> str:
    identity = {node: f"n{number}" for number, node in enumerate(nodes)}
    lines = [f"digraph {_quoted(name)} {{", "  rankdir=LR", "  node [shape=box, style=rounded]"]
    for node in nodes:
        label = " ".join([node.slug, *_remarks(node, reference)])
        look = ", shape=ellipse" if isinstance(node, Parameter) else ""
        lines.append(f"  {identity[node]} [label={_quoted(label)}{look}]")
    for node in nodes:
        for edge in incoming[node]:
            # A dashed arrow orders, and passes nothing.
            look = "style=dashed" if edge.key is None else f"label={_quoted(edge.key)}"
            lines.append(f"  {identity[edge.upstream_task]} -> {identity[node]} [{look}]")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
