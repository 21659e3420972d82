"""What a task run weighs: on the scheduler, on the client, and large results on the workers."""

from __future__ import annotations

import gc
import threading
import time

import psutil
from distributed import Client, Event, wait

from benchmarks.measuring import Traffic, noop, separate_cluster
from dask_taskrunner import DaskTaskRunner, Flow, task

TASKS = 10_000
RUNS = 3
LINKS, MEGABYTES = 50, 20

step = task(noop, name="noop")


def resident() -> int:
    """Return the bytes that this process, or a scheduler that runs this, holds."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def blocker(event_name: str) -> None:
    """Hold back what is downstream."""
    Event(event_name).wait()


wait_for = task(blocker)


def measure() -> list[dict[str, object]]:
    """Return a row for each figure."""
    return [_scheduler(), *_client(), *_large()]


def _scheduler() -> dict[str, object]:
    """Weigh tasks that wait behind one other task: what the scheduler holds of each."""
    with separate_cluster() as client:
        raw = _raw_bytes(client)
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        ours = _our_bytes(client, runner)
    return {
        "what": f"scheduler, bytes per pending task of {TASKS}",
        "raw": raw,
        "ours": ours,
        "ours/raw": round(ours / raw, 2),
    }


def _raw_bytes(client: Client) -> int:
    event = Event("raw", client=client)
    root = client.submit(blocker, "raw", pure=False)
    before = client.run_on_scheduler(resident)
    futures = [client.submit(noop, root, i, pure=False) for i in range(TASKS)]
    grown = _settled(client) - before
    event.set()
    wait(futures)
    return int(grown // TASKS)


def _our_bytes(client: Client, runner: DaskTaskRunner) -> int:
    event = Event("ours", client=client)
    with Flow("memory") as flow:
        root = wait_for("ours")
        for i in range(TASKS):
            step(root, i)
    before = client.run_on_scheduler(resident)
    run = runner.start(flow)
    grown = _settled(client) - before
    event.set()
    run.wait()
    return int(grown // TASKS)


def _settled(client: Client) -> int:
    """Wait until the scheduler has all the tasks, and return what it holds."""

    def arrived(dask_scheduler=None):  # type: ignore[no-untyped-def]
        return len(dask_scheduler.tasks)

    while client.run_on_scheduler(arrived) <= TASKS:
        time.sleep(0.1)
    time.sleep(1)
    total: int = client.run_on_scheduler(resident)
    return total


def _client() -> list[dict[str, object]]:
    """Weigh finished task runs in this process, by its resident memory."""
    rows = []
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        with Flow("client") as flow:
            for i in range(TASKS):
                more_than_small(i)
        # The first runs fill what is kept for all of them.
        for keep in ("none", "all"):
            runner.run(flow, progress=False, keep=keep).release()
        for keep, label in (("none", "without"), ("all", "with")):
            before = resident()
            held = [runner.run(flow, progress=False, keep=keep) for _ in range(RUNS)]
            grown = (resident() - before) / (RUNS * TASKS)
            what = f"client, bytes per finished task run {label} its future"
            rows.append({"what": what, "ours": round(grown)})
            for run in held:
                run.release()
            del held, run
    return rows


@task(name="large")
def more_than_small(i: int) -> object:
    # Larger than what rides in the header, so that keep= decides.
    return bytes(600)


def _large() -> list[dict[str, object]]:
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        peak, through_client = _chain_peak(client, runner)
    return [
        {"what": f"chain of {LINKS} x {MEGABYTES} MB: peak of managed memory, MB", "ours": peak},
        {"what": "the same: MB received by the client's process", "ours": through_client},
    ]


def _chain_peak(client: Client, runner: DaskTaskRunner) -> tuple[float, float]:
    with Flow("large") as flow:
        last = make(MEGABYTES)
        for _ in range(LINKS - 1):
            last = pass_on(last)
        shrink(last)
    peak = 0.0
    over = threading.Event()

    def managed(dask_scheduler=None):  # type: ignore[no-untyped-def]
        return sum(ws.memory.managed for ws in dask_scheduler.workers.values())

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, client.run_on_scheduler(managed) / 1e6)

    watcher = threading.Thread(target=watch)
    with Traffic() as traffic:
        watcher.start()
        run = runner.run(flow, progress=False)
        over.set()
        watcher.join()
    assert run.state.is_successful(), run.state
    return round(peak, 1), round(traffic.received / 1e6, 2)


@task
def make(megabytes: int) -> object:
    import numpy

    return numpy.ones(megabytes * 125_000)


@task
def pass_on(array: object) -> object:
    return array + 1  # type: ignore[operator]


@task
def shrink(array: object) -> float:
    return float(array.sum())  # type: ignore[attr-defined]
