"""A run's progress as lines: plain ones for people and files, JSON for machines.

Each is made of what is new in the history, and decided here; who writes them decides nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.logs import clock, level_name
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.states import COLORS, OWN_FAILURES
from dask_taskrunner.view.block import Title, how_far
from dask_taskrunner.view.failure_text import first_line
from dask_taskrunner.view.log_lines import NewLines, ShownLine
from dask_taskrunner.view.tally import Tally
from dask_taskrunner.view.text import end_line, format_duration

if TYPE_CHECKING:
    from rich.console import Console

#: Of a task with more runs than this, those that succeed are counted, and not told one by one.
_FEW: Final = 20
#: Seconds between two lines that say how far a run is.
_COUNTED_EVERY: Final = 5.0
#: States that say no more than that something goes on.
_UNTOLD: Final = frozenset({"Pending", "Running", "Scheduled", "Submitted"})


class PlainLines:
    """Writes a run as lines that may go to a file.

    Parameters
    ----------
    tally : Tally
        Is fed with the history here.
    title : Title
        What runs, and where.
    """

    def __init__(self, tally: Tally, title: Title) -> None:
        self._tally = tally
        self._title = title
        self._is_begun = False
        self._counted_at = time.monotonic()
        self._counted = 0

    def lines(self, news: Sequence[HistoryEntry], logged: NewLines) -> list[str]:
        """Return what is to be written now."""
        made = []
        if not self._is_begun:
            self._is_begun = True
            told = f": {self._title.told}" if self._title.told else ""
            made.append(
                f"{self._title.flow_name} {self._title.run_name!r} on {self._title.where}{told}"
            )
        self._tally.feed(news)
        made += [f"{line.before} {line.text}" for line in logged.lines]
        made += [line for entry in news if (line := self._line(entry))]
        return [*map(harmless, made), *self._count()]

    def _line(self, entry: HistoryEntry) -> str | None:
        header = entry.header
        message = first_line(header.message) if header is not None and header.message else None
        if entry.task_run is None:
            if not self._tally.is_over or entry.new == "Running":
                return None
            return (
                f"{clock(entry.at)} {end_line(entry.new, message, self._tally.elapsed(entry.at))}"
            )
        if entry.new in _UNTOLD or (entry.new == "Success" and self._is_one_of_many(entry)):
            return None
        said = f"{clock(entry.at)} {entry.slug} {entry.new}"
        if header is not None and header.seconds is not None and entry.new == "Success":
            return f"{said} {format_duration(header.seconds)}"
        return f"{said}: {message}" if message else said

    def _is_one_of_many(self, entry: HistoryEntry) -> bool:
        assert entry.task_run is not None
        return self._tally.group_of(entry.task_run).total > _FEW

    def _count(self) -> list[str]:
        now, finished = time.monotonic(), self._tally.finished
        is_due = now - self._counted_at >= _COUNTED_EVERY and finished != self._counted
        if not is_due or self._tally.is_over:
            return []
        self._counted_at, self._counted = now, finished
        at = time.time()
        return [f"{clock(at)} {how_far(self._tally, at)}"]


def print_failures(console: Console, news: Sequence[HistoryEntry]) -> None:
    """Print in a terminal what has failed by itself."""
    from rich.text import Text

    failed = [entry for entry in news if entry.task_run is not None and entry.new in OWN_FAILURES]
    for entry in failed[:_FEW]:
        header = entry.header
        message = first_line(header.message) if header is not None and header.message else ""
        text = harmless(f"{clock(entry.at)} {entry.slug} {entry.new}: {message}")
        console.print(Text(text, style=COLORS[entry.new]), soft_wrap=True)
    if len(failed) > _FEW:
        console.print(Text(f"({len(failed) - _FEW:,} more failures)", style="dim"))


def state_record(entry: HistoryEntry, flow_run: str) -> dict[str, Any]:
    """Return a change of state for machines."""
    # Of the flow run itself, or of one of its task runs.
    subject = {"task_run": entry.slug} if entry.task_run is not None else {"flow_run": flow_run}
    changed = {"old": entry.old, "new": entry.new}
    record: dict[str, Any] = {"time": _iso(entry.at), "event": "state", **subject, **changed}
    header = entry.header
    if header is not None:
        more = {"message": header.message, "seconds": header.seconds, "worker": header.worker}
        record |= {key: value for key, value in more.items() if value not in (None, "")}
    return record


def log_record(line: ShownLine) -> dict[str, Any]:
    """Return a line of a task run's log for machines."""
    record = {"time": _iso(line.at), "event": "log", "task_run": line.slug}
    return {**record, "level": level_name(line.level), "text": line.text}


def dropped_record(count: int, at: float) -> dict[str, Any]:
    """Return for machines that lines of logs are not among the others: too many came at once."""
    return {"time": _iso(at), "event": "dropped", "log_lines": count}


def json_lines(records: Iterable[dict[str, Any]]) -> list[str]:
    """Write records as JSON, one a line, in ASCII, as a stream may take nothing else."""
    return [json.dumps(record) for record in records]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
