"""Assertions on what has become of a flow run, which show its history when they fail."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from dask_taskrunner.flow_run import FlowRun


def assert_ran(run: FlowRun, *slugs: str) -> None:
    """Assert that the bodies of these task runs have begun at least once."""
    for slug in slugs:
        if not run[slug].attempts:
            _fail(run, f"{slug} did not run: it is {run[slug].state!r}")


def assert_not_ran(run: FlowRun, *slugs: str) -> None:
    """Assert that no body of these task runs has begun."""
    for slug in slugs:
        outcomes = [attempt.outcome for attempt in run[slug].attempts]
        if outcomes:
            _fail(run, f"{slug} ran: {outcomes}")


def assert_order(run: FlowRun, *slugs: str) -> None:
    """Assert that each of these task runs came to its final state before the next one did."""
    ends: dict[str, int] = {entry.slug: n for n, entry in enumerate(run.history) if entry.task_run}
    for slug in slugs:
        if not run[slug].state.is_finished():
            _fail(run, f"{slug} has not ended: it is {run[slug].state!r}")
    for first, second in itertools.pairwise(slugs):
        if ends[first] >= ends[second]:
            _fail(run, f"{first} did not end before {second}")


def assert_states(run: FlowRun, states: Mapping[str, str]) -> None:
    """Assert the states of task runs, by the names of their classes: ``{"load": "Success"}``."""
    found = {slug: type(run[slug].state).__name__ for slug in states}
    wrong = [f"{s} is {found[s]}, not {states[s]}" for s in states if found[s] != states[s]]
    if wrong:
        _fail(run, "; ".join(wrong))


def assert_attempts(run: FlowRun, slug: str, outcomes: Sequence[str]) -> None:
    """Assert how the attempts of a task run ended, such as ``["retrying", "success"]``.

    An attempt's outcome is one of ``success failed retrying skipped paused timed-out cancelled
    looped worker-lost re-executed``.
    """
    found = [attempt.outcome for attempt in run[slug].attempts]
    if found != list(outcomes):
        _fail(run, f"the attempts of {slug} ended as {found}, not {list(outcomes)}")


def _fail(run: FlowRun, text: str) -> None:
    raise AssertionError(f"{text}\n{_story(run)}")


def _story(run: FlowRun) -> str:
    begin = run.history[0].at if run.history else 0.0
    lines = [f"history of {run.run_name}, in seconds from its beginning:"]
    for entry in run.history:
        message = entry.header.message if entry.header is not None else None
        line = f"{entry.at - begin:10.1f}  {entry.slug or 'the flow'}: {entry.old} -> {entry.new}"
        lines.append(f"{line}  {message}" if message else line)
    return "\n".join(lines)
