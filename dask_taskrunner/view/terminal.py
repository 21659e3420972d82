"""The live block in a terminal, one line per task name. It draws a tally, and decides nothing.

rich is imported when something is drawn, and not before: most runs are watched by nobody.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO, cast

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.states import COLORS
from dask_taskrunner.view.block import (
    UPDATES_PER_SECOND,
    Title,
    choose,
    how_far,
    remarks,
    shares,
    time_taken,
)
from dask_taskrunner.view.lines import print_failures
from dask_taskrunner.view.log_lines import NewLines, ReadLines, print_lines
from dask_taskrunner.view.pipes import Pipe
from dask_taskrunner.view.tally import Group, Tally

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_NAME_WIDTH = 28

#: Held while a block is on the terminal: a second one would draw over it, and stays quiet.
_terminal = threading.Lock()


@contextmanager
def watching(
    history: Sequence[HistoryEntry],
    tally: Tally,
    title: Title,
    *,
    progress: bool | None = None,
    console: Console | None = None,
    read_lines: ReadLines = lambda: NewLines((), 0),
) -> Iterator[Console | None]:
    """Show a live block while the block of code runs, and leave its last picture behind.

    Yields
    ------
    rich.console.Console or None
        Where it is shown; None where it is not.

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
    read_lines : callable
        Gives what task runs have logged since the last call; it is printed above the block.
    """
    if progress is False:
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    console = console or Console(file=cast(TextIO, Pipe(sys.stderr)))
    if not (progress or console.is_terminal) or not _terminal.acquire(blocking=False):
        yield None
        return
    fed = 0

    def picture() -> RenderableType:
        nonlocal fed
        news = history[fed:]
        fed += len(news)
        tally.feed(news)
        # The block that stands there makes room for them.
        print_lines(console, read_lines())
        print_failures(console, news)
        return draw(tally, title, time.time(), width=console.width, most_groups=_room(console))

    live = Live(get_renderable=picture, console=console, refresh_per_second=UPDATES_PER_SECOND)
    try:
        with live if console.is_terminal else nullcontext():
            yield console
    finally:
        _terminal.release()
        if not console.is_terminal:
            console.print(picture())


def _room(console: Console) -> int:
    return max(console.height - 6, 3)


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
        table.add_row(
            Text(f"  {harmless(group.name)}"),
            bar(group, cells),
            f"{group.finished}/{group.total}",
            time_taken(group, now),
            told(group, now),
        )
    lines: list[RenderableType] = [
        _first_line(title),
        table,
    ]
    if hidden := len(tally.groups) - len(shown):
        lines.append(Text(f"  and {hidden} more", style="dim"))
    lines.append(last_line(tally, now))
    return Lines(*lines)


def _first_line(title: Title) -> Text:
    from rich.text import Text

    begin = f"{title.flow_name} {title.run_name!r} on {title.where}"
    line = Text(harmless(begin), style="bold")
    told = f": {harmless(title.told)}" if title.told else ""
    return line.append(told, style="not bold")


def bar(group: Group, cells: int) -> Text:
    """Return a bar of so many characters that shows the share of each state in its colour."""
    from rich.text import Text

    text = Text()
    for state, share in shares(group.counts, cells):
        waiting = state == "Pending"
        text.append(("─" if waiting else "━") * share, style="dim" if waiting else COLORS[state])
    return text


def told(group: Group, now: float) -> Text:
    """Return what the bar does not say: what did not go well, and what is under way."""
    from rich.text import Text

    return Text(", ").join(
        Text(text, style="dim" if state is None else COLORS[state])
        for text, state in remarks(group, now)
    )


def last_line(tally: Tally, now: float) -> Text:
    """Return how far the whole run is, or how it ended."""
    from rich.text import Text

    if not tally.is_over:
        return Text(how_far(tally, now))
    text = Text(how_far(tally, now), style=COLORS[tally.state])
    if tally.message:
        # A success that holds failures must not look as if all were well.
        text.append(f": {harmless(tally.message)}", style=COLORS["Failed"] if tally.failed else "")
    return text
