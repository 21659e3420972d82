"""Single calls beside raw Dask's own: many at once, a map, one alone, and large data."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from distributed import Client
from distributed import wait as dask_wait

from benchmarks.measuring import (
    Traffic,
    cluster,
    compare,
    noop,
    row,
    seconds,
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
    return [*rows, _constant(), *_large(rounds)]


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


def make(megabytes: int) -> Any:
    """Return an array."""
    import numpy

    return numpy.ones(megabytes * 125_000)


def pass_on(array: Any) -> Any:
    """Return the same array."""
    return array


def total(array: Any) -> float:
    """Shrink an array."""
    return float(array.sum())


def _large(rounds: int) -> list[dict[str, object]]:
    """Send a result from one worker to the other and back, and weigh both meanwhile."""
    times: dict[str, list[float]] = {"raw": [], "ours": []}
    peaks: dict[str, list[float]] = {"raw": [], "ours": []}
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        here, there = sorted(client.scheduler_info(n_workers=-1)["workers"])
        pids = list(client.run(os.getpid).values())
        contenders = {
            "raw": lambda: _raw_large(client, here, there),
            "ours": lambda: _our_large(runner, here, there),
        }
        for work in contenders.values():
            work()
        for _ in range(rounds):
            for name, work in contenders.items():
                with Peak(pids) as peak:
                    times[name].append(seconds(work))
                peaks[name].append(peak.grown)
    what = f"result of {RESULT_MEGABYTES} MB passed on twice"
    return [
        row(f"{what}: s", times["raw"], times["ours"]),
        row(f"{what}: peak of both workers, MB", peaks["raw"], peaks["ours"]),
    ]


def _raw_large(client: Client, here: str, there: str) -> object:
    first = client.submit(make, RESULT_MEGABYTES, workers=[here], pure=False)
    second = client.submit(pass_on, first, workers=[there], pure=False)
    third = client.submit(pass_on, second, workers=[here], pure=False)
    return client.submit(total, third, workers=[there], pure=False).result()


def _our_large(runner: DaskTaskRunner, here: str, there: str) -> object:
    def at(worker: str) -> dict[str, object]:
        return {"workers": worker}

    first = runner.submit(make, RESULT_MEGABYTES, task_args=at(here))
    second = runner.submit(pass_on, first, task_args=at(there))
    third = runner.submit(pass_on, second, task_args=at(here))
    return runner.submit(total, third, task_args=at(there)).result()


class Peak:
    """The most that some processes hold together above what they held before, in MB."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.grown = 0.0

    def _held(self) -> float:
        return sum(process.memory_info().rss for process in self._processes) / 1e6

    def _watch(self) -> None:
        before = self._held()
        while not self._over.wait(0.002):
            self.grown = max(self.grown, self._held() - before)

    def __enter__(self) -> Peak:
        # What earlier rounds held may take a moment to go.
        time.sleep(0.5)
        self._watcher.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._watcher.join()
