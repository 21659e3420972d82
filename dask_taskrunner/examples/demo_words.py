"""What `dask-taskrunner demo` says around the census: what to see, the table, what it means."""

from __future__ import annotations

import csv
import platform
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from dask_taskrunner import FlowRun

_INTRODUCTION = """\
A census of the standard library of Python {python}: one task cuts it into shards, a task per shard
lists its files, a task per file parses it, and a last one makes the table. How many there are is
found out on the way. Two more shards are planted, so that there is something to see:
broken_shard fails, and flaky_shard fails twice and then succeeds by retry.
"""

_CLOSING_WORDS = """
What failed: {failures}.

Why the flow is green: `summarize` alone decides, as its only reference task, and its trigger
all_finished lets it run however the others ended. A census that misses a shard is still a census.

What the retries cost: flaky_shard ran {attempts} times, and did {worked:.0f} ms of work in vain.
It waited {waited:.1f} s in all, for its delays and for a free worker. Meanwhile it held none, and
nobody but `summarize` waited for it.
"""


def introduction() -> str:
    """Return what is going to happen."""
    return _INTRODUCTION.format(python=platform.python_version())


def write_csv(rows: Sequence[dict[str, Any]], directory: Path) -> Path:
    """Write all rows into ``census.csv``, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "census.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def top_ten(rows: Sequence[dict[str, Any]]) -> str:
    """Return the first ten rows as a table, with numbers as people read them."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows[:10])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)  # names stand left, numbers right
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def closing_words(flow_run: FlowRun) -> str:
    """Return what the run shows: what failed, why it succeeded, and what its retries cost."""
    bodies = [
        (attempt.started, attempt.ended)
        for attempt in flow_run["flaky_shard"].attempts
        if attempt.started is not None and attempt.ended is not None
    ]
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(bodies)]
    return _CLOSING_WORDS.format(
        failures=", ".join(f"{run.slug} ({run.state.message})" for run in flow_run.failures),
        attempts=len(bodies),
        waited=sum(pauses),
        worked=1000 * sum(ended - started for started, ended in bodies[:-1]),
    )
