"""What a retry costs: how late it is sent, and what hangs below it."""

from __future__ import annotations

import statistics

from benchmarks.measuring import cluster, compare, noop
from dask_taskrunner import DaskTaskRunner, Flow, context, task

DEPENDENTS = 1000
DELAYS = 50

step = task(noop, name="noop")


@task(max_retries=DELAYS, retry_delay=0.05)
def stubborn() -> None:
    """Fail as long as it may."""
    if context.task_run_number <= DELAYS:
        raise ValueError("not yet")


@task(max_retries=1, retry_delay=0)
def root(fails: bool) -> None:
    """Fail once, or not at all."""
    if fails and context.task_run_number == 1:
        raise ValueError("not yet")


def measure(rounds: int) -> list[dict[str, object]]:
    """Return a row for each figure."""
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        _fan_out(runner, fails=True)
        return [*_lateness(runner), _cone(runner, rounds)]


def _lateness(runner: DaskTaskRunner) -> list[dict[str, object]]:
    """Measure from the moment at which a retry is due to the moment after it was sent."""
    with Flow("late") as flow:
        stubborn()
    run = runner.run(flow, progress=False)
    due = [e.header.more["scheduled_time"] for e in run.history if e.new == "Retrying"]
    # The history says when the machine let it go; its message leaves in the same step. The body
    # begins after Dask's own way to the worker.
    sent = [entry.at for entry in run.history if entry.old == "Retrying"]
    began = [attempt.started for attempt in run["stubborn"].attempts[1:]]
    return [
        _late(f"a due retry is sent after, ms (median, max of {DELAYS})", due, sent),
        _late("and its body begins after, ms", due, began),
    ]


def _late(what: str, due: list[float], moments: list[float]) -> dict[str, object]:
    late = [1000 * (moment - then) for then, moment in zip(due, moments, strict=True)]
    return {"what": what, "ours": round(statistics.median(late), 2), "max": round(max(late), 2)}


def _cone(runner: DaskTaskRunner, rounds: int) -> dict[str, object]:
    times = compare(
        rounds,
        {"plain": lambda: _fan_out(runner, False), "retried": lambda: _fan_out(runner, True)},
    )
    extra = [
        (retried - plain) / plain
        for plain, retried in zip(times["plain"], times["retried"], strict=True)
    ]
    return {
        "what": f"a root that retries above {DEPENDENTS}: extra / plain fan-out",
        "raw": round(statistics.median(times["plain"]), 3),
        "ours": round(statistics.median(times["retried"]), 3),
        "ours/raw": round(statistics.median(extra), 2),
        "min": round(min(extra), 2),
        "max": round(max(extra), 2),
    }


def _fan_out(runner: DaskTaskRunner, fails: bool) -> object:
    with Flow("cone") as flow:
        above = root(fails)
        for _ in range(DEPENDENTS):
            step(above)
    run = runner.run(flow, progress=False)
    assert run.state.is_successful(), run.state
    return run
