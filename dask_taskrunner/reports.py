"""Puts together what the report of a flow run tells."""

from __future__ import annotations

import platform
from importlib.metadata import version

from dask_taskrunner.flow_insight import FlowInsight
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.readings import read
from dask_taskrunner.insight.snapshots import Snapshot
from dask_taskrunner.report.contents import contents
from dask_taskrunner.report.page import Report
from dask_taskrunner.reporting import describe_failures
from dask_taskrunner.states import STATE_CLASSES, Failed, utc
from dask_taskrunner.view.text import format_duration, in_order


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
    reading, final = read(snapshot.records, snapshot.history), snapshot.final
    path = None if final is None else critical_path(reading)
    now = driver.channel.clock.time()
    graph = run._graph(snapshot.records)
    graph.feed(snapshot.history)
    state = ("Running" if snapshot.history else "Pending") if final is None else final.state
    message, slack = (final.message or "") if final else "", {} if path is None else path.slack
    if final is None or not final.is_finished:
        message = f"{message} (the run went on when this was written)".strip()
    failures = ""
    if issubclass(STATE_CLASSES[state], Failed):
        failures = describe_failures(run.flow.name, run.run_name, run._plan, snapshot.records)
    return Report(
        title=f"{run.flow.name} {run.run_name!r}",
        state=state,
        message=message,
        facts=_facts(run, where, snapshot, now),
        counts=dict(in_order(snapshot.counts)),
        graph=graph.svg(now),
        path=path,
        failures=failures,
        notes=[f"{note.time:%H:%M:%S} {note.task_run or '-'} {note.text}" for note in run.notes],
        contents=contents(snapshot.in_order(run._known()), reading, slack, driver.channel.logs),
    )


def _facts(run: FlowInsight, where: str, snapshot: Snapshot, now: float) -> list[tuple[str, str]]:
    facts = []
    if snapshot.history:
        began, ended = snapshot.history[0].at, snapshot.history[-1].at
        until = ended if snapshot.final is not None else now
        facts += [
            ("began", f"{utc(began):%Y-%m-%d %H:%M:%S} UTC"),
            ("took", format_duration(until - began)),
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
