"""Single calls beside raw Dask's own: many at once, a map, one alone, and large data."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

from distributed import Client
from distributed import wait as dask_wait

from benchmarks.large import chain
from benchmarks.measuring import (
    Traffic,
    cluster,
    compare,
    noop,
    row,
    separate_cluster,
)
from dask_taskrunner import DaskTaskRunner, unmapped, wait

CALLS, ELEMENTS, ALONE = 1000, 10_000, 50
USERS, CONSTANT_MEGABYTES, RESULT_MEGABYTES = 1000, 100, 200


def measure(rounds: int) -> list[dict[str, object]]:
    """Return a row for each figure."""
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        contenders: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            f"{CALLS} x submit, then wait": (
                lambda: _raw_calls(client),
                lambda: _our_calls(runner),
            ),
            f"map of {ELEMENTS} and its results": (
                lambda: _raw_map(client),
                lambda: _our_map(runner),
            ),
        }
        rows = []
        for name, (raw, ours) in contenders.items():
            ours()
            times = compare(rounds, {"raw": raw, "ours": ours})
            rows.append(row(name, times["raw"], times["ours"]))
        rows.append(_alone(client, runner, rounds))
    return [*rows, _constant(), *chain(rounds, RESULT_MEGABYTES, 2)]


def _raw_calls(client: Client) -> object:
    futures = [client.submit(noop, i, pure=False) for i in range(CALLS)]
    dask_wait(futures)
    return futures


def _our_calls(runner: DaskTaskRunner) -> object:
    futures = [runner.submit(noop, i) for i in range(CALLS)]
    wait(futures)
    return futures


def _raw_map(client: Client) -> object:
    return client.gather(client.map(noop, range(ELEMENTS), pure=False))


def _our_map(runner: DaskTaskRunner) -> object:
    return runner.map(noop, range(ELEMENTS)).results()


def _alone(client: Client, runner: DaskTaskRunner, rounds: int) -> dict[str, object]:
    """Time one call and its result, nothing else being under way; several make a round."""

    def raw() -> object:
        return [client.submit(noop, i, pure=False).result() for i in range(ALONE)]

    def ours() -> object:
        return [runner.submit(noop, i).result() for i in range(ALONE)]

    raw(), ours()
    times = compare(2 * rounds, {"raw": raw, "ours": ours})
    per_call = {name: [t / ALONE for t in taken] for name, taken in times.items()}
    line = row("one submit(...).result(), idle cluster, ms", per_call["raw"], per_call["ours"])
    for name in ("raw", "ours"):
        line[name] = round(statistics.median(per_call[name]) * 1000, 2)
    return line


def _constant() -> dict[str, object]:
    """Count what leaves this process for a constant that many calls share."""
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        constant = os.urandom(CONSTANT_MEGABYTES * 1_000_000)
        with Traffic() as traffic:
            futures = runner.map(size_of, range(USERS), data=unmapped(constant))
            assert set(futures.results()) == {len(constant)}
        del futures
    return {
        "what": f"{USERS} calls that share {CONSTANT_MEGABYTES} MB: MB from client to cluster",
        "ours": round(traffic.sent / 1e6, 1),
    }


def size_of(i: int, data: bytes) -> int:
    """Look at a constant."""
    return len(data)
