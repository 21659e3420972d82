"""Puts what was executed on workers into lanes, as the threads ran it: in one lane one at a time.

Which thread ran a body is not in the history. Of what overlapped on a worker each is in a lane of
its own, so that there are as many as threads were ever seen to be busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

#: Seconds by which one body may seem to begin before another has ended whose thread it takes: the
#: clock is read one after the other.
_MOMENT: Final = 0.001


class Span(NamedTuple):
    """Something that was executed, in seconds from the run's start."""

    worker: str
    started: float
    ended: float


class Lane(NamedTuple):
    """A place on a worker, where one body runs at a time."""

    worker: str
    place: int


class Placed(NamedTuple):
    """Where and when a span is drawn: it begins when the one before it in its lane has ended."""

    lane: int
    started: float
    ended: float


def in_lanes(spans: Sequence[Span]) -> tuple[list[Placed], list[Lane]]:
    """Return where each span is drawn, in their order, and the lanes, each worker's together.

    A span is known by its position, for two may be equal in all that they say.
    """
    ends: dict[str, list[float]] = {}
    found: list[tuple[str, int, float, float]] = [("", 0, 0.0, 0.0)] * len(spans)
    for number in sorted(range(len(spans)), key=lambda number: spans[number].started):
        worker, started, ended = spans[number]
        taken = ends.setdefault(worker, [])
        idle = (place for place, end in enumerate(taken) if end <= started + _MOMENT)
        place = next(idle, len(taken))
        started = max(started, taken[place] if place < len(taken) else 0.0)
        ended = max(started, ended)
        taken[place : place + 1] = [ended]
        found[number] = worker, place, started, ended
    lanes = [Lane(worker, place) for worker, taken in ends.items() for place in range(len(taken))]
    numbers = {lane: number for number, lane in enumerate(lanes)}
    placed = [
        Placed(numbers[Lane(worker, place)], started, ended)
        for worker, place, started, ended in found
    ]
    return placed, lanes
