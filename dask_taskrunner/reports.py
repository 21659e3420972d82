"""Puts together what the report of a flow run tells."""

from __future__ import annotations

import platform
from importlib.metadata import version

from dask_taskrunner.flow_insight import FlowInsight
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.readings import read
from dask_taskrunner.report.contents import contents
from dask_taskrunner.report.page import Report
from dask_taskrunner.states import Failed, utc
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
    driver, state = run._driver, run.state
    # In the order in which a user knows them, and as they are at one moment.
    records = {one.record.id: one.record for one in run.task_runs}
    reading = read(dict(driver.machine.records), run.history)
    path = None if driver.final is None else critical_path(reading)
    now = driver.channel.clock.time()
    graph = run._graph()
    graph.feed(run.history)
    message, slack = state.message or "", {} if path is None else path.slack
    if not state.is_finished():
        message = f"{message} (the run went on when this was written)".strip()
    return Report(
        title=f"{run.flow.name} {run.run_name!r}",
        state=type(state).__name__,
        message=message,
        facts=_facts(run, where, now),
        counts=dict(in_order(run.counts)),
        graph=graph.svg(now),
        path=path,
        failures=run.failure_text() if isinstance(state, Failed) else "",
        notes=[f"{note.time:%H:%M:%S} {note.task_run or '-'} {note.text}" for note in run.notes],
        contents=contents(records, reading, slack, driver.channel.logs),
    )


def _facts(run: FlowInsight, where: str, now: float) -> list[tuple[str, str]]:
    facts = []
    if run.history:
        began, ended = run.history[0].at, run.history[-1].at
        until = ended if run._driver.final is not None else now
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
