"""Puts together what the report of a flow run tells."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.flow_insight import FlowInsight
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.readings import Reading, read
from dask_taskrunner.insight.snapshots import Snapshot
from dask_taskrunner.insight.waits import places_of
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.report.contents import contents
from dask_taskrunner.report.page import Report
from dask_taskrunner.report.sections import Tile
from dask_taskrunner.reporting import failure_report
from dask_taskrunner.states import utc
from dask_taskrunner.view.text import format_duration, in_order

#: A picture of more bytes is not shown, and so many notes are: the last ones.
_PICTURE: Final = 2_000_000
_NOTES: Final = 500


def report_of(run: FlowInsight, where: str) -> Report:
    """Return what a report tells of a run as it is now.

    Parameters
    ----------
    run : FlowInsight
        Which.
    where : str
        The cluster, in words.
    """
    # All that is told is of one moment, also where the run goes on meanwhile.
    driver, snapshot = run._driver, run._snapshot()
    reading = read(snapshot.records, snapshot.history, driver.channel.need)
    final = snapshot.final
    path = None if final is None else critical_path(reading)
    now, logs = driver.channel.clock.time(), driver.channel.logs
    graph = _graph(run, snapshot, now)
    records = snapshot.in_order(run._known())
    goes_on = final is None or not final.is_finished
    return Report(
        title=f"{run.flow.name} {run.run_name!r}",
        state=final.state if final is not None else "Running" if snapshot.history else "Pending",
        message=_message(snapshot, now, goes_on=goes_on),
        facts=_facts(run, where, snapshot, now),
        tiles=_tiles(snapshot, reading, now),
        counts=dict(in_order(snapshot.counts)),
        graph=graph,
        path=path,
        failures=failure_report(run.flow.name, run.run_name, run._plan, snapshot.records, logs),
        held_back=_held_back(records.values()),
        notes=_notes(run),
        contents=contents(
            records, reading, {} if path is None else path.slack, logs,
            path={step.slug for step in path or ()}, goes_on=goes_on, taken=len(graph),
            until=now if goes_on else snapshot.history[-1].at,
        ),
    )  # fmt: skip


def _graph(run: FlowInsight, snapshot: Snapshot, now: float) -> str:
    graph = run._graph(snapshot.records)
    graph.feed(snapshot.history)
    picture = graph.svg(now)
    if len(picture) <= _PICTURE:
        return picture
    return "<p>The graph is too large for this page: run.visualize('graph.svg') draws it.</p>"


def _notes(run: FlowInsight) -> list[str]:
    notes = run.notes[-_NOTES:]
    told = [f"{note.time:%H:%M:%S} {note.task_run or '-'} {note.text}" for note in notes]
    more = len(run.notes) - len(notes)
    return [f"({more:,} earlier ones are not shown)", *told] if more > 0 else told


def _message(snapshot: Snapshot, now: float, *, goes_on: bool) -> str:
    said = (snapshot.final.message or "") if snapshot.final is not None else ""
    if not goes_on:
        return said
    does = "went on" if snapshot.final is None else "had paused"
    when = f"{utc(now):%Y-%m-%d %H:%M:%S} UTC"
    return f"{said} (the run {does} when this was written, {when})".strip()


def _held_back(records: Iterable[TaskRunRecord]) -> dict[str, list[str]]:
    """Return what did not run, by the task run that is its root cause."""
    held_back: dict[str, list[str]] = {}
    for record in records:
        header = record.header
        if header is not None and header.state == "TriggerFailed":
            cause = header.more.get("root_cause")
            if cause:
                # As the failures are called, whatever is in their names.
                held_back.setdefault(harmless(cause[0]), []).append(harmless(record.plan.slug))
    return held_back


def _tiles(snapshot: Snapshot, reading: Reading, now: float) -> list[Tile]:
    """Return the figures that somebody looks for first."""
    counted = [one for one in snapshot.records.values() if one.is_counted]
    attempts = [
        len(one.values) + sum(body is not None for body in (one.running, one.left_running))
        for one in snapshot.records.values()
    ]
    again, total = sum(max(count - 1, 0) for count in attempts), sum(attempts)
    more = f"{again:,} of them not the first of a task run" if again else ""
    tiles = [
        Tile(f"{len(counted):,}", "task run" if len(counted) == 1 else "task runs", ""),
        Tile(f"{total:,}", "attempt" if total == 1 else "attempts", more),
    ]
    if snapshot.history:
        final, until = snapshot.final, _until(snapshot, now)
        said = "so far" if final is None else "from start to end"
        if final is not None and not final.is_finished:
            said = "until it paused"
        tiles.insert(0, Tile(format_duration(until - reading.start), said, ""))
    threads = places_of(reading).threads
    if threads and reading.seconds > 0:
        places, workers = sum(threads.values()), len(threads)
        took = sum(body.ended - body.started for body in reading.bodies)
        busy = min(took / (places * reading.seconds), 1.0)
        on = "1 worker" if workers == 1 else f"{workers} workers"
        seen = "1 thread" if places == 1 else f"{places} threads"
        tiles.append(Tile(f"{busy:.0%}", "in bodies", f"of the time of {seen} seen on {on}"))
    return tiles


def _until(snapshot: Snapshot, now: float) -> float:
    """Return until when the run has gone on, by what is in its history."""
    return now if snapshot.final is None else snapshot.history[-1].at


def _facts(run: FlowInsight, where: str, snapshot: Snapshot, now: float) -> list[tuple[str, str]]:
    facts = []
    if snapshot.history:
        began = snapshot.history[0].at
        facts += [
            ("began", f"{utc(began):%Y-%m-%d %H:%M:%S} UTC"),
            ("took", format_duration(_until(snapshot, now) - began)),
        ]
    if run.parameters:
        given = ", ".join(f"{name}={line_of(value)}" for name, value in run.parameters.items())
        facts.append(("parameters", given))
    versions = [f"{name} {version(name)}" for name in ("dask-taskrunner", "dask", "distributed")]
    return [
        *facts,
        *([("cluster", where)] if where else []),
        ("versions", ", ".join([*versions, f"Python {platform.python_version()}"])),
    ]
