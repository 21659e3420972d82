"""The graph of a flow: nodes in the order of their binding, edges, and no cycle.

It knows nothing of what the nodes are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from dask_taskrunner.exceptions import CycleError
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.tasks import Node


class Dag:
    """Nodes and edges; each question is answered in the order of binding."""

    def __init__(self) -> None:
        #: Node -> its place in the order of binding.
        self._place: dict[Node, int] = {}
        #: All edges; a dict, because it keeps their order.
        self._edges: dict[Edge, None] = {}
        self._incoming: dict[Node, list[Edge]] = {}
        self._outgoing: dict[Node, list[Edge]] = {}
        #: False while each edge leads from an earlier node to a later one: no cycle can be.
        self._has_backward_edges = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes."""
        return tuple(self._place)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, in the order in which they were added."""
        return tuple(self._edges)

    def __contains__(self, node: object) -> bool:
        return node in self._place

    def add(self, node: Node) -> None:
        """Add a node without edges."""
        self._place[node] = len(self._place)
        self._incoming[node] = []
        self._outgoing[node] = []

    def connect(self, edges: Iterable[Edge]) -> None:
        """Add edges to one node; those that are there already are not added again.

        Raises
        ------
        CycleError
            With one of them there would be a cycle; none is added.
        """
        new = [edge for edge in dict.fromkeys(edges) if edge not in self._edges]
        for edge in new:
            self._refuse_cycle(edge)
        for edge in new:
            self._edges[edge] = None
            self._outgoing[edge.upstream_task].append(edge)
            self._incoming[edge.downstream_task].append(edge)
            if self._is_backward(edge):
                self._has_backward_edges = True

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes with an edge to `node`."""
        found = {edge.upstream_task for edge in self._incoming[node]}
        return tuple(sorted(found, key=self._place.__getitem__))

    def downstream(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes to which an edge leads from `node`."""
        found = {edge.downstream_task for edge in self._outgoing[node]}
        return tuple(sorted(found, key=self._place.__getitem__))

    def in_order(self) -> tuple[Node, ...]:
        """Return all nodes, each behind those upstream of it, else in the order of binding."""
        if not self._has_backward_edges:
            return self.nodes
        nodes = self.nodes
        waits_for = {node: len(self.upstream(node)) for node in nodes}
        ready = [place for place, node in enumerate(nodes) if not waits_for[node]]
        found = []
        while ready:
            node = nodes[heapq.heappop(ready)]
            found.append(node)
            for other in self.downstream(node):
                waits_for[other] -= 1
                if not waits_for[other]:
                    heapq.heappush(ready, self._place[other])
        return tuple(found)

    def _is_backward(self, edge: Edge) -> bool:
        return self._place[edge.upstream_task] >= self._place[edge.downstream_task]

    def _refuse_cycle(self, edge: Edge) -> None:
        # Calls only make edges from what is there to what is new, so a large flow is built
        # without any search.
        if not self._has_backward_edges and not self._is_backward(edge):
            return
        path = self._path(edge.downstream_task, edge.upstream_task)
        if path:
            raise CycleError([node.slug for node in [*path, path[0]]])

    def _path(self, start: Node, end: Node) -> list[Node]:
        """Return the nodes along a path of edges; nothing where there is none."""
        if start is not end and not self._incoming[end]:
            return []
        came_from: dict[Node, Node | None] = {start: None}
        stack = [start]
        while stack:
            node = stack.pop()
            if node is end:
                return _walk_back(came_from, end)
            for edge in self._outgoing[node]:
                if edge.downstream_task not in came_from:
                    came_from[edge.downstream_task] = node
                    stack.append(edge.downstream_task)
        return []


def _walk_back(came_from: dict[Node, Node | None], end: Node) -> list[Node]:
    path = []
    node: Node | None = end
    while node is not None:
        path.append(node)
        node = came_from[node]
    return path[::-1]
