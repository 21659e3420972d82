"""Walks through everything that may happen to a small flow, in every order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dask_taskrunner.machine.events import Event, TaskRunEnded, TaskRunsBegan
from fakes.model_cluster import ModelCluster, Move


def ends_of_every_order(
    make: Callable[[], ModelCluster], faults: Sequence[tuple[str, int]] = ()
) -> Iterator[ModelCluster]:
    """Yield the cluster at the end of each different story.

    Parameters
    ----------
    make : callable
        Returns a new cluster.
    faults : sequence of (str, int)
        Kinds of fault, and how often each may happen, at any moment.
    """
    seen: set[object] = set()
    stack: list[tuple[Move, ...]] = [()]
    while stack:
        path = stack.pop()
        cluster = make()
        # The way to here was looked at when it was gone for the first time.
        cluster.checks = not path
        cluster.start()
        for step, move in enumerate(path, start=1):
            cluster.checks = step == len(path)
            cluster.do(move)
        left = _left(path, faults)
        # Two ways to the same place go on alike.
        place = (_place(cluster), tuple(left.items()))
        if place in seen:
            continue
        seen.add(place)
        moves = cluster.moves()
        if not moves:
            assert cluster.machine.final is not None, f"the run hangs after {path}"
            yield cluster
        wrong = [move for move in cluster.faults() if left.get(str(move[0]), 0) > 0]
        stack += [(*path, move) for move in (*moves, *wrong)]


def _left(path: Sequence[Move], faults: Sequence[tuple[str, int]]) -> dict[str, int]:
    return {kind: most - sum(move[0] == kind for move in path) for kind, most in faults}


def _name(event: Event) -> tuple[object, ...]:
    if isinstance(event, TaskRunEnded):
        return "ended", event.header and event.header.execution
    if isinstance(event, TaskRunsBegan):
        return "began", event.bodies[0].execution
    return type(event).__name__, getattr(event, "worker", "")


def _place(cluster: ModelCluster) -> object:
    records = tuple(
        (
            id, record.phase, record.submission, record.run_number, record.future, record.crashes,
            record.innocent, record.header and record.header.execution, record.last_execution,
            record.by_value is not None, record.running and record.running.execution,
            len(record.values),
        )
        for id, record in sorted(cluster.machine.records.items())
    )  # fmt: skip
    tasks = tuple(
        (key, task.life, task.worker, task.value and task.value.header.execution, task.suspicious)
        for key, task in sorted(cluster.tasks.items())
    )
    news = sorted(_name(event) for event in cluster.news)
    zombies = tuple(sorted(execution.number for execution in cluster.zombies))
    return records, tasks, tuple(news), zombies, cluster.machine.wake_at is None
