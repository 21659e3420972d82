"""What the time before each body went to: places that were taken, and all the rest. Pure.

How many bodies a worker runs at a time is not in the history: it is taken to be as many as any was
ever seen to run, for workers are mostly alike, and one that came late may have had little to do. So
are its resources: as much as was ever seen to be used at a time.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from dask_taskrunner.insight.readings import Execution, Node, Reading

#: A clock that shows the seconds of an epoch is no more exact than that, at best.
_MOMENT: Final = 0.001
#: Sums of amounts that differ by less are the same.
_TINY: Final = 1e-9


class Spent(NamedTuple):
    """Where the time of a task run went, in seconds, from the end of what it waited for.

    Attributes
    ----------
    running : float
        In its bodies, those of lost and failed attempts among them.
    delayed : float
        Until a retry was due, or somebody let it go on.
    queued : float
        Until the worker that ran it had a place.
    fetching : float
        Until its inputs had come from other workers, after there was a place for it.
    overhead : float
        The rest: sending, scheduling, news on its way.
    """

    running: float = 0.0
    delayed: float = 0.0
    queued: float = 0.0
    fetching: float = 0.0
    overhead: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self)


class Places:
    """The places for bodies that a run's workers had.

    Parameters
    ----------
    bodies : iterable of Execution
        All that was executed.
    """

    def __init__(self, bodies: Iterable[Execution]) -> None:
        by_worker: defaultdict[str, list[Execution]] = defaultdict(list)
        for body in bodies:
            by_worker[body.worker].append(body)
        #: Worker -> how many bodies it runs at a time.
        self.threads: dict[str, int] = {}
        #: Worker -> when a place became free there after all had been taken.
        self._freed: dict[str, list[float]] = {}
        #: Worker and name of a resource -> how much of it was used when.
        self._resources: dict[tuple[str, str], _Use] = {}
        uses: dict[str, _Use] = {}
        for worker, there in by_worker.items():
            uses[worker] = use = _Use(moves for body in there for moves in _moves(body))
            self.threads[worker] = max(1, round(use.most))
            for name in {name for body in there for name, _ in body.needs}:
                used = _Use(
                    (at, step * amount)
                    for body in there
                    for needed, amount in body.needs
                    for at, step in _moves(body)
                    if needed == name
                )
                self._resources[worker, name] = used
        #: How much of each resource the worker used at a time that used most of it.
        self.most_resources: dict[str, float] = {}
        for (_, name), use in self._resources.items():
            self.most_resources[name] = max(use.most, self.most_resources.get(name, 0.0))
        for worker, use in uses.items():
            self._freed[worker] = use.freed(1, self.most_threads)
        self._lives = [_life(there) for there in by_worker.values()]

    def free_since(self, body: Execution) -> float:
        """Return since when the worker of a body had had a place for it, and what it needs."""
        took = _moves(body)[0][0]
        since = _last(self._freed[body.worker], took)
        for name, amount in body.needs:
            use, most = self._resources[body.worker, name], self.most_resources[name]
            since = max(since, _last(use.freed(amount, most), took))
        return since

    @property
    def most_workers(self) -> int:
        """How many workers there were at a time: one that died was replaced by another."""
        moves = sorted(move for began, ended in self._lives for move in ((began, 1), (ended, -1)))
        return max(itertools.accumulate(step for _, step in moves), default=1)

    @property
    def most_threads(self) -> int:
        """How many bodies the worker with the most of them ran at a time."""
        return max(self.threads.values(), default=1)

    def queued(self, body: Execution) -> float:
        """Return for how long a body that could have begun waited for a place."""
        return max(0.0, min(self.free_since(body), body.started) - body.available)

    def fetching(self, body: Execution) -> float:
        """Return for how long a body that had a place waited for inputs of other workers."""
        since = body.available + self.queued(body)
        return sum(max(0.0, end - max(begin, since)) for begin, end in body.fetched)


class _Use:
    """How much of something was used when.

    Parameters
    ----------
    moves : iterable of (float, float)
        Times, and how much more or less from then on.
    """

    def __init__(self, moves: Iterable[tuple[float, float]]) -> None:
        self._moves = sorted(moves)
        self._levels = list(itertools.accumulate(step for _, step in self._moves))
        #: What was used at most.
        self.most = max(self._levels, default=0.0)
        self._known: dict[float, list[float]] = {}

    def freed(self, amount: float, most: float) -> list[float]:
        """Return when so much was left again, of the most that there is, after it had not been."""
        if amount not in self._known:
            full = most - amount
            self._known[amount] = [
                at
                for (at, step), level in zip(self._moves, self._levels, strict=True)
                if level <= full + _TINY < level - step + _TINY
            ]
        return self._known[amount]


def _last(times: list[float], until: float) -> float:
    """Return the last of the times up to one; 0 where there is none."""
    at = bisect.bisect_right(times, until)
    return times[at - 1] if at else 0.0


def _moves(body: Execution) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return when a body took a place, and when it left it.

    What began when another ended has taken that one's place: so it took it a moment later.
    """
    moment = min(_MOMENT, (body.ended - body.started) / 2)
    return (body.started + moment, 1), (body.ended, -1)


def _life(bodies: list[Execution]) -> tuple[float, float]:
    lost = [body.ended for body in bodies if body.outcome == "worker-lost"]
    return min(body.started for body in bodies), max(lost, default=float("inf"))


def spent(node: Node, places: Places) -> Spent:
    """Return where the time of something went that has ended."""
    assert node.ended is not None
    if node.is_whole:
        return Spent()
    running = delayed = queued = fetching = 0.0
    since = node.ready
    ended = max([node.ready, *(body.ended for body in node.executions)])
    left = max(0.0, node.ended - ended)
    for body in node.executions:
        # A body that was let go may run on beside the next one.
        running += max(0.0, body.ended - max(body.started, since))
        delayed += max(0.0, body.available - since)
        queued += places.queued(body)
        fetching += places.fetching(body)
        since = max(since, body.ended)
    rest = max(0.0, node.ended - node.ready) - running - delayed - queued - fetching
    told = Spent(running, delayed, queued, fetching, max(0.0, rest))
    if node.until_end == "overhead":
        return told
    more = {node.until_end: getattr(told, node.until_end) + left}
    return told._replace(overhead=max(0.0, told.overhead - left), **more)


def places_of(reading: Reading) -> Places:
    """Return the places that a run's workers had."""
    return Places(reading.bodies)
