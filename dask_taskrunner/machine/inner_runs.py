"""Runs that have grown: how one goes on while its inner runs do, and what it comes to.

Its body has returned a graph, whose runs have joined the flow run. From then on it only shows how
far they are. Whoever reads it stands behind those whose results are its own.
"""

from __future__ import annotations

from typing import Final

from dask_taskrunner.graph.mapping import ARGUMENT, right_line
from dask_taskrunner.headers import Header, standing_alone
from dask_taskrunner.machine.commands import Grow
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.events import Grew, GrowthFailed
from dask_taskrunner.machine.growth import Growth
from dask_taskrunner.machine.plans import InnerPlan
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import all_inside, children_of
from dask_taskrunner.states import Skipped

#: What a header says of an exception.
_OF_AN_EXCEPTION: Final = ("type", "has_exception", "exception", "traceback")


class InnerRuns:
    """The rules about runs that have grown, over one flow run's desk."""

    def __init__(self, desk: Desk, growth: Growth) -> None:
        self._desk = desk
        self._board = desk.board
        self._growth = growth

    # -- growing --------------------------------------------------------------------------

    def grow(self, record: TaskRunRecord, header: Header) -> None:
        """Have the graph planned that a body has returned."""
        before = record.shown
        record.running = record.retry_header = None
        # What was sent behind it waits for the runs to come.
        self._board.withdraw_behind(record, self._desk.time)
        self._board.move(record, "growing")
        self._board.show(record, before, self._desk.time, header)
        self._desk.commands.append(Grow(record.plan, record.submission))

    def grew(self, event: Grew) -> None:
        """Take in the runs of the graph."""
        record = self._growing(event)
        if record is None:
            return
        board, before = self._board, record.shown
        board.counts[record.plan.name][before] -= 1
        board.let_go(record)
        board.move(record, "expanded")
        record.inner = event.inner
        numbers = [run.id[0] for run in event.runs]
        header = self._desk.made(record, "Running", f"grown: 0 of {len(numbers)} finished")
        header = header._replace(more={"children": len(numbers), "inner": numbers})
        board.show(record, before, self._desk.time, header)
        self._growth.add_inner(record, event.inner, event.runs)
        board.release_upstream(record)

    def growth_failed(self, event: GrowthFailed) -> None:
        """End a run whose graph cannot be run."""
        record = self._growing(event)
        if record is not None:
            self._desk.end_on_client(record, "Failed", event.text, event.more)

    def _growing(self, event: Grew | GrowthFailed) -> TaskRunRecord | None:
        """Return the run that an event is about, unless it was cancelled or lost meanwhile."""
        record = self._board.records.get(event.id)
        if record is None or record.phase != "growing" or record.submission != event.submission:
            return None
        if record.running is not None:
            # Dask has begun its body again; what comes of that is not needed any more.
            record.left_running, record.running = record.running, None
        return record

    # -- ending ---------------------------------------------------------------------------

    def look(self, record: TaskRunRecord) -> None:
        """Show what a grown run has come to, if all its inner runs have ended or paused."""
        if record.phase != "expanded":
            return
        if record.unfinished_children == 0:
            self._end(record)
            return
        paused = record.unfinished_children == record.paused_children
        if paused == (record.retry_header is not None):
            return
        before = record.shown
        record.retry_header = self._pause(record) if paused else None
        self._board.show(record, before, self._desk.time, record.retry_header)

    def _end(self, record: TaskRunRecord) -> None:
        old = record.retry_header or self._desk.made(record, "Running", None)
        header = self._sum(record)
        if not header.is_successful:
            # There is nothing else for those that read it, and no result of others is its own.
            record.by_value = header = standing_alone(header)
            for id in _inner(record).results:
                self._board.records[id].stands_for = None
        self._desk.end(record, header)
        self._desk.call_handlers(record, old, header)

    def _sum(self, record: TaskRunRecord) -> Header:
        records, inner = self._board.records, _inner(record)
        deciding = [records[id] for id in dict.fromkeys((*inner.reference, *inner.results))]
        failed = [one for one in deciding if _header(one).is_failed]
        if failed:
            return self._failure(record, failed)
        cancelled = [one for one in deciding if _header(one).is_cancelled]
        if cancelled:
            return self._desk.made(record, "Cancelled", _told(cancelled[0]))
        return self._success(record, [records[id] for id in inner.results])

    def _success(self, record: TaskRunRecord, results: list[TaskRunRecord]) -> Header:
        headers = [_header(result) for result in results]
        skipped = all(issubclass(header.state_class, Skipped) for header in headers)
        made = self._desk.made(record, "Skipped" if skipped else "Success", None)
        if skipped:
            made = made._replace(message=headers[0].message)
        nbytes = sum(header.nbytes for header in headers)
        if _inner(record).names is not None:
            return made._replace(kind="" if skipped else "dict", nbytes=nbytes, more=_NO_LENGTH)
        (result,), (header,) = results, headers
        if result.length is not None:
            children = children_of(result, self._board.records)
            nbytes = sum(_header(child).nbytes for child in children)
            return made._replace(kind="list", nbytes=nbytes, more={"length": result.length})
        more = {key: header.more[key] for key in ("length", "no_length") if key in header.more}
        return made._replace(kind=header.kind, nbytes=nbytes, small=header.small, more=more)

    def _failure(self, record: TaskRunRecord, failed: list[TaskRunRecord]) -> Header:
        """Return the state of a run of which something inside has failed."""
        inside = {one.plan.slug: one for one in all_inside(record, self._board.records)}
        slug, text = _cause(failed[0])
        more: dict[str, object] = {"root_cause": [slug, text]}
        if slug in inside:
            said = standing_alone(_header(inside[slug])).more
            more |= {key: said[key] for key in _OF_AN_EXCEPTION if key in said}
        return self._desk.made(record, "Failed", f"{slug}: {text}")._replace(more=more)

    def _pause(self, record: TaskRunRecord) -> Header:
        paused = [id for id in _inner(record).runs if self._board.records[id].phase == "paused"]
        slug = self._board.records[paused[0]].plan.slug
        more = f" and {len(paused) - 1} more" if len(paused) > 1 else ""
        return self._desk.made(record, "Paused", f"{slug}{more} paused")


#: What mapping over several results in a dict is told.
_NO_LENGTH: Final = {"no_length": right_line(ARGUMENT, {})}


def _inner(record: TaskRunRecord) -> InnerPlan:
    assert record.inner is not None
    return record.inner


def _header(record: TaskRunRecord) -> Header:
    assert record.header is not None, record.plan.slug
    return record.header


def _cause(record: TaskRunRecord) -> tuple[str, str]:
    """Return slug and text of what is to blame for a run's failure: of itself, if nothing else."""
    header = _header(record)
    slug, text = header.more.get("root_cause") or (record.plan.slug, header.message or "")
    return slug, text


def _told(record: TaskRunRecord) -> str:
    header = _header(record)
    return f"{record.plan.slug}: {header.message or header.state}"
