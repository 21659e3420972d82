"""Mapped tasks of a flow beside ``client.map``: time, memory, retries, constants."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from distributed import Client, Event, wait

from benchmarks.measuring import Traffic, cluster, compare, noop, row, separate_cluster
from benchmarks.memory import blocker, resident, wait_for
from dask_taskrunner import DaskTaskRunner, Flow, FlowRun, context, task, unmapped

#: Of the table; a test of this file makes it small.
CHILDREN, MANY, USERS, MEGABYTES, RUNS = 10_000, 100_000, 1000, 100, 10


def measure(rounds: int) -> list[dict[str, object]]:
    """Return a row for each figure."""
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        rows = _times(client, runner, rounds)
    return [*rows, _scheduler(), _constant(), *_again_and_again()]


# --- time ----------------------------------------------------------------------------------------


@task
def elements(n: int) -> list[int]:
    """Return what is mapped over."""
    return list(range(n))


@task
def count(xs: list[object]) -> int:
    """Take in all results."""
    return len(xs)


step = task(noop, name="noop")


def mapped(n: int) -> Flow:
    """Return a map over what a task returns, and a reduce."""
    with Flow("map") as flow:
        count(step.map(elements(n)))
    return flow


@task(max_retries=1, retry_delay=lambda number, error: 0.2 + float(str(error)) / CHILDREN)
def every_tenth(i: int) -> None:
    """Fail once in ten, and come back at a time of its own."""
    if i % 10 == 0 and context.task_run_number == 1:
        raise ValueError(i)


def _times(client: Client, runner: DaskTaskRunner, rounds: int) -> list[dict[str, object]]:
    """Run raw Dask's map, ours, and ours with retries in turn."""
    with Flow("retries") as retries:
        count(every_tenth.map(elements(CHILDREN)))
    flow = mapped(CHILDREN)
    first: list[float] = []
    submissions: list[int] = []

    def raw() -> object:
        return client.gather(client.map(noop, range(CHILDREN), pure=False))

    def ours() -> object:
        run = runner.run(flow, progress=False)
        assert run.result() == CHILDREN
        first.append(_until_first(run))
        return run

    def with_retries() -> object:
        run = runner.run(retries, progress=False)
        assert run.result() == CHILDREN
        submissions.append(run["count"].record.submission)
        return run

    runner.run(mapped(CHILDREN // 10), progress=False)
    times = compare(rounds, {"raw": raw, "ours": ours, "retries": with_retries})
    pairs = list(zip(times["ours"], times["retries"], strict=True))
    extra = [(more - less) / less for less, more in pairs]
    return [
        row(f"map of {CHILDREN} no-ops + reduce, s", times["raw"], times["ours"]),
        _own("first child starts, after the length is known, s", first),
        _own(f"every tenth of {CHILDREN} retries once: extra / plain", extra),
        _own("the same: submissions of the reduce", submissions),
        _many(client, runner, times),
    ]


def _until_first(run: FlowRun) -> float:
    """Return the seconds from the end of the body that knows the length to the first child's."""
    ended = run["elements"].attempts[0].ended
    began = min(child.attempts[0].started or 0.0 for child in run["noop"].children)
    assert ended is not None
    return began - ended


def _own(what: str, values: Sequence[float]) -> dict[str, object]:
    return {
        "what": what,
        "ours": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def _many(
    client: Client, runner: DaskTaskRunner, times: Mapping[str, Sequence[float]]
) -> dict[str, object]:
    """Run one large map once, of both: how much more a child of many costs than one of fewer."""
    grown = {}
    flow = mapped(MANY)
    for who in ("raw", "ours"):
        begin = time.perf_counter()
        if who == "raw":
            client.gather(client.map(noop, range(MANY), pure=False))
        else:
            assert runner.run(flow, progress=False).result() == MANY
        elapsed = time.perf_counter() - begin
        grown[who] = round(elapsed / MANY / (statistics.median(times[who]) / CHILDREN), 2)
    return {"what": f"{MANY} children: s per child / the same of {CHILDREN}", **grown}


# --- memory and bytes ----------------------------------------------------------------------------


def _scheduler() -> dict[str, object]:
    """Weigh children that wait behind one other task: what the scheduler holds of each."""
    with separate_cluster() as client:
        event = Event("raw", client=client)
        root = client.submit(blocker, "raw", pure=False)
        before = client.run_on_scheduler(resident)
        futures = client.map(noop, [root] * CHILDREN, range(CHILDREN), pure=False)
        raw = _settled(client, CHILDREN) - before
        event.set()
        wait(futures)
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        event = Event("ours", client=client)
        with Flow("memory") as flow:
            root = wait_for("ours")
            step.map(unmapped(root), range(CHILDREN))
        before = client.run_on_scheduler(resident)
        run = runner.start(flow)
        ours = _settled(client, CHILDREN) - before
        event.set()
        run.wait()
    return {
        "what": f"scheduler, bytes per pending child of {CHILDREN}",
        "raw": raw // CHILDREN,
        "ours": ours // CHILDREN,
        "ours/raw": round(ours / raw, 2),
    }


def _settled(client: Client, n: int) -> int:
    def arrived(dask_scheduler=None):  # type: ignore[no-untyped-def]
        return len(dask_scheduler.tasks)

    while client.run_on_scheduler(arrived) <= n:
        time.sleep(0.1)
    time.sleep(1)
    total: int = client.run_on_scheduler(resident)
    return total


@task
def size_of(i: int, data: bytes) -> int:
    """Look at a constant."""
    return len(data)


def _constant() -> dict[str, object]:
    """Count what leaves this process for a constant that many children share."""
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        constant = os.urandom(MEGABYTES * 1_000_000)
        with Flow("constant") as flow:
            size_of.map(range(USERS), data=unmapped(constant))
        with Traffic() as traffic:
            run = runner.run(flow, progress=False)
        assert set(run.result()) == {len(constant)}
    return {
        "what": f"{USERS} children that share {MEGABYTES} MB: MB from client to cluster",
        "ours": round(traffic.sent / 1e6, 1),
    }


def _again_and_again() -> Iterator[dict[str, object]]:
    """Weigh both sides after the second run and after the last one, in one process."""
    # Ours first: what the other leaves behind in this process must not hide growth.
    with separate_cluster() as client, DaskTaskRunner(client=client) as runner:
        ours = _weights(client, lambda: runner.run(mapped(CHILDREN), progress=False))
    with separate_cluster() as client:
        raw = _weights(client, lambda: client.gather(client.map(noop, range(CHILDREN), pure=False)))
    for side, name in enumerate(("client", "scheduler")):
        yield {
            "what": f"{RUNS} runs of {CHILDREN}: {name}'s memory after the last / the second",
            "raw": round(raw[-1][side] / raw[1][side], 3),
            "ours": round(ours[-1][side] / ours[1][side], 3),
        }


def _weights(client: Client, run: Callable[[], object]) -> list[tuple[int, int]]:
    weights = []
    for _ in range(RUNS):
        run()
        # What nobody holds any more takes the scheduler a moment to forget.
        with contextlib.suppress(TimeoutError):
            _forgotten(client)
        weights.append((resident(), client.run_on_scheduler(resident)))
    return weights


def _forgotten(client: Client) -> None:
    def tasks(dask_scheduler=None):  # type: ignore[no-untyped-def]
        return len(dask_scheduler.tasks)

    deadline = time.monotonic() + 20
    while client.run_on_scheduler(tasks) > 10:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)
