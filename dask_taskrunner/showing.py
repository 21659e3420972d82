"""Shows flow runs while somebody looks: in the notebook's cell, or in the terminal."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.listener import Note
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.reporting import failure_report, failures_of, most_telling_first
from dask_taskrunner.states import OWN_FAILURES, Failed
from dask_taskrunner.view import terminal
from dask_taskrunner.view.block import Title
from dask_taskrunner.view.cards import SHOWN_FAILURES, failure_card, failures_so_far
from dask_taskrunner.view.failure_panel import failure_panel
from dask_taskrunner.view.failure_text import FailureReport, failure_text
from dask_taskrunner.view.following import following
from dask_taskrunner.view.html import block, box, dot, escaped, fitted, quiet, scrolled
from dask_taskrunner.view.lines import (
    PlainLines,
    dropped_record,
    json_lines,
    log_record,
    state_record,
)
from dask_taskrunner.view.log_lines import NewLines, ShownLine, in_notebook
from dask_taskrunner.view.notebook import Forms, Output, current_cell, find_shell, keep_drawing
from dask_taskrunner.view.pipes import Pipe
from dask_taskrunner.view.progress import Progress
from dask_taskrunner.view.tally import Tally
from dask_taskrunner.view.text import flow_run_line

#: How many seconds a cell waits for the last picture of a run that has ended.
_PATIENCE: Final = 2.0
#: So many notes stand below a notebook's block.
_NOTES: Final = 3
_OUTPUT: Final = "dask-taskrunner"


class Live(NamedTuple):
    """How a notebook shows a run."""

    #: Weakly, for it leads to the run: the thread holds it as long as it is drawn anew.
    output: weakref.ref[Output]
    #: Draws it anew until the run's end.
    thread: threading.Thread
    #: The last cell that got a block of it, and needs no second one.
    cell: str


#: Each run that a notebook has shown.
_lives: weakref.WeakKeyDictionary[FlowRun, Live] = weakref.WeakKeyDictionary()
#: How many log lines, and notes, of a run the terminal has shown: one that had paused is watched
#: twice.
_lines_seen: weakref.WeakKeyDictionary[FlowRun, tuple[int, int]] = weakref.WeakKeyDictionary()
#: How much of a run's history was written as lines.
_entries_seen: weakref.WeakKeyDictionary[FlowRun, int] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def watching(run: FlowRun, *, progress: Progress) -> Iterator[None]:
    """Show a run while the block of code waits for it, and leave its last picture.

    Parameters
    ----------
    run : FlowRun
        It goes on.
    progress : bool or str, optional
        None: in a notebook, and where standard error is a terminal.
    """
    if progress in ("plain", "json"):
        with _writing_lines(run, progress):
            yield
        return
    drawn = None if progress is None else progress in (True, "rich")
    shell = find_shell() if drawn is not False else None
    if shell is None:
        with _drawing_in_terminal(run, drawn):
            yield
        return
    thread = _show_block(run, shell)
    try:
        yield
    finally:
        # A run that takes its time to end as cancelled is drawn so when it has.
        thread.join(_PATIENCE)


@contextlib.contextmanager
def _drawing_in_terminal(run: FlowRun, progress: bool | None) -> Iterator[None]:
    with terminal.watching(
        run.history,
        Tally(run.names),
        _title(run),
        progress=progress,
        read_lines=functools.partial(_new_lines, run),
    ) as console:
        run.listener.decide(is_shown=console is not None)
        yield
    if console is not None and _tells_of_failure(run):
        console.print(failure_panel(_failure_report(run)))


@contextlib.contextmanager
def _writing_lines(run: FlowRun, style: Progress) -> Iterator[None]:
    tally = Tally(run.names)
    news = _News(run, tally)
    run.listener.decide(is_shown=style == "plain")
    if style == "json":
        with following(news.json, sys.stdout):
            yield
        return
    plain = PlainLines(tally, _title(run))
    with following(lambda: plain.lines(*news.take()), sys.stderr):
        yield
    if _tells_of_failure(run):
        Pipe(sys.stderr).write(f"{failure_text(_failure_report(run))}\n")


def _tells_of_failure(run: FlowRun) -> bool:
    """Return whether a view has to tell what failed; it may have ended before there was one."""
    return isinstance(run.state, Failed) and not run.listener.is_printed


class _News:
    """What is new of a run since the last look, also of somebody who has watched it before."""

    def __init__(self, run: FlowRun, tally: Tally) -> None:
        self._run = run
        self._told = _entries_seen.get(run, 0)
        tally.feed(run.history[: self._told])

    def take(self) -> tuple[Sequence[HistoryEntry], NewLines]:
        """Return the changes of state, and the lines of logs."""
        news = self._run.history[self._told :]
        self._told += len(news)
        _entries_seen[self._run] = self._told
        return news, _new_lines(self._run)

    def json(self) -> list[str]:
        """Return them as JSON."""
        news, logged = self.take()
        name = self._run.run_name
        records = [*map(log_record, logged.lines), *(state_record(entry, name) for entry in news)]
        if dropped := logged.total - len(logged.lines):
            records.append(dropped_record(dropped, time.time()))
        return json_lines(sorted(records, key=lambda record: str(record["time"])))


def show(run: FlowRun) -> bool:
    """Show a run that goes on as a live block; else, or outside of a notebook, return False."""
    shell = find_shell()
    if shell is None or run._driver.ended.is_set() or _has_block(run, shell):
        return False
    _show_block(run, shell)
    return True


def _show_block(run: FlowRun, shell: Any) -> threading.Thread:
    run.listener.decide(is_shown=True)
    live = _lives.get(run)
    output = None if live is None else live.output()
    # A run that had paused was drawn to its end then.
    if live is None or output is None or not live.thread.is_alive():
        # Before the first picture: an interrupt may come with it, and what it leaves is drawn too.
        output = Output(f"{_OUTPUT}-{run.run_id}", Picture(run))
        live = Live(weakref.ref(output), keep_drawing(output, run._driver.ended), "")
        run.view = live.thread
    _lives[run] = live._replace(cell=current_cell(shell))
    output.show(shell)
    return live.thread


def _has_block(run: FlowRun, shell: Any) -> bool:
    live = _lives.get(run)
    return live is not None and live.cell == current_cell(shell)


def flow_run_html(run: FlowRun) -> str:
    """Return a run as a notebook shows it: one line in the cell that has its block already."""
    shell = find_shell()
    picture = Picture(run)
    if shell is not None and _has_block(run, shell):
        return picture.line()
    return picture.draw()


class Picture:
    """What there is to see of a run, each time from what is new in its history."""

    def __init__(self, run: FlowRun) -> None:
        self._run = run
        self._tally = Tally(run.names)
        self._graph = run._graph()
        self._fed = 0
        #: What has failed by itself, in the order in which it was heard of.
        self._failed: list[TaskRunId] = []

    def __call__(self) -> Forms:
        """Return its forms by MIME type."""
        is_over = self._run._driver.ended.is_set()
        self._read()
        forms = {"text/plain": repr(self._run)}
        if not is_over:
            graph = fitted(self._graph.svg(time.time()))
            return {**forms, "text/html": self._block(graph, is_live=True)}
        # What stays is also for those who show no HTML, or not all of it.
        kept = self._graph.still(time.time())
        return {**forms, "text/html": self._block(scrolled(kept.html)), "image/svg+xml": kept.svg}

    def draw(self) -> str:
        """Return it as HTML that stays."""
        self._read()
        return self._block(scrolled(self._graph.still(time.time()).html))

    def _block(self, graph: str, *, is_live: bool = False) -> str:
        """Return the graph and the block, and what is told of failures."""
        run = self._run
        drawn = block(self._tally, _title(run), time.time(), graph)
        told = _warnings(run, run.notes)[-_NOTES:]
        has_failed = isinstance(run.state, Failed)
        parts = [
            "" if has_failed else self._failures_so_far(),
            *(quiet(escaped(f"{line.before} {line.text}")) for line in told),
            in_notebook(_lines_since(run, 0), is_live=is_live),
            failure_card(_failure_report(run)) if has_failed else "",
        ]
        return box(drawn, *parts) if any(parts) else drawn

    def _failures_so_far(self) -> str:
        run, records = self._run, self._run._driver.machine.records
        # What has grown a graph fails with what failed in it.
        failed = [id for id in self._failed if records[id].inner is None]
        first = most_telling_first(failed, SHOWN_FAILURES)[:SHOWN_FAILURES]
        return failures_so_far(failures_of(first, run._plan, records), len(failed))

    def line(self) -> str:
        """Return the run in a line."""
        self._read()
        run, state = self._run, type(self._run.state).__name__
        seconds = self._tally.elapsed(time.time())
        text = flow_run_line(run.flow.name, run.run_name, state, len(run), seconds)
        return f"{dot(state)} {escaped(text)}"

    def _read(self) -> None:
        news = self._run.history[self._fed :]
        self._fed += len(news)
        self._tally.feed(news)
        self._graph.feed(news)
        self._failed += [e.task_run for e in news if e.task_run and e.new in OWN_FAILURES]


def _failure_report(run: FlowRun) -> FailureReport:
    records, logs = run._driver.machine.records, run._driver.channel.logs
    return failure_report(run.flow.name, run.run_name, run._plan, records, logs)


def _new_lines(run: FlowRun) -> NewLines:
    """Return what the terminal has not shown of a run yet."""
    lines_seen, notes_seen = _lines_seen.get(run, (0, 0))
    news, notes = _lines_since(run, lines_seen), run.notes[notes_seen:]
    _lines_seen[run] = lines_seen + news.total, notes_seen + len(notes)
    told = _warnings(run, notes)
    return NewLines([*news.lines, *told], news.total + len(told))


def _warnings(run: FlowRun, notes: Sequence[Note]) -> list[ShownLine]:
    """Return what is said of a run that is no state, and that nobody should miss."""
    return [
        ShownLine(note.time.timestamp(), note.task_run or run.run_name, note.level, note.text)
        for note in notes
        if note.level >= logging.WARNING
    ]


def _lines_since(run: FlowRun, seen: int) -> NewLines:
    recent, count = run._driver.channel.logs.since(seen)
    records = run._driver.machine.records
    lines = [
        ShownLine(at, records[id].plan.slug, level, text)
        for id, (at, level, text, _) in recent
        # A line of an inner run may come before the news that there is one.
        if id in records
    ]
    return NewLines(lines, count - seen)


def _title(run: FlowRun) -> Title:
    return Title(run.flow.name, run.run_name, run.where, next(iter(run._plan.told), ""))
