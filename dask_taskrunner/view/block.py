"""What a run's live block says, wherever it is drawn: its lines, in words and in shares of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dask_taskrunner.view.tally import Group, Tally
from dask_taskrunner.view.text import end_line, format_duration, format_retries, in_order

UPDATES_PER_SECOND = 4
#: A shorter time is no news, but the distance between two messages.
_SHOWN_SECONDS = 0.05


class Title(NamedTuple):
    """What the block's first line says."""

    flow_name: str
    run_name: str
    #: The cluster, in words.
    where: str
    #: What is said of the run before it begins.
    told: str = ""


class Remark(NamedTuple):
    """A few words about a group."""

    text: str
    #: The name of the state whose color it has; None for what is said by the way.
    state: str | None


def choose(groups: Sequence[Group], most: int) -> list[Group]:
    """Return the groups for which there is room, in their order."""
    if len(groups) <= most:
        return list(groups)
    kept = set(sorted(range(len(groups)), key=lambda i: _interest(groups[i]))[:most])
    return [group for i, group in enumerate(groups) if i in kept]


def _interest(group: Group) -> int:
    if group.failed:
        return 0
    if group.finished == group.total:
        return 3
    return 2 if group.first_at is None else 1


def shares(counts: Mapping[str, int], cells: int) -> list[tuple[str, int]]:
    """Divide so many characters among states; even one failure among thousands gets one of them."""
    states = in_order(counts)
    total = sum(counts.values())
    divided = {state: max(count * cells // total, 1) for state, count in states}
    # What rounding left over, or took too much, is the largest one's.
    divided[max(divided, key=divided.__getitem__)] += cells - sum(divided.values())
    return [(state, divided[state]) for state, _ in states]


def time_taken(group: Group, now: float) -> str:
    """Write for how long something has been known of a group; nothing where that says nothing."""
    elapsed = group.elapsed(now)
    return format_duration(elapsed) if elapsed >= _SHOWN_SECONDS else ""


def remarks(group: Group, now: float) -> list[Remark]:
    """Return what the bar does not say: what did not go well, and what is under way."""
    said = [
        Remark(f"{count} {state}", state)
        for state, count in in_order(group.counts)
        if state not in ("Success", "Pending")
    ]
    due_in = group.next_due_in(now)
    if due_in is None and group.retries:
        said.append(Remark(format_retries(group.retries), "Retrying"))
    elif due_in is not None:
        said.append(Remark(f"due in {format_duration(due_in)}", "Retrying"))
    rate = group.rate(now)
    if rate is not None and group.finished < group.total:
        said.append(Remark(f"{rate:.1f}/s", None))
    return said


def how_far(tally: Tally, now: float) -> str:
    """Write how far the whole run is, or how it ended, without the message."""
    elapsed = tally.elapsed(now)
    if tally.is_over:
        return end_line(tally.state, None, elapsed)
    return f"{tally.finished} of {tally.total} finished, {format_duration(elapsed)}"
