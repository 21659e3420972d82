"""What is drawn: nodes and edges, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class DrawnNode(NamedTuple):
    """A task, or a parameter; or many that look alike.

    Attributes
    ----------
    slug, name : str
        Of the task.
    remarks : str
        What else a drawing of a flow says of it: its trigger, a parameter's default.
    is_parameter : bool
        Whether it is a parameter, or something else that is there from the beginning.
    decides : bool
        Whether its state decides the flow's.
    state : str, optional
        The name of its state's class; None where nothing runs.
    counts : mapping
        Of many in one: how many are in which state, in the order in which they are shown.
    note : str
        What its state does not say: a countdown, how far it is.
    tip : str
        What is told of it where somebody points at it.
    has_line : bool
        Whether room is kept for a second line, for the note or for a bar.
    is_many : bool
        Whether it stands for many: with a bar of their states, and the note beside its name.
    """

    slug: str
    name: str
    remarks: str = ""
    is_parameter: bool = False
    decides: bool = False
    state: str | None = None
    counts: Mapping[str, int] = {}
    note: str = ""
    tip: str = ""
    has_line: bool = False
    is_many: bool = False


class DrawnEdge(NamedTuple):
    """One waits for the other, whose positions among the nodes these are.

    Attributes
    ----------
    source, target : int
        Positions.
    key : str or None
        The argument that gets the result; None where the edge orders only.
    """

    source: int
    target: int
    key: str | None = None


class Drawing(NamedTuple):
    """A whole graph.

    Attributes
    ----------
    title : str
        What stands above it.
    name : str
        What it is called in languages that want a name.
    nodes : sequence of DrawnNode
        Each behind all that it waits for.
    edges : sequence of DrawnEdge
        Between them.
    """

    title: str
    name: str
    nodes: Sequence[DrawnNode]
    edges: Sequence[DrawnEdge]
