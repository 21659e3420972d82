"""Short texts about runs, from plain data: durations, counts, the line at a run's end, reprs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dask_taskrunner.control_codes import harmless

#: The order in which states are told: what went well, what did not, what is still under way.
#: A state of a user's own comes last.
STATE_ORDER = (
    "Success",
    "Mapped",
    "Skipped",
    "Failed",
    "TimedOut",
    "Crashed",
    "TriggerFailed",
    "Cancelled",
    "Running",
    "Retrying",
    "Looped",
    "Paused",
    "Scheduled",
    "CachedState",
    "Pending",
)
_RANKS = {name: rank for rank, name in enumerate(STATE_ORDER)}
_ENDED = {"Success": "Succeeded"}


def format_duration(seconds: float) -> str:
    """Write a duration in seconds as people say it: ``40 ms``, ``3.4 s``, ``2 min 05 s``."""
    # Clocks may step back: a duration below zero is one too short to tell.
    seconds = max(seconds, 0.0)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def in_order(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the states that occur, with how often, in the order in which they are told."""
    occurring = [(state, count) for state, count in counts.items() if count]
    return sorted(occurring, key=lambda pair: _RANKS.get(pair[0], len(_RANKS)))


def format_counts(counts: Mapping[str, int]) -> str:
    """Write how many task runs are in which state: ``210 Success, 4 Failed``."""
    return ", ".join(f"{count} {state}" for state, count in in_order(counts))


def format_retries(count: int) -> str:
    """Write how often something was tried again: ``1 retry``, ``2 retries``."""
    return "1 retry" if count == 1 else f"{count} retries"


def format_some(items: Iterable[str], most: int) -> str:
    """Write the first few of many: ``a, b, c and 7 more``."""
    items = list(items)
    text = ", ".join(items[:most])
    return text if len(items) <= most else f"{text} and {len(items) - most} more"


def end_line(state: str, message: str | None, seconds: float) -> str:
    """Write how a flow run ended, and after how long: ``Succeeded after 3.4 s: all well``."""
    line = f"{_ENDED.get(state, state)} after {format_duration(seconds)}"
    return f"{line}: {message}" if message else line


def flow_run_repr(flow_name: str, run_name: str, state: str, counts: Mapping[str, int]) -> str:
    """Write the repr of a flow run: ``<FlowRun etl 'nightly' Failed: 210 Success, 4 Failed>``."""
    told = format_counts(counts)
    return harmless(f"<FlowRun {flow_name} {run_name!r} {state}{': ' if told else ''}{told}>")


def flow_run_line(flow_name: str, run_name: str, state: str, total: int, seconds: float) -> str:
    """Write a flow run in a line: ``etl 'nightly': Success, 214 task runs, 41 s``."""
    # What took long is not known to a tenth of a second by anybody who looks at a line.
    took = f"{seconds:.0f} s" if 9.95 <= seconds < 59.5 else format_duration(seconds)
    runs = "1 task run" if total == 1 else f"{total} task runs"
    return f"{flow_name} {run_name!r}: {state}, {runs}, {took}"


def task_run_repr(slug: str, state: str, message: str | None, attempts: int, name: str = "") -> str:
    """Write the repr of a task run: ``<TaskRun clean[17] 'eu' Failed("E: text"), 4 attempts>``."""
    named = f" {name!r}" if name and name != slug else ""
    said = f'("{message}")' if message else ""
    tried = f", {attempts} attempts" if attempts > 1 else ""
    return harmless(f"<TaskRun {slug}{named} {state}{said}{tried}>")


def futures_repr(name: str, counts: Mapping[str, int]) -> str:
    """Write the repr of many futures, failures first: ``<TaskRunFutures clean[10]: 8 Success>``."""
    total = sum(counts.values())
    lines = [f"  {count} {state}" for state, count in failures_first(counts)]
    return "\n".join([f"<TaskRunFutures {name}[{total}]", *lines]) + ">"


def failures_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the states that occur, with how often: what failed before what did not."""
    return sorted(in_order(counts), key=lambda pair: pair[0] not in FAILURES)


#: The states of runs that have no result, and never will.
FAILURES = frozenset({"Failed", "TimedOut", "Crashed", "TriggerFailed", "Cancelled"})
