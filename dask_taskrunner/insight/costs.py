"""What running a body costs besides the body, as one run has shown it: for a replay. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple, TypeAlias

from dask_taskrunner.insight.readings import Execution, Needs, Node, NodeId, Reading
from dask_taskrunner.insight.waits import Places

#: What is smaller travels with the news, and takes no time of its own.
_LIGHT: Final = 10_000


#: How many bytes of a result lie on which worker.
Spread: TypeAlias = Mapping[Hashable, float]


class Stage(NamedTuple):
    """One execution to be replayed.

    Attributes
    ----------
    delay : float
        From the end of what it waits for until it might begin: a retry's, an approval's.
    latency : float
        From then until it begins on a worker that has a place.
    seconds : float
        In the body.
    needs : tuple of (str, float)
        What of a worker's resources it has for itself meanwhile.
    """

    delay: float
    latency: float
    seconds: float
    needs: Needs = ()


class Costs:
    """What was measured of one run.

    Parameters
    ----------
    reading : Reading
        Of the run.
    places : Places
        That its workers had.
    """

    def __init__(self, reading: Reading, places: Places) -> None:
        self._places = places
        #: Where the result of each node lies.
        self._lies: dict[NodeId, Spread] = {}
        for node in reading.nodes.values():
            worker = node.executions[-1].worker if node.executions else None
            self._lies[node.id] = spread(node, worker, self._lies)
        self._latencies: defaultdict[bool, list[float]] = defaultdict(list)
        changes: list[float] = []
        heavy: list[tuple[Node, float, float, float]] = []
        for node in reading.ended:
            for body in node.executions:
                gap = body.started - body.available
                queued = places.queued(body)
                moved = self.moved(node, body.worker)
                if queued > 0:
                    changes.append(gap - queued)
                elif moved < _LIGHT:
                    self._latencies[not node.waits_for].append(gap)
                else:
                    heavy.append((node, moved, gap, places.fetching(body)))
        #: Seconds between two bodies for which one place was waited for.
        self.change = statistics.median(changes) if changes else 0.0
        #: Whether workers have told when they fetched what.
        self._is_told = any(fetching for *_, fetching in heavy)
        took = [(moved, fetching) for _, moved, _, fetching in heavy if fetching]
        if not self._is_told:
            # Then it is what took longer than usual.
            took = [(moved, max(0.0, gap - self._usual(node))) for node, moved, gap, _ in heavy]
        total = sum(seconds for _, seconds in took)
        #: Bytes a second; None where nothing large was moved.
        self.bandwidth = sum(moved for moved, _ in took) / total if total > 0 else None

    def moved(self, node: Node, worker: str) -> float:
        """Return how many bytes a node's inputs had to travel to a worker."""
        return lacking(node, worker, self._lies)

    def seconds_for(self, nbytes: float) -> float:
        """Return how long it takes to move so many bytes."""
        return 0.0 if self.bandwidth is None or nbytes < _LIGHT else nbytes / self.bandwidth

    def stages(self, node: Node, factor: float) -> list[Stage]:
        """Return what is to be replayed of a node, its bodies being so many times as long."""
        assert node.ended is not None
        found, since = [], node.ready
        for body in node.executions:
            delay = max(0.0, body.available - since)
            seconds = (body.ended - body.started) * factor
            found.append(Stage(delay, self._latency(node, body), seconds, body.needs))
            since = body.ended
        return found

    def without_body(self, node: Node) -> float:
        """Return how long something took that was decided without a body."""
        assert node.ended is not None
        return 0.0 if node.is_whole else min(node.ended - node.ready, self._usual(node))

    def _latency(self, node: Node, body: Execution) -> float:
        if self._places.queued(body) > 0:
            # It waited for a place meanwhile; how long it would have taken, others have shown.
            return self._usual(node)
        moved = self.moved(node, body.worker)
        fetching = self._places.fetching(body) if self._is_told else self.seconds_for(moved)
        # What is light was fetched within the usual time.
        return max(0.0, body.started - body.available - fetching * (moved >= _LIGHT))

    def _usual(self, node: Node) -> float:
        found = self._latencies[not node.waits_for] or self._latencies[bool(node.waits_for)]
        return statistics.median(found) if found else 0.0


def spread(node: Node, worker: Hashable, lies: Mapping[NodeId, Spread]) -> Spread:
    """Return where the result of a node lies that ended on a worker, and where its inputs lie."""
    if not node.is_whole:
        return {} if worker is None else {worker: float(node.nbytes)}
    found: defaultdict[Hashable, float] = defaultdict(float)
    for part in node.waits_for:
        # The body of what has grown has returned a graph, and nobody reads that.
        for there, nbytes in lies.get(part, {}).items() if part[0] != node.id[0] else ():
            found[there] += nbytes
    return found


def lacking(node: Node, worker: Hashable, lies: Mapping[NodeId, Spread]) -> float:
    """Return how many bytes of what a node reads do not lie on a worker."""
    return sum(
        node.shares.get(source, 1.0)
        * sum(n for there, n in lies[source].items() if there != worker)
        for source in node.waits_for
        if source in lies
    )
