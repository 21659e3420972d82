"""Replays a flow run as it would have gone on other workers, or with other bodies. Pure.

A list scheduler: whatever could begin waits in the order in which it would be sent, and takes the
next place on a worker which has what it needs, where most of its inputs lie if there are several.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from dask_taskrunner.insight.costs import Costs, Spread, Stage, lacking, spread
from dask_taskrunner.insight.readings import Needs, Node, NodeId, Reading
from dask_taskrunner.insight.waits import places_of
from dask_taskrunner.view.text import format_duration, format_some

#: What is so many seconds apart happens at a time: the seconds of an epoch are no more exact, and
#: chance is not to decide what takes a place first.
_AT_ONCE: Final = 1e-5
#: So many factors are named.
_NAMED: Final = 3


class Prediction(NamedTuple):
    """How long a flow run would have taken.

    Attributes
    ----------
    seconds : float
        So long.
    measured : float
        How long it did take.
    unchanged : float
        What the same reckoning makes of the run as it was: how far that is from `measured` tells
        how far it is to be trusted.
    workers, threads : int
        So many workers, with so many bodies at a time on each.
    factors : mapping
        What takes how many times as long as it did.
    """

    seconds: float
    measured: float
    unchanged: float
    workers: int
    threads: int
    factors: Mapping[str, float]

    def __str__(self) -> str:
        named = format_some((f"{name} x {by:g}" for name, by in self.factors.items()), _NAMED)
        with_ = f"with {named}, " if named else ""
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{with_}on {workers} of {threads}: {format_duration(self.seconds)}; "
            f"it took {format_duration(self.measured)}, "
            f"and replayed as it was {format_duration(self.unchanged)}"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))


def predict(
    reading: Reading,
    named: Mapping[str, float],
    factors: Mapping[NodeId, float],
    workers: int | None,
    threads: int | None,
) -> Prediction:
    """Return how long a run would have taken.

    Parameters
    ----------
    reading : Reading
        Of the run as it was.
    named : mapping
        What the user calls what takes how many times as long.
    factors : mapping
        The same by node.
    workers, threads : int, optional
        How many workers, and bodies at a time on each; default: as it was.
    """
    places = places_of(reading)
    costs = Costs(reading, places)
    size = (places.most_workers, places.most_threads)
    wanted = (workers or size[0], threads or size[1])
    has = places.most_resources
    seconds = _Replay(reading, costs, factors, *wanted, has).seconds()
    unchanged = _Replay(reading, costs, {}, *size, has).seconds()
    return Prediction(seconds, reading.seconds, unchanged, *wanted, named)


Move = Literal["arrives", "frees", "ends"]
_Waiting: TypeAlias = tuple[tuple[int, ...], int, Node, Stage]


class _Replay:
    """One replay on its way."""

    def __init__(
        self,
        reading: Reading,
        costs: Costs,
        factors: Mapping[NodeId, float],
        workers: int,
        threads: int,
        resources: Mapping[str, float],
    ) -> None:
        self._costs = costs
        nodes = reading.ended
        self._nodes = {node.id: node for node in nodes}
        self._tail = reading.seconds - max((node.ended or 0.0 for node in nodes), default=0.0)
        self._stages = {node.id: costs.stages(node, factors.get(node.id, 1.0)) for node in nodes}
        self._readers: defaultdict[NodeId, list[Node]] = defaultdict(list)
        self._missing: dict[NodeId, int] = {}
        for node in nodes:
            sources = [source for source in node.waits_for if source in self._nodes]
            self._missing[node.id] = len(sources)
            for source in sources:
                self._readers[source].append(node)
        self._ranks = _ranks(nodes)
        #: Where each result lies.
        self._lies: dict[NodeId, Spread] = {}
        self._ran_on: dict[NodeId, int] = {}
        self._free, self._places = [threads] * workers, threads * workers
        #: What each worker has left of its resources.
        self._left = [dict(resources) for _ in range(workers)]
        #: What waits, apart by what it needs: of those that need the same, the first goes first.
        self._waiting: defaultdict[Needs, list[_Waiting]] = defaultdict(list)
        self._moves: list[tuple[float, int, Move, Any]] = []
        self._order = itertools.count()
        self._end = 0.0

    def seconds(self) -> float:
        for node in self._nodes.values():
            if not self._missing[node.id]:
                self._begin(node, 0.0)
        while self._moves:
            until = self._moves[0][0] + _AT_ONCE
            # All that happens at a time happens before a place is given away.
            while self._moves and self._moves[0][0] <= until:
                now, _, move, what = heapq.heappop(self._moves)
                self._make(move, what, now)
            self._place(now)
        return self._end + max(0.0, self._tail)

    def _at(self, time: float, move: Move, what: Any) -> None:
        heapq.heappush(self._moves, (time, next(self._order), move, what))

    def _make(self, move: Move, what: Any, now: float) -> None:
        if move == "frees":
            worker, needs = what
            self._take(worker, needs, -1)
        elif move == "arrives":
            node, stage = what
            waiting = (self._ranks[node.id], next(self._order), node, stage)
            heapq.heappush(self._waiting[stage.needs], waiting)
        else:
            self._go_on(what, now)

    def _begin(self, node: Node, now: float) -> None:
        if node.executions:
            self._go_on(node, now)
        else:
            self._at(now + self._costs.without_body(node) * node.is_here, "ends", node)

    def _go_on(self, node: Node, now: float) -> None:
        """Have the next stage of a node arrive, or what waits for it begin."""
        if self._stages[node.id]:
            stage = self._stages[node.id].pop(0)
            self._at(now + stage.delay + stage.latency, "arrives", (node, stage))
            return
        self._end = max(self._end, now)
        self._lies[node.id] = spread(node, self._ran_on.get(node.id), self._lies)
        for reader in self._readers[node.id]:
            self._missing[reader.id] -= 1
            if not self._missing[reader.id]:
                self._begin(reader, now)

    def _place(self, now: float) -> None:
        """Give places to what waits for one, as long as there are any."""
        while (needs := self._next()) is not None:
            _, _, node, stage = heapq.heappop(self._waiting[needs])
            worker, lacks = self._best_for(node, needs)
            self._take(worker, needs, 1)
            self._ran_on[node.id] = worker
            ended = now + self._costs.seconds_for(lacks) + stage.seconds
            self._at(ended, "ends", node)
            self._at(ended + self._costs.change, "frees", (worker, needs))

    def _next(self) -> Needs | None:
        """Return what that needs which is next among all for which there is a place."""
        if not self._places:
            return None
        first = [
            (waiting[0][:2], needs)
            for needs, waiting in self._waiting.items()
            # For what needs nothing any place will do.
            if waiting and (not needs or self._open_to(needs))
        ]
        return min(first, default=(None, None))[1]

    def _open_to(self, needs: Needs) -> list[int]:
        """Return the workers that have a place, and what is needed besides."""
        found = [worker for worker, free in enumerate(self._free) if free]
        for name, amount in needs:
            # What was measured in parts may not add up to the last digit.
            found = [worker for worker in found if amount <= self._left[worker][name] + 1e-9]
        return found

    def _take(self, worker: int, needs: Needs, times: int) -> None:
        """Take a place on a worker and what is needed besides, or give them back."""
        self._free[worker] -= times
        self._places -= times
        for name, amount in needs:
            self._left[worker][name] -= amount * times

    def _best_for(self, node: Node, needs: Needs) -> tuple[int, float]:
        """Return the worker with a place that has most of a node's inputs, and what it lacks."""
        places = self._open_to(needs)
        lacks: dict[int, float] = {}
        if self._costs.bandwidth is not None:
            lacks = {worker: lacking(node, worker, self._lies) for worker in places}
        # Of those that are alike, the one with most places.
        best = min(places, key=lambda worker: (lacks.get(worker, 0.0), -self._free[worker]))
        return best, lacks.get(best, 0.0)


def _ranks(nodes: list[Node]) -> dict[NodeId, tuple[int, ...]]:
    """Return in which order what waits is begun: what is further downstream first."""
    depths: dict[NodeId, int] = {}
    for node in nodes:
        above = max((depths.get(source, 0) for source in node.waits_for), default=0)
        depths[node.id] = above + bool(node.executions)
    return {node.id: (-depths[node.id], *node.order) for node in nodes}
