"""The report's page: what can be read as it is, and a script that draws the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from dask_taskrunner.insight.paths import CriticalPath
from dask_taskrunner.states import COLORS
from dask_taskrunner.view.html import badge, bar, escaped, pre, scrolled, table
from dask_taskrunner.view.text import format_counts, format_duration


class Report(NamedTuple):
    """All that there is to tell.

    Attributes
    ----------
    title : str
        Of the page: the flow, and the run's name.
    state, message : str
        Of the flow run.
    facts : sequence of (str, str)
        What stands at the top: when, where, with which versions.
    counts : mapping
        How many task runs are in which state, in the order in which they are told.
    graph : str
        The picture, as SVG.
    path : CriticalPath or None
        None where the run goes on.
    failures : str
        What failed, as text; empty where nothing did.
    notes : sequence of str
        What happened besides.
    contents : mapping
        What :func:`~dask_taskrunner.report.contents.contents` returns.
    """

    title: str
    state: str
    message: str
    facts: Sequence[tuple[str, str]]
    counts: Mapping[str, int]
    graph: str
    path: CriticalPath | None
    failures: str
    notes: Sequence[str]
    contents: Mapping[str, Any]


def page(report: Report) -> str:
    """Return the page. It loads nothing."""
    parts = [
        f"<h1>{escaped(report.title)} {badge(report.state)}</h1>",
        f"<p>{escaped(report.message)}</p>" if report.message else "",
        table([(f"<b>{escaped(name)}</b>", escaped(said)) for name, said in report.facts], "lw"),
        f"<p>{bar(report.counts)} {escaped(format_counts(report.counts))}</p>",
        _section("Failures", pre(report.failures)) if report.failures else "",
        _section("Graph", scrolled(report.graph)),
        _section("Timeline", _TIMELINE),
        _section("Critical path", _path(report.path)),
        _section("Task runs", _TABLE),
        _section("Notes", pre("\n".join(report.notes))) if report.notes else "",
    ]
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escaped(report.title)}</title>",
        f"<style>{_file('page.css')}</style></head><body>",
        *filter(None, parts),
        f'<script type="application/json" id="data">{_json(report.contents)}</script>',
        f"<script>{_file('page.js')}</script></body></html>",
    ])  # fmt: skip


_TIMELINE = (
    '<div id="timeline"><canvas></canvas><div id="tip" hidden></div></div>'
    '<p class="quiet">A lane for each thread of a worker; a bar for each attempt, in the color of '
    "its task, with a red edge where it did not go well. The thin line before it is the time from "
    "when on it could have begun.</p>"
    '<div id="legend"></div>'
)
_TABLE = (
    '<p><input id="filter" type="search" placeholder="filter by any text"> '
    '<select id="state"><option value="">all states</option></select> '
    '<span id="count"></span> <button id="before">&lt;</button> <button id="after">&gt;</button>'
    '</p><div class="wide"><table id="runs"><thead></thead><tbody></tbody></table></div>'
)


def _section(name: str, inside: str) -> str:
    return f"<section><h2>{name}</h2>{inside}</section>"


def _path(path: CriticalPath | None) -> str:
    if path is None:
        return "<p>The run goes on.</p>"
    heads = ("task run", "began", "took", "running", "retry delay", "queued", "fetching", "sending")
    rows: Iterable[Sequence[str]] = [
        (
            escaped(step.slug),
            *(
                escaped(format_duration(seconds)) if seconds >= 0.0005 else ""
                for seconds in (
                    step.began, step.seconds, step.running, step.delayed, step.queued,
                    step.fetching, step.overhead,
                )
            ),
        )
        for step in path
    ]  # fmt: skip
    steps = "1 step" if len(path) == 1 else f"{len(path)} steps"
    first = f"<p>{steps} in {escaped(format_duration(path.seconds))}</p>"
    return f'{first}<div class="scrolled">{table([heads, *rows], "lrrrrrr")}</div>'


def _json(data: Mapping[str, Any]) -> str:
    """Return data as it may stand inside of a page, whatever texts are in it."""
    text = json.dumps({**data, "colors": COLORS}, ensure_ascii=False, separators=(",", ":"))
    # No text may end the element that it stands in, nor begin a comment there.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
