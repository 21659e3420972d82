"""A report of ten thousand task runs is small, whatever they have to say."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from dask_taskrunner.headers import NOTHING_MORE, Header
from dask_taskrunner.insight.readings import read
from dask_taskrunner.logs import Delivery, LogStore, Source
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.report.contents import contents
from dask_taskrunner.report.page import Report, page
from dask_taskrunner.view.failure_text import FailureReport

WALL = 1_700_000_000.0
MOST = 5_000_000
RUNS = 10_000


class Talk(NamedTuple):
    """What a task run has to say."""

    message: str = ""
    traceback: str = ""
    lines: int = 0
    attempts: int = 1


def a_header(n, attempt, attempts, talk):
    at, is_last = WALL + n / 100 + attempt * 1.2345678, attempt == attempts
    failed = bool(talk.message)
    more = {"traceback": talk.traceback, "inputs": {"x": talk.message}} if failed else NOTHING_MORE
    state = ("Failed" if failed else "Success") if is_last else "Retrying"
    if not is_last:
        more = {"error": f"{n} {attempt} {talk.message}"}
    return Header(
        n, -1, attempt, n * 10 + attempt, state, f"{n} {talk.message}" if failed else None,
        "int", attempt, at, 1.2345678, at + 1.5, f"tcp://10.0.0.{n % 40}:34567", 28, None, more,
    )  # fmt: skip


def a_report(talk):
    records, logs = {}, LogStore()
    history = [HistoryEntry(WALL, None, "Pending", "Running", None, "")]
    for n in range(RUNS):
        record = TaskRunRecord(PlannedRun((n, -1), "clean", f"clean[{n}]", ()))
        headers = [a_header(n, a, talk.attempts, talk) for a in range(1, talk.attempts + 1)]
        record.values, record.header, record.phase = tuple(headers), headers[-1], "finished"
        records[record.id] = record
        history.append(
            HistoryEntry(headers[-1].at, record.id, "Pending", record.shown, headers[-1], "")
        )
        if talk.lines:
            lines = [
                (WALL + n, 20, f"line {line} of {n}: {'x' * 60}") for line in range(talk.lines)
            ]
            logs.add(record.id, Delivery(Source(n, 1, 1, "w"), lines, 0, 0))
    told = contents(records, read(records, history), {}, logs)
    failures = FailureReport("etl", "night", RUNS)
    return Report("etl 'night'", "Success", "", [], [], {}, "", None, failures, {}, [], told), told


@pytest.mark.parametrize(
    "talk",
    [
        Talk(),
        Talk(message='"\\<&' * 125, traceback='"' * 20_000, lines=9),
        Talk(message="€🎈" * 250, traceback="ü" * 20_000, lines=9, attempts=2),
    ],
    ids=["quiet", "loud", "loud and again"],
)
def test_it_stays_below_its_measure(talk):
    report, told = a_report(talk)
    assert len(told["rows"]) == RUNS
    assert len(told["bars"]) == RUNS * talk.attempts
    assert len(page(report).encode()) < MOST
