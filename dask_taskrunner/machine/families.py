"""Mapped task runs: how one becomes its children, and what it is made of when they have ended.

A mapped task's run has no body. Before it has children it may be sent once, to have its trigger
asked; then its children are sent, and it only shows how far they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dask_taskrunner.headers import Header, TaskRunId, child_slug
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.growth import Growth
from dask_taskrunner.machine.inner_runs import InnerRuns
from dask_taskrunner.machine.plans import MapPlan, PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import children_of
from dask_taskrunner.machine.submissions import expanded_by_index, expands_at_once
from dask_taskrunner.states import STATE_CLASSES, Failed

#: What a message names first.
_ORDER: Final = (
    "Success",
    "Failed",
    "TimedOut",
    "Crashed",
    "TriggerFailed",
    "Cancelled",
    "Skipped",
)


class Families:
    """The rules about mapped runs, over one flow run's desk."""

    def __init__(self, desk: Desk, growth: Growth, inner_runs: InnerRuns) -> None:
        self._desk = desk
        self._board = desk.board
        self._growth = growth
        self._inner_runs = inner_runs

    def look(self) -> None:
        """Go on with every mapped or grown run about which something has changed."""
        board = self._board
        while board.families:
            # In the order of the plan, and so are their children.
            families, board.families = board.families, []
            for record in families:
                if record.inner is not None:
                    self._inner_runs.look(record)
                elif record.phase == "waiting":
                    self._begin(record)
                elif record.phase == "expanded":
                    self._take_stock(record)

    # -- becoming -------------------------------------------------------------------------

    def _begin(self, record: TaskRunRecord) -> None:
        """Expand a mapped run, or have its trigger asked, as soon as its lengths are known."""
        if expands_at_once(record, self._board.records):
            self.expand(record)
            return
        apart = expanded_by_index(record, self._board.records)
        # What it is mapped over child by child, each child waits for by itself.
        going_on = sum(self._source(record, place).phase != "finished" for place in apart)
        if record.unfinished_upstream == going_on:
            self._board.queue_alone(record)

    def expand(self, record: TaskRunRecord) -> None:
        """Replace a mapped run by its children: everything that it waited for is there."""
        board = self._board
        board.let_go(record)
        problem, length = self._length_of(record)
        if problem:
            self._desk.end_on_client(record, "Failed", problem)
            return
        before = record.shown
        header = self._desk.made(record, "Running", f"0 of {length} finished")
        header = header._replace(more={"children": length})
        board.counts[record.plan.name][before] -= 1
        record.length = record.unfinished_children = length
        record.retry_header = None
        board.move(record, "expanded")
        board.show(record, before, self._desk.time, header)
        if not record.submission:
            # Where its trigger was asked, the worker has told them.
            pending = self._desk.made(record, "Pending", None)
            self._desk.call_handlers(record, pending, header)
        self._growth.add_children(record, self._children(record, length))
        board.families.append(record)
        # Those mapped over this one, and over nothing else, need not wait for its children.
        board.queue_behind(record)
        # Of what was the longer one, not all has readers.
        board.release_upstream(record)

    def _length_of(self, record: TaskRunRecord) -> tuple[str, int]:
        """Return why a mapped run cannot be expanded, or how many children it has."""
        maps = _maps(record)
        lengths: list[tuple[str, int]] = [*maps.lengths.items()]
        for position, argument in {**maps.elements, **maps.by_index}.items():
            source = self._source(record, position)
            # Its value may have been lost for good.
            header, slug = source.by_value or source.header, source.plan.slug
            if source.length is not None:
                lengths.append((slug, source.length))
                continue
            assert header is not None
            if not header.is_successful or not header.kind:
                told = f"{slug} is {header.state}"
                told += f": {header.message}" if header.message else ""
                return f"nothing to map over: {told}", 0
            if "length" not in header.more:
                why = header.more.get("no_length", "").replace("{argument}", argument)
                text = f"{record.plan.name} cannot be mapped over {argument}, the result of {slug}"
                return f"map: {text}, of type {header.kind}. {why}", 0
            lengths.append((slug, header.more["length"]))
        if len({length for _, length in lengths}) > 1 and not maps.zip_shortest:
            told = ", ".join(f"{slug} has {length}" for slug, length in lengths)
            text = f"map: what {record.plan.slug} is mapped over is not equally long: {told}"
            return f"{text}. Cut the longer one, or set zip_shortest=True.", 0
        return "", min(length for _, length in lengths)

    def _children(self, record: TaskRunRecord, length: int) -> Iterator[PlannedRun]:
        plan, maps = record.plan, _maps(record)
        child = plan._replace(maps=None)
        lists = {plan.upstream[position] for position in plan.lists}
        for i in range(length):
            upstream = plan.upstream
            if maps.by_index:
                upstream = tuple(
                    (id[0], i) if position in maps.by_index else id
                    for position, id in enumerate(upstream)
                )
            if maps.own_upstream:
                upstream = (*upstream[: maps.common], *maps.own_upstream[i])
                child = child._replace(lists=_positions(upstream, lists))
            yield child._replace(
                id=(record.id[0], i),
                slug=child_slug(plan.slug, i),
                upstream=upstream,
                nbytes=plan.nbytes + (maps.child_bytes[i] if maps.child_bytes else 0),
            )

    def _source(self, record: TaskRunRecord, position: int) -> TaskRunRecord:
        return self._board.records[record.plan.upstream[position]]

    # -- ending ---------------------------------------------------------------------------

    def _take_stock(self, record: TaskRunRecord) -> None:
        """Show what an expanded run has come to, if all its children have ended or paused."""
        if record.unfinished_children == 0:
            self._change(record, self._sum(record))
            self._board.finish(record)
        elif record.unfinished_children == record.paused_children:
            if record.retry_header is None:
                self._change(record, self._pause(record))
        elif record.retry_header is not None:
            # A value is made again.
            self._change(record, None)

    def _change(self, record: TaskRunRecord, header: Header | None) -> None:
        """Write down and report what an expanded run is now; None where its children go on."""
        before, running = record.shown, self._desk.made(record, "Running", None)
        old = record.retry_header or running
        is_final = header is not None and header.is_finished
        record.header, record.retry_header = (header, None) if is_final else (None, header)
        self._board.show(record, before, self._desk.time, header)
        self._desk.call_handlers(record, old, header or running)

    def _sum(self, record: TaskRunRecord) -> Header:
        counts: Counter[str] = Counter()
        cause = None
        for child in children_of(record, self._board.records):
            header = child.header
            assert header is not None
            counts[header.state] += 1
            if cause is None and issubclass(STATE_CLASSES[header.state], Failed):
                cause = header.more.get("root_cause") or [child.plan.slug, header.message or ""]
        names = sorted(counts, key=lambda name: _ORDER.index(name) if name in _ORDER else 99)
        text = ", ".join(f"{counts[name]} {name}" for name in names) or "no elements"
        more: Mapping[str, Any] = {"counts": dict(counts)}
        if cause is not None:
            more = {**more, "root_cause": cause}
        return self._desk.made(record, "Mapped", text)._replace(more=more)

    def _pause(self, record: TaskRunRecord) -> Header:
        slugs = [
            c.plan.slug for c in children_of(record, self._board.records) if c.phase == "paused"
        ]
        more = f" and {len(slugs) - 1} more" if len(slugs) > 1 else ""
        return self._desk.made(record, "Paused", f"{slugs[0]}{more} paused")


def _positions(ids: tuple[TaskRunId, ...], wanted: set[TaskRunId]) -> frozenset[int]:
    return frozenset(position for position, id in enumerate(ids) if id in wanted)


def _maps(record: TaskRunRecord) -> MapPlan:
    assert record.plan.maps is not None
    return record.plan.maps
