"""What a task costs beyond raw Dask: three shapes of no-ops, the building of the graph included."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from distributed import Client, wait

from benchmarks.measuring import cluster, compare, noop, row
from dask_taskrunner import DaskTaskRunner, Flow, task

FAN_OUT, CHAIN, GRID = 1000, 300, 30
LARGE = 10_000

step = task(noop, name="noop")


def raw_fan_out(client: Client) -> object:
    futures = [client.submit(noop, i, pure=False) for i in range(FAN_OUT)]
    wait(futures)
    return futures


def our_fan_out(runner: DaskTaskRunner) -> object:
    with Flow("fan-out") as flow:
        for i in range(FAN_OUT):
            step(i)
    return _run(runner, flow)


def raw_chain(client: Client) -> object:
    future = client.submit(noop, pure=False)
    for _ in range(CHAIN - 1):
        future = client.submit(noop, future, pure=False)
    wait(future)
    return future


def our_chain(runner: DaskTaskRunner) -> object:
    with Flow("chain") as flow:
        last = step()
        for _ in range(CHAIN - 1):
            last = step(last)
    return _run(runner, flow)


def raw_grid(client: Client) -> object:
    above = [client.submit(noop, pure=False) for _ in range(GRID)]
    everything = list(above)
    for _ in range(GRID - 1):
        above = [
            client.submit(noop, above[i], above[(i + 1) % GRID], pure=False) for i in range(GRID)
        ]
        everything += above
    wait(everything)
    return everything


def our_grid(runner: DaskTaskRunner) -> object:
    with Flow("grid") as flow:
        above = [step() for _ in range(GRID)]
        for _ in range(GRID - 1):
            above = [step(above[i], above[(i + 1) % GRID]) for i in range(GRID)]
    return _run(runner, flow)


def _run(runner: DaskTaskRunner, flow: Flow) -> object:
    run = runner.run(flow, progress=False)
    assert run.state.is_successful(), run.state
    return run


SHAPES = {
    f"fan-out of {FAN_OUT}": (raw_fan_out, our_fan_out),
    f"chain of {CHAIN}": (raw_chain, our_chain),
    f"grid of {GRID} x {GRID}": (raw_grid, our_grid),
}


def measure(rounds: int, prefect: str | None) -> list[dict[str, object]]:
    """Return a row for each shape."""
    rows = []
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        for name, (raw, ours) in SHAPES.items():
            # Once before, so that every process has imported what it needs.
            ours(runner)
            times = compare(
                rounds, {"raw": lambda raw=raw: raw(client), "ours": lambda o=ours: o(runner)}
            )
            rows.append(row(name, times["raw"], times["ours"]))
        rows.append(_first_start(runner, rounds))
    if prefect is not None:
        for line, times in zip(rows, _prefect(prefect, rounds), strict=False):
            line["Prefect 1"] = round(statistics.median(times), 3)
    return rows


def _first_start(runner: DaskTaskRunner, rounds: int) -> dict[str, object]:
    """Measure from the call of ``run`` to the beginning of the first body."""
    seconds = []
    for _ in range(rounds):
        with Flow("large") as flow:
            for i in range(LARGE):
                step(i)
        called = time.time()
        run = runner.start(flow)
        # One body's own word is enough: they begin in the order in which they were sent.
        run["noop"].result()
        seconds.append(run["noop"].attempts[0].started - called)
        run.cancel()
        run.wait()
        _come_to_rest(runner.client)
    return {
        "what": f"{LARGE} tasks: the first one starts after, s",
        "ours": round(statistics.median(seconds), 3),
        "min": round(min(seconds), 3),
        "max": round(max(seconds), 3),
    }


def _come_to_rest(client: Client) -> None:
    """Wait until the scheduler has forgotten a cancelled run, which takes it seconds."""

    def left(dask_scheduler=None):  # type: ignore[no-untyped-def]
        return len(dask_scheduler.tasks) + dask_scheduler._active_graph_updates

    quiet = 0
    while quiet < 5:
        quiet = 0 if client.run_on_scheduler(left) else quiet + 1
        time.sleep(0.2)


def _prefect(python: str, rounds: int) -> list[list[float]]:
    script = Path(__file__).with_name("prefect_1.py")
    arguments = [python, str(script), *map(str, (rounds, FAN_OUT, CHAIN, GRID))]
    # Its own logging, a line for each state, would be measured as well.
    environment = {**os.environ, "PREFECT__LOGGING__LEVEL": "ERROR"}
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    times: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return times
