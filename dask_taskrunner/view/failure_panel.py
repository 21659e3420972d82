"""What a terminal shows of a failed flow run at its end: the root cause first, and at length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dask_taskrunner.states import COLORS
from dask_taskrunner.view.failure_text import Failure, FailureReport

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

    shown: list[RenderableType] = [Text(report.headline, style="bold"), ""]
    for place, failure in enumerate(report.told):
        if 0 < place <= _AT_LENGTH:
            shown.append("")
        shown += [_first_line(failure), *(_at_length(failure) if place < _AT_LENGTH else [])]
    closing = [Text(line, style="dim") for line in report.closing]
    if report.failed and closing:
        shown.append("")
    return Panel(Lines(*shown, *closing), border_style=COLORS["Failed"], padding=(0, 1))


def _first_line(failure: Failure) -> Text:
    from rich.text import Text

    line = Text()
    line.append(failure.slug, style=f"bold {COLORS['Failed']}")
    line.append(f"  {failure.said}")
    return line.append(f"  {failure.where}", style="dim") if failure.where else line


def _at_length(failure: Failure) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    inside: list[RenderableType] = []
    if failure.given:
        inside.append(Text(failure.given))
    if failure.traceback.strip():
        inside.append(Text(failure.traceback.rstrip("\n"), style="dim"))
    if failure.logged:
        inside.append(Text("last lines of its log:", style="dim"))
        inside += [Padding(Text.from_ansi(line), (0, 0, 0, 2)) for line in failure.logged]
    return [Padding(part, (0, 0, 0, 2)) for part in inside]
