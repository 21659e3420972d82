"""What a notebook shows of one thing: a flow, a task, a state, a task run, futures, a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dask_taskrunner.short_texts import shorten_traceback
from dask_taskrunner.view.failure_text import Failure, FailureReport, first_line
from dask_taskrunner.view.html import (
    badge,
    box,
    dot,
    escaped,
    fold,
    mono,
    pre,
    quiet,
    scrolled,
    table,
)
from dask_taskrunner.view.text import FAILURES, format_duration, in_order

#: So many failures are told of below the states of many futures, and of a run that goes on.
SHOWN_FAILURES: Final = 3
#: The tracebacks of a failed flow run take no more together, for they go over the network.
_TRACEBACK_BYTES: Final = 40_000


class Try(NamedTuple):
    """One attempt of a task run."""

    number: int
    outcome: str
    #: Empty where it is not known.
    worker: str = ""
    seconds: float | None = None
    error: str = ""


def flow_card(name: str, picture: str) -> str:
    """Return a flow, with the picture of its graph."""
    return box(f"<b>flow {escaped(repr(name))}</b>", scrolled(picture))


def task_card(name: str, signature: str, options: Mapping[str, str]) -> str:
    """Return a task: its signature, and the options that were set, each in a line about it."""
    rows = [(quiet(escaped(option)), mono(value)) for option, value in options.items()]
    return box(f"<b>task {escaped(name)}</b> {mono(signature)}", table(rows, "lw"))


def state_card(name: str, color: str, message: str | None, traceback: str = "") -> str:
    """Return a state: its name on its color, and what it says."""
    return box(f"{badge(name, color)} {escaped(message or '')}", traceback_fold(traceback))


def future_card(
    slug: str,
    state: str,
    message: str | None,
    *,
    name: str = "",
    attempts: Sequence[Try] = (),
    inputs: Mapping[str, str] | None = None,
    traceback: str = "",
) -> str:
    """Return a task run, or a future of one.

    Parameters
    ----------
    slug : str
        What names it.
    state, message : str
        The name of its state's class, and what the state says.
    name : str, optional
        What people call it, where that is not the slug.
    attempts : sequence of Try
        In their order.
    inputs : mapping, optional
        A line for each argument of the attempt that failed, by name.
    traceback : str, optional
        From the user's first frame on.
    """
    named = f" {escaped(repr(name))}" if name and name != slug else ""
    known = [(quiet(escaped(key)), mono(line)) for key, line in (inputs or {}).items()]
    return box(
        f"<b>{escaped(slug)}</b>{named} {badge(state)} {escaped(message or '')}",
        table(map(_attempt_row, attempts), "llrlw"),
        table(known, "lw"),
        traceback_fold(traceback),
    )


def _attempt_row(attempt: Try) -> list[str]:
    seconds = "" if attempt.seconds is None else format_duration(attempt.seconds)
    return [
        quiet(f"attempt {attempt.number}"),
        escaped(attempt.outcome),
        seconds,
        quiet(escaped(attempt.worker)),
        escaped(attempt.error),
    ]


def futures_card(
    name: str, counts: Mapping[str, int], failures: Sequence[tuple[str, str | None]] = ()
) -> str:
    """Return many futures: a line for each state, failures first.

    Parameters
    ----------
    name : str
        What they are called.
    counts : mapping
        Name of a state's class -> how many are in it.
    failures : sequence of (slug, message)
        Of those that failed, in their order; the first three are shown, the rest is counted.
    """
    total = sum(counts.values())
    lines = {state: f"{dot(state)} {count} {escaped(state)}" for state, count in in_order(counts)}
    told = [
        (escaped(slug), escaped(first_line(message or "")))
        for slug, message in failures[:SHOWN_FAILURES]
    ]
    more = len(failures) - len(told)
    first = f"<b>{escaped(name)}</b> {total} {'task run' if total == 1 else 'task runs'}"
    return box(
        first,
        *(line for state, line in lines.items() if state in FAILURES),
        _further_in(table(told, "lw") + (quiet(f"and {more} more") if more else "")),
        *(line for state, line in lines.items() if state not in FAILURES),
    )


def failure_card(report: FailureReport) -> str:
    """Return the error text of a failed flow run, each traceback folded below its task run."""
    room = _TRACEBACK_BYTES // max(len(report.told), 1)
    return box(
        f'<div style="margin-top:.5em"><b>{escaped(report.headline)}</b></div>',
        *(_failure(failure, room) for failure in report.told),
        *map(escaped, report.closing),
    )


def failures_so_far(first: Sequence[Failure], total: int) -> str:
    """Return what has failed in a flow run that goes on, or succeeded all the same.

    Each has a line, and no fold: the next update would close what somebody has opened.
    """
    more = total - len(first)
    lines = map(_failure_line, first)
    return box(*lines, quiet(f"and {more} more failed") if more else "") if first else ""


def _failure_line(failure: Failure) -> str:
    return (
        f"{dot('Failed')} <b>{escaped(failure.slug)}</b> "
        f"{escaped(failure.said)} {quiet(escaped(failure.where))}"
    )


def _failure(failure: Failure, room: int) -> str:
    return box(
        _failure_line(failure),
        _further_in(mono(failure.given)) if failure.given else "",
        _further_in(traceback_fold(shorten_traceback(failure.traceback, room))),
    )


def _further_in(inside: str) -> str:
    return f'<div style="margin-left:1.2em">{inside}</div>' if inside else ""


def traceback_fold(traceback: str) -> str:
    """Return a traceback that is shown on a click, or nothing where there is none."""
    return fold("traceback", pre(traceback)) if traceback.strip() else ""
