"""The sections of a report's page that can be read without its script. All text is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from dask_taskrunner.insight.paths import WORDS, CriticalPath, Step, told_parts
from dask_taskrunner.view.failure_text import (
    TOLD,
    Failure,
    FailureReport,
    NotRun,
    first_line,
)
from dask_taskrunner.view.html import dot, escaped, mono, pre
from dask_taskrunner.view.text import format_duration

#: So many names of task runs stand in a line.
_NAMED: Final = 8
#: Of so many failures the traceback is seen at once.
_OPEN: Final = 3
_NUMBER: Final = re.compile(r"\d+")
#: So many steps of a path are told; the longest of them, where there are more.
_STEPS: Final = 500


class Tile(NamedTuple):
    """A figure, what it counts, and what else is to be said of it."""

    figure: str
    name: str
    note: str


def tiles(all_of_them: Iterable[Tile]) -> str:
    """Return the figures side by side."""
    inside = "".join(
        f"<li><b>{escaped(one.figure)}</b> {escaped(one.name)}"
        f"{f'<small>{escaped(one.note)}</small>' if one.note else ''}</li>"
        for one in all_of_them
    )
    return f'<ul class="tiles">{inside}</ul>'


def section(name: str, inside: str, id: str = "") -> str:
    """Return a section under its name; `inside` is HTML."""
    named = f' id="{id}"' if id else ""
    return f"<section{named}><h2>{escaped(name)}</h2>{inside}</section>"


# --- what failed -----------------------------------------------------------------------------


def failures(report: FailureReport, held_back: Mapping[str, Sequence[str]]) -> str:
    """Return what failed by itself, each with what did not run because of it; what is alike, once.

    Parameters
    ----------
    report : FailureReport
        Root causes first.
    held_back : mapping
        Slug of a root cause -> what did not run because of it.
    """
    alike: dict[tuple[str, str], list[Failure]] = {}
    for failure in report.failed:
        # What they say may name a line, a file, a price: in all but its numbers it is the same.
        task, said = failure.slug.partition("[")[0], _NUMBER.sub("0", failure.said)
        alike.setdefault((task, said), []).append(failure)
    groups = [*alike.values()]
    told = "".join(
        _failure(group, held_back, is_open=place < _OPEN)
        for place, group in enumerate(groups[:TOLD])
    )
    if more := [one for group in groups[TOLD:] for one in group]:
        told += f"<p>Failed as well: {_slugs([one.slug for one in more])}.</p>"
    known = {slug for slugs in held_back.values() for slug in slugs}
    others = [one for one in report.not_run if one.slug not in known]
    return f"<p>{escaped(report.in_short)}.</p>" + told + _not_run(others)


def _failure(
    group: Sequence[Failure], held_back: Mapping[str, Sequence[str]], *, is_open: bool
) -> str:
    first, others = group[0], [one.slug for one in group[1:]]
    stopped = list(dict.fromkeys(slug for one in group for slug in held_back.get(one.slug, ())))
    parts = [
        f"<h3>{dot('Failed')} {slug(first.slug)} {escaped(first.said)}</h3>",
        f'<p class="quiet">{escaped(first.where)}</p>',
        f"<p>{mono(first.given)}</p>" if first.given else "",
        _fold("traceback", first.traceback, is_open=is_open),
        _fold("last lines of its log", "\n".join(first.logged)),
        f"<p>{len(others):,} more failed alike: {_slugs(others)}.</p>" if others else "",
        f"<p>Not run because of that: {_slugs(stopped)}.</p>" if stopped else "",
    ]
    return f'<article class="failure">{"".join(parts)}</article>'


def _fold(name: str, text: str, *, is_open: bool = False) -> str:
    if not text.strip():
        return ""
    return f"<details{' open' if is_open else ''}><summary>{name}</summary>{pre(text)}</details>"


def _not_run(runs: Sequence[NotRun]) -> str:
    by_reason: dict[str, list[str]] = {}
    for one in runs:
        by_reason.setdefault(first_line(one.reason), []).append(one.slug)
    lines = (
        f"<p>Not run: {_slugs(slugs)} ({escaped(reason)}).</p>"
        for reason, slugs in by_reason.items()
    )
    return "".join(lines)


def slug(name: str) -> str:
    """Return the name of a task run, which finds it in the table."""
    return f'<button class="slug" data-find="{escaped(name)}">{escaped(name)}</button>'


def _slugs(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    told = ", ".join(slug(name) for name in names[:_NAMED])
    return f"{told} and {more:,} more" if more > 0 else told


# --- the critical path -----------------------------------------------------------------------


def critical_path(path: CriticalPath | None) -> str:
    """Return what the run's time hung on, or that it is not known yet."""
    if path is None:
        return "<p>The run goes on.</p><p>What its time hung on is known when it has ended.</p>"
    if not path:
        return "<p>Nothing ran.</p>"
    steps = "1 step" if len(path) == 1 else f"{len(path)} steps"
    spent = ", ".join(told_parts(path.spent))
    took = f"{steps} in {format_duration(path.seconds)}{f', of which {spent}' if spent else ''}"
    first = f"<p>{escaped(took)}</p>"
    told, left_out = _longest(path)
    more = f"<p>{left_out:,} shorter steps are not shown.</p>" if left_out else ""
    longest = max(step.seconds for step in told)
    rows = "".join(_step(step, longest) for step in told)
    heads = ("task run", "ready", "took", "where its time went", *_PARTS.values())
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f'<table class="path"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'{first}{_share(path.spent, "whole")}<div class="scrolled">{table}</div>{more}'


#: What a part is called where there is little room.
_PARTS: Final = {
    "running": "running",
    "delayed": "retry delay",
    "queued": "queued",
    "fetching": "fetching",
    "overhead": "sending",
}


def _longest(path: CriticalPath) -> tuple[Sequence[Step], int]:
    if len(path) <= _STEPS:
        return path, 0
    least = sorted(step.seconds for step in path)[-_STEPS]
    told = [step for step in path if step.seconds >= least][:_STEPS]
    return told, len(path) - len(told)


def _step(step: Step, longest: float) -> str:
    parts = step._asdict()
    width = 100 * step.seconds / longest if longest > 0 else 0
    cells = [
        f'<th scope="row">{slug(step.slug)}</th>',
        _number(step.began),
        _number(step.seconds),
        f'<td class="bar"><div style="width:{width:.1f}%">{_share(parts)}</div></td>',
        *(_number(parts[name], 0.0005) for name in _PARTS),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _number(seconds: float, least: float = 0.0) -> str:
    return f'<td class="n">{escaped(format_duration(seconds)) if seconds >= least else ""}</td>'


def _share(parts: Mapping[str, float], name: str = "") -> str:
    """Return a bar of what a time went to."""
    total = sum(parts[part] for part in WORDS)
    inside = "".join(
        f'<span class="{part}" style="flex:{parts[part] / total:.4f} 0 0" '
        f'title="{escaped(f"{format_duration(parts[part])} {WORDS[part]}")}"></span>'
        for part in WORDS
        if total > 0 and parts[part] > 0
    )
    told = f' role="img" aria-label="{escaped(", ".join(told_parts(parts)))}"' if name else ""
    return f'<div class="share {name}"{told}>{inside}</div>'
