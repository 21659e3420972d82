"""Draws a graph as lines of text, in the language of Graphviz, and in that of Mermaid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dask_taskrunner.drawing.colors import color_of, readable_on
from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode

#: Names are set apart from what is said of them, up to this width.
_WIDTH: Final = 48


class _Line(NamedTuple):
    """Nodes that look alike: one name, the same depth, remarks and kinds of upstream nodes."""

    depth: int
    remarks: str
    slugs: list[str]
    #: Argument's name -> slugs of what it is made of; an empty name for what only orders.
    inputs: dict[str, dict[str, None]]


def as_text(drawing: Drawing) -> str:
    """Return each node on a line, further in than all that is upstream of it."""
    rows = []
    for line in _lines(drawing):
        inputs = ", ".join(
            f"{key}={_short([*slugs])}" if key else f"after {_short([*slugs])}"
            for key, slugs in line.inputs.items()
        )
        right = " ".join(filter(None, [inputs and f"<- {inputs}", line.remarks]))
        rows.append(("  " * (line.depth + 1) + _short(line.slugs), right))
    width = min(max((len(left) for left, _ in rows), default=0), _WIDTH)
    drawn = [f"{left:<{width}}  {right}".rstrip() for left, right in rows]
    foot = ["* decides the flow's state"] if any(row[1].endswith("*") for row in rows) else []
    return "\n".join([drawing.title, *drawn, *foot])


def _lines(drawing: Drawing) -> list[_Line]:
    nodes, incoming = drawing.nodes, _incoming(drawing)
    depth: list[int] = []
    lines: dict[object, _Line] = {}
    for node, edges in zip(nodes, incoming, strict=True):
        depth.append(max((depth[edge.source] + 1 for edge in edges), default=0))
        kinds = frozenset((edge.key, nodes[edge.source].name) for edge in edges)
        remarks = _remarks(node)
        alike = (depth[-1], node.name, remarks, kinds)
        line = lines.setdefault(alike, _Line(depth[-1], remarks, [], {}))
        line.slugs.append(node.slug)
        for edge in edges:
            line.inputs.setdefault(edge.key or "", {})[nodes[edge.source].slug] = None
    # Sorting is stable: at one depth the order of binding is kept.
    return sorted(lines.values(), key=lambda line: line.depth)


def _incoming(drawing: Drawing) -> list[list[DrawnEdge]]:
    incoming: list[list[DrawnEdge]] = [[] for _ in drawing.nodes]
    for edge in drawing.edges:
        incoming[edge.target].append(edge)
    return incoming


def _remarks(node: DrawnNode) -> str:
    counted = ", ".join(f"{count} {state}" for state, count in node.counts.items())
    state = counted or node.state or ""
    noted = f"{state} ({node.note})" if state and node.note else state or node.note
    return " ".join(filter(None, [node.remarks, noted, "*" if node.decides else ""]))


def _short(slugs: list[str]) -> str:
    if len(slugs) > 3:
        return f"{slugs[0]} ... {slugs[-1]} ({len(slugs)})"
    return " ".join(slugs)


def as_dot(drawing: Drawing) -> str:
    """Return the graph in Graphviz's language."""
    lines = [
        f"digraph {_quoted(drawing.name)} {{",
        "  rankdir=LR",
        "  node [shape=box, style=rounded]",
    ]
    for number, node in enumerate(drawing.nodes):
        looks = [f"label={_quoted(_label(node))}"]
        looks += ["shape=ellipse"] if node.is_parameter else []
        if node.state is not None:
            color = color_of(node.state)
            looks += ['style="rounded,filled"', f'fillcolor="{color}"']
            looks += [f'fontcolor="{readable_on(color)}"']
        lines.append(f"  n{number} [{', '.join(looks)}]")
    for edge in drawing.edges:
        # A dashed arrow orders, and passes nothing.
        look = "style=dashed" if edge.key is None else f"label={_quoted(edge.key)}"
        lines.append(f"  n{edge.source} -> n{edge.target} [{look}]")
    return "\n".join([*lines, "}", ""])


def _label(node: DrawnNode) -> str:
    return f"{node.slug} {_remarks(node)}".rstrip()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def as_mermaid(drawing: Drawing) -> str:
    """Return the graph in Mermaid's language, which GitHub and others draw."""
    lines = ["flowchart LR"]
    for number, node in enumerate(drawing.nodes):
        text = _entities(_label(node))
        # Rounded ends for what is given, a box for what is done.
        lines.append(f'  n{number}(["{text}"])' if node.is_parameter else f'  n{number}["{text}"]')
    for edge in drawing.edges:
        arrow = "-.->" if edge.key is None else f'-->|"{_entities(edge.key)}"|'
        lines.append(f"  n{edge.source} {arrow} n{edge.target}")
    return "\n".join([*lines, *_classes(drawing.nodes), ""])


def _classes(nodes: Iterable[DrawnNode]) -> list[str]:
    members: dict[str, list[str]] = {}
    for number, node in enumerate(nodes):
        if node.state is not None:
            members.setdefault(node.state, []).append(f"n{number}")
    lines = []
    for state, names in members.items():
        color = color_of(state)
        lines.append(f"  classDef {state} fill:{color},color:{readable_on(color)}")
        lines.append(f"  class {','.join(names)} {state}")
    return lines


def _entities(text: str) -> str:
    # Mermaid reads HTML's entities without the ampersand, and a quote ends a text.
    for sign in '#&<>"':
        text = text.replace(sign, f"\0{ord(sign)};")
    return " ".join(text.replace("\0", "#").split())
