"""An edge of a flow's graph."""

from __future__ import annotations

from typing import Any, NamedTuple

from dask_taskrunner.graph.tasks import BoundTask, Node


class Edge(NamedTuple):
    """One task waits for another, and may get its result.

    Attributes
    ----------
    upstream_task : BoundTask or Parameter
    downstream_task : BoundTask
    key : str or None
        The parameter of the downstream task that gets the upstream's result, alone or inside
        something larger; None where the edge orders only.
    mapped : bool
        True where each child of the downstream task gets an element of it.
    """

    upstream_task: Node
    downstream_task: BoundTask[Any]
    key: str | None = None
    mapped: bool = False

    def __repr__(self) -> str:
        key = "" if self.key is None else f" as {self.key!r}"
        mapped = ", mapped" if self.mapped else ""
        return f"<Edge {self.upstream_task.slug} -> {self.downstream_task.slug}{key}{mapped}>"
