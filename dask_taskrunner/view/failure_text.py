"""The text of a failed flow run: what failed by itself, and what did not run because of it.

The text is made of plain data, so that a report, a log and an exception say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dask_taskrunner.view.text import format_some

#: So many failed task runs are told of one by one; the rest are named, so many again.
TOLD: Final = 20
#: Attempts stand in one column, behind messages of up to this width.
_MESSAGE_WIDTH: Final = 36
_FRAME: Final = "  File "


class Failure(NamedTuple):
    """A task run that failed by itself."""

    slug: str
    #: ``TypeName: text``, or ``Crashed: text``; its first line is shown.
    message: str
    #: Which attempt was the last, and how many there could have been; None where no body failed.
    attempt: tuple[int, int] | None = None
    #: The address of the worker; empty where it is not known, or the message names it.
    worker: str = ""
    #: One line for each argument of the failed attempt, by name.
    inputs: Mapping[str, str] = {}
    #: From the user's first frame on.
    traceback: str = ""
    #: What people call the run, where that is not its slug.
    name: str = ""
    #: The last lines of its log.
    logged: Sequence[str] = ()

    @property
    def said(self) -> str:
        """The first line of its message."""
        return first_line(self.message)

    @property
    def where(self) -> str:
        """Which attempt it was, and on which worker: ``attempt 4 of 4, tcp://10.0.0.7:33121``."""
        where = []
        if self.attempt is not None:
            where.append("attempt {} of {}".format(*self.attempt))
        if self.worker:
            where.append(self.worker)
        return ", ".join(where)

    @property
    def given(self) -> str:
        """What people call the run, and its inputs: ``eu: rows=[1, 2], threshold=0.5``."""
        said = ", ".join(f"{name}={first_line(text)}" for name, text in self.inputs.items())
        return ": ".join(part for part in (self.name, said) if part)


class NotRun(NamedTuple):
    """A task run that its trigger did not let run."""

    slug: str
    #: Why; those with the same reason share a line.
    reason: str
    #: Whether nothing upstream is to blame: its trigger wanted something else than a success.
    is_by_itself: bool = False


class FailureReport(NamedTuple):
    """What is to be told of a failed flow run."""

    flow_name: str
    run_name: str
    #: How many task runs the flow run has.
    total: int
    #: Root causes first.
    failed: Sequence[Failure] = ()
    not_run: Sequence[NotRun] = ()

    @property
    def told(self) -> Sequence[Failure]:
        """Those that are told of one by one."""
        return self.failed[:TOLD]

    @property
    def headline(self) -> str:
        """Which flow run it is, and :attr:`in_short`."""
        return f"{self.flow_name} {self.run_name!r} failed: {self.in_short}"

    @property
    def in_short(self) -> str:
        """How many failed, and how many did not run because of them."""
        count, total = len(self.failed), len(self.not_run)
        by_themselves = sum(run.is_by_itself for run in self.not_run)
        runs = "task run" if self.total == 1 else "task runs"
        of_all = f"of {self.total} {runs}"
        parts = [f"{count} {of_all} failed"]
        if not count and total:
            parts, by_themselves = [f"{total} {of_all} did not run"], 0
        elif because := total - by_themselves:
            parts.append(f"{because} did not run because of {'it' if count == 1 else 'them'}")
        if by_themselves:
            parts.append(f"{by_themselves} did not run for another reason")
        return ", ".join(parts)

    @property
    def closing(self) -> list[str]:
        """What failed beyond what is told of at length, and what did not run, and why."""
        lines = []
        if more := [failure.slug for failure in self.failed[TOLD:]]:
            lines.append(f"failed as well: {format_some(more, TOLD)}")
        by_reason: dict[str, list[str]] = {}
        for run in self.not_run:
            by_reason.setdefault(run.reason, []).append(run.slug)
        for reason, slugs in by_reason.items():
            lines.append(f"not run: {format_some(slugs, TOLD)} ({first_line(reason)})")
        return lines


def failure_text(report: FailureReport) -> str:
    """Write what failed, one task run after the other, and what did not run because of it.

    Parameters
    ----------
    report : FailureReport
        At most 20 of its failures are told of at length; what is left out is counted.

    Returns
    -------
    str
        Several lines, without a line break at the end.
    """
    width = max((len(failure.slug) for failure in report.told), default=0)
    lines = [report.headline]
    for failure in report.told:
        lines += _failure_lines(failure, width)
    return "\n".join([*lines, *(f"  {line}" for line in report.closing)])


def _failure_lines(failure: Failure, width: int) -> list[str]:
    line = f"  {failure.slug:<{width}}  {failure.said:<{_MESSAGE_WIDTH}}"
    lines = [f"{line}  {failure.where}".rstrip()]
    if failure.given:
        lines.append(f"    {failure.given}")
    return lines + [f"  {line}" for line in frame_lines(failure.traceback)]


def frame_lines(traceback: str) -> list[str]:
    """Return the lines of a traceback's first and last frame, which say most.

    Parameters
    ----------
    traceback : str
        As Python writes it. Of chained exceptions only the last is looked at.
    """
    last_part = traceback.rpartition("Traceback (most recent call last):")[2]
    frames: list[list[str]] = []
    for line in last_part.splitlines():
        if line.startswith(_FRAME):
            frames.append([line])
        elif frames and line and not line.startswith(" "):
            # The exception, whose text may quote another traceback.
            break
        # Below a frame stands its code; not below it are the marks under the code, "[Previous line
        # repeated ...]", and the exception.
        elif frames and line.startswith("    ") and line.strip(" ^~"):
            frames[-1].append(line)
    if len(frames) > 2:
        frames[1:-1] = [["  ..."]]
    return [line for frame in frames for line in frame]


def first_line(text: str) -> str:
    """Return a text up to its first line break."""
    return text.partition("\n")[0]
