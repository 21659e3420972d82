"""A flow run as a graph, each time from what is new in its history."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from dask_taskrunner.drawing.gathering import Gathering
from dask_taskrunner.drawing.layout import Layout
from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.still import Still, still
from dask_taskrunner.drawing.svg import as_svg, layout_of
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.logs import clock
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.short_texts import format_bytes
from dask_taskrunner.states import STATE_CLASSES, Finished
from dask_taskrunner.view.failure_text import first_line
from dask_taskrunner.view.tally import due
from dask_taskrunner.view.text import format_counts, format_duration, in_order

#: More characters of a message are not told where somebody points at a node.
_LETTERS: Final = 300
#: Of more nodes, none tells anything where somebody points at it.
_MOST_TIPS: Final = 120


class RunGraph:
    """The graph of one flow run.

    Parameters
    ----------
    name : str
        The flow's.
    records : mapping
        The machine's, which change meanwhile.
    reference : collection of TaskRunId
        Those whose states decide the flow's.
    ordering : collection of (str, str)
        Slugs of tasks of which one waits for the other and gets nothing of it.
    """

    def __init__(
        self,
        name: str,
        records: Mapping[TaskRunId, TaskRunRecord],
        reference: Collection[TaskRunId] = (),
        ordering: Collection[tuple[str, str]] = (),
    ) -> None:
        self._name = name
        self._records = records
        self._reference = frozenset(reference)
        self._ordering = frozenset(ordering)
        #: By mapped run, how many of its children are in which state.
        self._children: dict[int, Counter[str]] = {}
        #: When each retry is due, in epoch seconds.
        self._due: dict[TaskRunId, float] = {}
        self._plan_anew()

    def feed(self, entries: Iterable[HistoryEntry]) -> None:
        """Take in what happened since the last time, oldest first."""
        for entry in entries:
            if entry.task_run is not None:
                self._feed(entry.task_run, entry)

    def _feed(self, id: TaskRunId, entry: HistoryEntry) -> None:
        n, map_index = id
        self._due.pop(id, None)
        if entry.new == "Retrying":
            self._due[id] = due(entry)
        if map_index >= 0:
            counts = self._children.setdefault(n, Counter())
            counts[entry.old] -= 1
            counts[entry.new] += 1
        elif entry.header is not None and "children" in entry.header.more:
            if entry.header.more.get("inner"):
                self._plan_anew()
            elif n not in self._children:
                self._children[n] = Counter(Pending=entry.header.more["children"])

    def _plan_anew(self) -> None:
        """Find out what is to be drawn: other runs may have joined."""
        known = dict(self._records)
        self._ids = sorted(id for id in known if id[1] < 0)
        places = {id: place for place, id in enumerate(self._ids)}
        self._edges = [edge for id in self._ids for edge in self._edges_to(known[id], places)]
        self._gathering: Gathering | None = None
        self._layout: Layout | None = None

    def _edges_to(
        self, record: TaskRunRecord, places: Mapping[TaskRunId, int]
    ) -> Iterable[DrawnEdge]:
        target = places[record.id]
        slugs = {id: self._records[id].plan.slug for id in record.plan.upstream}
        for id, slug in dict.fromkeys(slugs.items()):
            orders = (slug, record.plan.slug) in self._ordering
            yield DrawnEdge(places[id], target, None if orders else "")
        outer = record.outer
        if outer is not None and not any(self._records[id].outer is outer for id in slugs):
            yield DrawnEdge(places[outer.id], target)

    def drawing(self, now: float) -> Drawing:
        """Return the graph as it is.

        Parameters
        ----------
        now : float
            In epoch seconds.
        """
        nodes = [self._node(self._records[id], now) for id in self._ids]
        return Drawing(f"flow {self._name!r}", self._name, nodes, self._edges)

    def svg(self, now: float) -> str:
        """Return the picture of it, in which many that look alike are one."""
        drawing, layout = self._laid_out(now)
        # Four times a second over the network.
        return as_svg(drawing, layout, is_brief=len(drawing.nodes) > _MOST_TIPS)

    def still(self, now: float) -> Still:
        """Return the same as it stays."""
        return still(*self._laid_out(now))

    def _laid_out(self, now: float) -> tuple[Drawing, Layout]:
        drawing = self.drawing(now)
        if self._gathering is None:
            self._gathering = Gathering(drawing)
        drawing = self._gathering(drawing, in_order)
        if self._layout is None:
            self._layout = layout_of(drawing)
        return drawing, self._layout

    def _node(self, record: TaskRunRecord, now: float) -> DrawnNode:
        plan, state = record.plan, record.shown
        counts = self._children.get(record.id[0])
        is_many = plan.maps is not None or counts is not None
        drawn = functools.partial(
            DrawnNode, plan.slug, plan.name, state=state, has_line=True, is_many=is_many,
            decides=record.id in self._reference,
        )  # fmt: skip
        if is_many:
            children = dict(in_order(counts or {}))
            note = _how_many(children) if children else ""
            tip = f"{_tip(record)}\n{format_counts(children)}" if children else _tip(record)
            return drawn(counts=children, note=note, tip=tip)
        return drawn(note=self._note(record, state, now), tip=_tip(record))

    def _note(self, record: TaskRunRecord, state: str, now: float) -> str:
        if record.id in self._due:
            return f"due in {format_duration(max(self._due[record.id] - now, 0.0))}"
        if state == "Running" and record.running is not None:
            started = record.running.started
            return f"runs {format_duration(max(now - started, 0.0))}"
        seconds = None if record.header is None else record.header.seconds
        return state if seconds is None else f"{state} {format_duration(seconds)}"


def _how_many(counts: Mapping[str, int]) -> str:
    done = sum(n for state, n in counts.items() if issubclass(STATE_CLASSES[state], Finished))
    return f"{done}/{sum(counts.values())}"


def _tip(record: TaskRunRecord) -> str:
    header = record.header or record.retry_header
    lines = [f"{record.plan.slug}: {record.shown}"]
    if header is not None and header.message:
        lines.append(first_line(header.message)[:_LETTERS])
    attempts = record.attempts()
    if attempts:
        lines += _of_attempt(attempts[-1])
    if len(attempts) > 1:
        lines.append(f"{len(attempts)} attempts")
    if header is not None and header.nbytes:
        lines.append(f"result: {header.kind}, {format_bytes(header.nbytes)}")
    return "\n".join(lines)


def _of_attempt(attempt: Attempt) -> list[str]:
    began, ended = attempt.started, attempt.ended
    where = f"on {attempt.worker}"
    if began is None:
        return [where]
    took = "" if ended is None else f", took {format_duration(ended - began)}"
    return [f"began {clock(began)}{took}", where]
