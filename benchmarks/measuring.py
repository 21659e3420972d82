"""Clusters, clocks and tables that the benchmarks share."""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from distributed import Client, LocalCluster, SubprocessCluster
from tornado.iostream import IOStream


def noop(*args: object) -> None:
    """Do nothing: what is left is overhead."""


@contextlib.contextmanager
def cluster(n_workers: int = 2) -> Iterator[Client]:
    """A local cluster of worker processes with one thread each, warm."""
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=None, silence_logs=51
        ) as started,
        Client(started) as client,
    ):
        client.gather(client.map(noop, range(200), pure=False))
        yield client


@contextlib.contextmanager
def separate_cluster() -> Iterator[Client]:
    """A cluster whose scheduler has a process of its own, so that each side can be weighed."""
    with (
        SubprocessCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as started,
        Client(started) as client,
    ):
        client.wait_for_workers(2)
        client.gather(client.map(noop, range(200), pure=False))
        yield client


class Traffic:
    """Counts the bytes that this process sends and receives by Dask's streams.

    At the streams themselves: what the kernel counts for a process leaves sockets out.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self._write, self._read = IOStream.write_to_fd, IOStream.read_from_fd

    def __enter__(self) -> Traffic:
        write, read = self._write, self._read

        def counting_write(stream: IOStream, data: memoryview) -> int:
            count = write(stream, data)
            self.sent += count
            return count

        def counting_read(stream: IOStream, buffer: bytearray | memoryview) -> int | None:
            count = read(stream, buffer)
            self.received += count or 0
            return count

        IOStream.write_to_fd, IOStream.read_from_fd = counting_write, counting_read  # type: ignore[method-assign]
        return self

    def __exit__(self, *exc_info: object) -> None:
        IOStream.write_to_fd, IOStream.read_from_fd = self._write, self._read  # type: ignore[method-assign]


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes, and let the cluster come to rest afterwards."""
    gc.collect()
    begin = time.perf_counter()
    held = work()
    elapsed = time.perf_counter() - begin
    del held
    gc.collect()
    time.sleep(0.5)
    return elapsed


def compare(rounds: int, contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the seconds of each, measured in turn so that a drift of the machine hits all."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            times[name].append(seconds(work))
    return times


def row(name: str, raw: Sequence[float], ours: Sequence[float]) -> dict[str, object]:
    """Return a row of a table: medians, and the median of the ratios round by round."""
    ratios = [mine / theirs for mine, theirs in zip(ours, raw, strict=True)]
    return {
        "what": name,
        "raw": round(statistics.median(raw), 3),
        "ours": round(statistics.median(ours), 3),
        "ours/raw": round(statistics.median(ratios), 2),
        "min": round(min(ratios), 2),
        "max": round(max(ratios), 2),
    }


def machine() -> str:
    """Return what was measured, when and where."""
    versions = " ".join(f"{name} {version(name)}" for name in ("dask", "distributed"))
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores "
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"{versions}, dask-taskrunner {version('dask-taskrunner')}"
    )


def print_table(title: str, rows: Sequence[dict[str, object]]) -> None:
    """Print rows under the names of their columns."""
    columns = list(dict.fromkeys(name for line in rows for name in line))
    table = [columns, *([str(line.get(name, "")) for name in columns] for line in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    print(f"\n{title}")
    for line in table:
        cells = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        print("  " + "  ".join(cells))
