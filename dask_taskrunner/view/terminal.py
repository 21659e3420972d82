"""The live block in a terminal, one line per task name. It draws a tally, and decides nothing.

rich is imported when something is drawn, and not before: most runs are watched by nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.states import COLORS
from dask_taskrunner.view.tally import Group, Tally
from dask_taskrunner.view.text import end_line, format_duration, format_retries, in_order

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

UPDATES_PER_SECOND = 4
_NAME_WIDTH = 28
#: A shorter time is no news, but the distance between two messages.
_SHOWN_SECONDS = 0.05

#: Held while a block is on the terminal: a second one would draw over it, and stays quiet.
_terminal = threading.Lock()


class Title(NamedTuple):
    """What the block's first line says."""

    flow_name: str
    run_name: str
    #: The cluster, in words.
    where: str


@contextmanager
def watching(
    history: Sequence[HistoryEntry],
    tally: Tally,
    title: Title,
    *,
    progress: bool | None = None,
    console: Console | None = None,
) -> Iterator[None]:
    """Show a live block while the block of code runs, and leave its last picture behind.

    Parameters
    ----------
    history : sequence of HistoryEntry
        May grow meanwhile, in another thread.
    tally : Tally
        Is fed from the history.
    title : Title
        What runs, and where.
    progress : bool, optional
        None: where the console is a terminal; a file gets the last picture only.
    console : rich.console.Console, optional
        Default: standard error, for standard output may be a pipe with results.
    """
    if progress is False:
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = console or Console(stderr=True)
    if not (progress or console.is_terminal) or not _terminal.acquire(blocking=False):
        yield
        return
    fed = 0

    def picture() -> RenderableType:
        nonlocal fed
        news = history[fed:]
        fed += len(news)
        tally.feed(news)
        return draw(
            tally, title, time.time(), width=console.width, most_groups=max(console.height - 6, 3)
        )

    live = Live(get_renderable=picture, console=console, refresh_per_second=UPDATES_PER_SECOND)
    try:
        with live if console.is_terminal else nullcontext():
            yield
    finally:
        _terminal.release()
        if not console.is_terminal:
            console.print(picture())


def draw(
    tally: Tally, title: Title, now: float, *, width: int = 100, most_groups: int = 40
) -> RenderableType:
    """Return the block as something that rich can print.

    Parameters
    ----------
    tally : Tally
        How far the run is.
    title : Title
        What runs, and where.
    now : float
        In epoch seconds.
    width : int
        In characters; bars take a quarter of it.
    most_groups : int
        So many lines at most; what is under way or failed goes before what has finished.
    """
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    shown = choose(list(tally.groups.values()), most_groups)
    cells = min(max(width // 4, 8), 24)
    for group in shown:
        elapsed = group.elapsed(now)
        table.add_row(
            Text(f"  {group.name}"),
            bar(group, cells),
            f"{group.finished}/{group.total}",
            format_duration(elapsed) if elapsed >= _SHOWN_SECONDS else "",
            told(group, now),
        )
    lines: list[RenderableType] = [
        Text(f"{title.flow_name} {title.run_name!r} on {title.where}", style="bold"),
        table,
    ]
    if hidden := len(tally.groups) - len(shown):
        lines.append(Text(f"  and {hidden} more", style="dim"))
    lines.append(last_line(tally, now))
    return Lines(*lines)


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


def bar(group: Group, cells: int) -> Text:
    """Return a bar of so many characters that shows the share of each state in its colour."""
    from rich.text import Text

    text = Text()
    for state, share in shares(group.counts, cells):
        waiting = state == "Pending"
        text.append(("─" if waiting else "━") * share, style="dim" if waiting else COLORS[state])
    return text


def shares(counts: Mapping[str, int], cells: int) -> list[tuple[str, int]]:
    """Divide so many characters among states; even one failure among thousands gets one of them."""
    states = in_order(counts)
    total = sum(counts.values())
    divided = {state: max(count * cells // total, 1) for state, count in states}
    # What rounding left over, or took too much, is the largest one's.
    divided[max(divided, key=divided.__getitem__)] += cells - sum(divided.values())
    return [(state, divided[state]) for state, _ in states]


def told(group: Group, now: float) -> Text:
    """Return what the bar does not say: what did not go well, and what is under way."""
    from rich.text import Text

    parts = [
        Text(f"{count} {state}", style=COLORS[state])
        for state, count in in_order(group.counts)
        if state not in ("Success", "Pending")
    ]
    due_in = group.next_due_in(now)
    if due_in is None and group.retries:
        parts.append(Text(format_retries(group.retries), style=COLORS["Retrying"]))
    elif due_in is not None:
        parts.append(Text(f"due in {format_duration(due_in)}", style=COLORS["Retrying"]))
    rate = group.rate(now)
    if rate is not None and group.finished < group.total:
        parts.append(Text(f"{rate:.1f}/s", style="dim"))
    return Text(", ").join(parts)


def last_line(tally: Tally, now: float) -> Text:
    """Return how far the whole run is, or how it ended."""
    from rich.text import Text

    elapsed = tally.elapsed(now)
    if not tally.is_over:
        return Text(f"{tally.finished} of {tally.total} finished, {format_duration(elapsed)}")
    text = Text(end_line(tally.state, None, elapsed), style=COLORS[tally.state])
    if tally.message:
        # A success that holds failures must not look as if all were well.
        text.append(f": {tally.message}", style=COLORS["Failed"] if tally.failed else "")
    return text
