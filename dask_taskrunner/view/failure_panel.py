"""What a terminal shows of a failed flow run at its end: the root cause first, and at length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dask_taskrunner.states import COLORS
from dask_taskrunner.view.failure_text import (
    TOLD,
    Failure,
    FailureReport,
    closing_lines,
    first_line,
    headline,
    whereabouts,
    with_inputs,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

#: So many failures are shown with their tracebacks.
_AT_LENGTH: Final = 3


def failure_panel(report: FailureReport) -> RenderableType:
    """Return what failed, with tracebacks and the last lines of logs, as rich prints it."""
    from rich.console import Group as Lines
    from rich.panel import Panel
    from rich.text import Text

    shown: list[RenderableType] = [Text(headline(report), style="bold"), ""]
    for place, failure in enumerate(report.failed[:TOLD]):
        if 0 < place <= _AT_LENGTH:
            shown.append("")
        shown += [_first_line(failure), *(_at_length(failure) if place < _AT_LENGTH else [])]
    closing = [Text(line, style="dim") for line in closing_lines(report)]
    if report.failed and closing:
        shown.append("")
    return Panel(Lines(*shown, *closing), border_style=COLORS["Failed"], padding=(0, 1))


def _first_line(failure: Failure) -> Text:
    from rich.text import Text

    line = Text()
    line.append(failure.slug, style=f"bold {COLORS['Failed']}")
    line.append(f"  {first_line(failure.message)}")
    where = whereabouts(failure)
    return line.append(f"  {where}", style="dim") if where else line


def _at_length(failure: Failure) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    inside: list[RenderableType] = []
    if said := with_inputs(failure):
        inside.append(Text(said))
    if failure.traceback.strip():
        inside.append(Text(failure.traceback.rstrip("\n"), style="dim"))
    if failure.logged:
        inside.append(Text("last lines of its log:", style="dim"))
        inside += [Padding(Text.from_ansi(line), (0, 0, 0, 2)) for line in failure.logged]
    return [Padding(part, (0, 0, 0, 2)) for part in inside]
