"""How far ``run.what_if(workers=...)`` is from real runs on so many workers, by flows' shapes."""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping

from benchmarks.measuring import cluster
from dask_taskrunner import DaskTaskRunner, Flow, FlowRun, task, unmapped

#: From how many workers to how many.
PAIRS = ((4, 4), (4, 2), (4, 1), (2, 4), (2, 1), (1, 4), (1, 2))


@task
def sleeps(seconds: float, *after: object) -> int:
    """Take a time of its own."""
    time.sleep(seconds)
    return 1


@task
def numbers(count: int) -> list[int]:
    """Return what is mapped over."""
    return [*range(count)]


@task
def child(x: int, seed: int) -> int:
    """Take a time that its number and a seed decide."""
    time.sleep(random.Random(1000 * seed + x).uniform(0.05, 0.5))
    return x


@task
def large(seconds: float) -> bytes:
    """Return 20 MB."""
    time.sleep(seconds)
    return bytes(20_000_000)


def flows(seed: int) -> dict[str, Flow]:
    """Return a flow of each shape."""
    draw = random.Random(seed).uniform
    with Flow("60 that sleep") as apart:
        for _ in range(60):
            sleeps(draw(0.05, 0.5))
    with Flow("fan-in, 36 to 6 to 1") as fan_in:
        parts = [sleeps(0.1, *[sleeps(draw(0.05, 0.5)) for _ in range(6)]) for _ in range(6)]
        sleeps(0.2, *parts)
    with Flow("6 chains of 6") as chains:
        for _ in range(6):
            last = sleeps(draw(0.05, 0.3))
            for _ in range(5):
                last = sleeps(draw(0.05, 0.3), last)
    with Flow("a map of 20 over a map") as maps:
        sleeps(0.1, child.map(child.map(numbers(20), unmapped(1)), unmapped(2)))
    with Flow("4 x 20 MB, each read by 4") as moves:
        for _ in range(4):
            made = large(draw(0.05, 0.3))
            for _ in range(4):
                sleeps(draw(0.05, 0.4), made)
    return {flow.name: flow for flow in (apart, fan_in, chains, maps, moves)}


def measure(rounds: int) -> list[dict[str, object]]:
    """Return a row for each shape: how far a prediction is from the real run, in per cent."""
    errors: defaultdict[tuple[str, int, int], list[float]] = defaultdict(list)
    for seed in range(rounds):
        made = flows(seed)
        runs = {workers: _run_all(made, workers) for workers in (4, 2, 1)}
        for name in made:
            for then, now in PAIRS:
                real = runs[now][name].critical_path().seconds
                predicted = runs[then][name].what_if(workers=now).seconds
                errors[name, then, now].append(100 * (predicted / real - 1))
    return [{"what": name} | _row(name, errors) for name in flows(0)]


def _row(name: str, errors: Mapping[tuple[str, int, int], list[float]]) -> dict[str, object]:
    return {
        f"{then} -> {now}": f"{statistics.median(errors[name, then, now]):+.0f}"
        for then, now in PAIRS
    }


def _run_all(made: dict[str, Flow], workers: int) -> dict[str, FlowRun]:
    with cluster(workers) as client, DaskTaskRunner(client=client) as runner:
        # Have every worker import what it needs.
        runner.run(flows(0)["a map of 20 over a map"], progress=False)
        return {name: runner.run(flow, progress=False) for name, flow in made.items()}
