"""A large result that is handed from worker to worker, beside raw Dask's: time and memory."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import psutil
from distributed import Client

from benchmarks.measuring import cluster, row, seconds
from dask_taskrunner import DaskTaskRunner

MEGABYTES, LINKS = 1000, 5


def measure(rounds: int, megabytes: int) -> list[dict[str, object]]:
    """Return a row for each figure."""
    return chain(rounds, megabytes, LINKS)


def chain(rounds: int, megabytes: int, links: int) -> list[dict[str, object]]:
    """Send a result from one worker to the other and back, and weigh both meanwhile."""
    times: dict[str, list[float]] = {"raw": [], "ours": []}
    peaks: dict[str, list[float]] = {"raw": [], "ours": []}
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        places = sorted(client.scheduler_info(n_workers=-1)["workers"])
        pids = list(client.run(os.getpid).values())
        contenders = {
            "raw": lambda: _raw(client, places, megabytes, links),
            "ours": lambda: _ours(runner, places, megabytes, links),
        }
        for work in contenders.values():
            work()
        for _ in range(rounds):
            for name, work in contenders.items():
                with Peak(pids) as peak:
                    times[name].append(seconds(work))
                peaks[name].append(peak.grown)
    passed = "twice" if links == 2 else f"{links} times"
    what = f"result of {megabytes} MB passed on {passed}"
    return [
        row(f"{what}: s", times["raw"], times["ours"]),
        row(f"{what}: peak of both workers, MB", peaks["raw"], peaks["ours"]),
    ]


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


def _raw(client: Client, places: list[str], megabytes: int, links: int) -> object:
    future = client.submit(make, megabytes, workers=[places[0]], pure=False)
    for n in range(1, links + 1):
        future = client.submit(pass_on, future, workers=[places[n % 2]], pure=False)
    return client.submit(total, future, workers=[places[(links + 1) % 2]], pure=False).result()


def _ours(runner: DaskTaskRunner, places: list[str], megabytes: int, links: int) -> object:
    def at(n: int) -> dict[str, object]:
        return {"workers": places[n % 2]}

    future = runner.submit(make, megabytes, task_args=at(0))
    for n in range(1, links + 1):
        future = runner.submit(pass_on, future, task_args=at(n))
    return runner.submit(total, future, task_args=at(links + 1)).result()


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
