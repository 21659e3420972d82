"""The report's page: what can be read as it is, and a script that draws the rest.

It may do nothing but run this one script, whose digest it names: whatever a text manages to be, a
browser neither runs nor loads it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from dask_taskrunner.insight.paths import CriticalPath
from dask_taskrunner.report import sections
from dask_taskrunner.report.sections import Tile, section
from dask_taskrunner.report.texts import printable
from dask_taskrunner.states import COLORS
from dask_taskrunner.view.failure_text import FailureReport
from dask_taskrunner.view.html import badge, bar, escaped, pre, scrolled, table
from dask_taskrunner.view.text import format_counts

#: In the order in which they need each other.
_SCRIPTS: Final = ("words.js", "lanes.js", "paint.js", "timeline.js", "table.js", "page.js")


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
    tiles : sequence of Tile
        The figures that somebody looks for first.
    counts : mapping
        How many task runs are in which state, in the order in which they are told.
    graph : str
        The picture, as SVG.
    path : CriticalPath or None
        None where the run goes on.
    failures : FailureReport
        What failed, and what did not run because of it.
    held_back : mapping
        Slug of a root cause -> what did not run because of it.
    notes : sequence of str
        What happened besides.
    contents : mapping
        What :func:`~dask_taskrunner.report.contents.contents` returns.
    """

    title: str
    state: str
    message: str
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[Tile]
    counts: Mapping[str, int]
    graph: str
    path: CriticalPath | None
    failures: FailureReport
    held_back: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    contents: Mapping[str, Any]


def page(report: Report) -> str:
    """Return the page. It loads nothing."""
    script = "\n".join(map(_file, _SCRIPTS))
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        printable(f"<title>{escaped(report.title)}</title>"),
        f"<style>{_file('page.css')}</style></head><body>",
        printable("\n".join(filter(None, _parts(report)))),
        f'<script type="application/json" id="data">{_json(report.contents)}</script>',
        f"<script>{script}</script></body></html>",
    ])  # fmt: skip


def _parts(report: Report) -> list[str]:
    failed = report.failures.failed or report.failures.not_run
    return [
        f"<header><h1>{escaped(report.title)} {badge(report.state)}</h1>",
        f"<p>{escaped(report.message)}</p>" if report.message else "",
        sections.tiles(report.tiles),
        f"<p>{bar(report.counts)} {escaped(format_counts(report.counts))}</p>",
        table([(f"<b>{escaped(name)}</b>", escaped(said)) for name, said in report.facts], "lw"),
        "</header><main>",
        section("Failures", sections.failures(report.failures, report.held_back)) if failed else "",
        section("Graph", scrolled(report.graph), "graph"),
        section("Timeline", _file("timeline.html")),
        section("Critical path", sections.critical_path(report.path), "path"),
        section("Task runs", _file("table.html")),
        section("Notes", pre("\n".join(report.notes))) if report.notes else "",
        "</main>",
    ]


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Bars and pictures bring their style with them, as they do in notebooks.
    allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _json(data: Mapping[str, Any]) -> str:
    """Return data as it may stand inside of a page, whatever texts are in it."""
    text = json.dumps({**data, "colors": COLORS}, ensure_ascii=False, separators=(",", ":"))
    # No text may end the element that it stands in, nor begin a comment there.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
