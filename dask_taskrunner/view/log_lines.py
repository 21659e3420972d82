"""Lines that task runs have logged, as views show them. It knows plain data, and no runs.

A view is no log file: of many lines that come at once it shows the newest, and says so. All that
is kept is in ``run[task].logs``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from dask_taskrunner.control_codes import colored, harmless
from dask_taskrunner.short_texts import shorten_traceback
from dask_taskrunner.view.html import fold, pre, quiet

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: So many lines are shown at a time.
SHOWN: Final = 20
_SHOWN_LIVE: Final = 3
#: A notebook gets no more of each, and that again with each update.
_LINE_BYTES: Final = 1000
#: From which level on a line is drawn how.
_STYLES: Final = ((logging.ERROR, "red"), (logging.WARNING, "yellow"), (0, ""))


class ShownLine(NamedTuple):
    """A line, and which task run it is of."""

    #: In epoch seconds.
    at: float
    slug: str
    level: int
    text: str

    @property
    def before(self) -> str:
        """What stands before the text: ``12:00:01 fit[3] INFO``."""
        clock = time.strftime("%H:%M:%S", time.localtime(self.at))
        return f"{clock} {self.slug} {logging.getLevelName(self.level)}"


class NewLines(NamedTuple):
    """The newest of the lines that have come since somebody looked."""

    lines: Sequence[ShownLine]
    #: How many there were in all.
    total: int


#: Gives what has come since the last call.
ReadLines: TypeAlias = Callable[[], NewLines]


def print_lines(console: Console, news: NewLines) -> None:
    """Print lines in a terminal."""
    for text in _in_terminal(news):
        console.print(text, soft_wrap=True)


def _in_terminal(news: NewLines) -> list[Text]:
    from rich.text import Text

    shown = news.lines[-SHOWN:]
    texts = []
    for line in shown:
        style = next(style for level, style in _STYLES if line.level >= level)
        # What a task has colored stays so, and cannot move the cursor.
        text = Text.from_ansi(colored(line.text))
        texts.append(Text.assemble((harmless(line.before), style or "dim"), " ", text))
    if hidden := news.total - len(shown):
        texts.insert(0, Text(f"({hidden:,} more lines)", style="dim"))
    return texts


def in_notebook(news: NewLines, *, is_live: bool = False) -> str:
    """Return the last lines as HTML, folded; nothing where there are none.

    Parameters
    ----------
    news : NewLines
        All that there are.
    is_live : bool
        Whether it is drawn again and again, which would close the fold: then the last few are
        shown as they are.
    """
    if not news.total:
        return ""
    shown = news.lines[-_SHOWN_LIVE if is_live else -SHOWN :]
    lines = pre(
        "\n".join(
            f"{line.before} {shorten_traceback(harmless(line.text), _LINE_BYTES)}" for line in shown
        )
    )
    if is_live:
        return quiet(lines)
    if news.total > len(shown):
        summary = f"the last {len(shown)} of {news.total:,} log lines"
    else:
        summary = "1 log line" if news.total == 1 else f"{news.total} log lines"
    return fold(summary, lines)
