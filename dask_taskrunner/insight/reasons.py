"""Why a task run has the state that it has: from the records to reasons, the root cause first.

Pure: it looks at the records of one moment, and asks nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import Records, children_of
from dask_taskrunner.states import STATE_CLASSES, Failed
from dask_taskrunner.view.text import format_duration, format_some

#: So many of several are named.
_NAMED: Final = 3

#: What a final state is called where it is a reason.
_ENDS: Final[dict[str, tuple[Kind, str]]] = {
    "TimedOut": ("timed-out", "ran out of time"),
    "Crashed": ("crashed", "crashed"),
    "Cancelled": ("cancelled", "was cancelled"),
    "TriggerFailed": ("trigger", "was not run"),
}


class Moment(NamedTuple):
    """When the records are looked at, and what is known besides.

    Attributes
    ----------
    now : float
        Epoch seconds by the run's clock.
    final : Header or None
        The flow run's own state, if it is over.
    stalled : str
        What was found out last about why nothing happens; empty where something has since.
    """

    now: float
    final: Header | None = None
    stalled: str = ""


def reasons_for(record: TaskRunRecord, records: Records, moment: Moment) -> tuple[Reason, ...]:
    """Return why a task run is as it is.

    Parameters
    ----------
    record : TaskRunRecord
        Of the task run.
    records : mapping
        All of the flow run's.
    moment : Moment
        When they are looked at.
    """
    return tuple(_Why(records, moment).of(record))


class _Why:
    def __init__(self, records: Records, moment: Moment) -> None:
        self._records = records
        self._moment = moment

    def of(self, record: TaskRunRecord) -> list[Reason]:
        header = record.header
        if header is None:
            return self._unfinished(record)
        # A state that was given is its own reason; what led to it is another run's.
        if record.plan.role == "given" and not record.values:
            text = f"{_slug(record)} was given its state, and was not run here: {_said(header)}"
            return [Reason("given", _slug(record), text)]
        if header.state == "Mapped" or record.inner is not None:
            return self._parts(record, header)
        if header.state == "Skipped":
            return self._skipped(record, header)
        if issubclass(header.state_class, Failed) or header.state == "Cancelled":
            return self._failed(record, header)
        if record.values:
            return [Reason("succeeded", _slug(record), f"{_slug(record)} succeeded")]
        text = f"{_slug(record)} was not run: an earlier run's result was still good"
        return [Reason("cached", _slug(record), text)]

    # -- what ended -----------------------------------------------------------------------

    def _failed(self, record: TaskRunRecord, header: Header) -> list[Reason]:
        slug, (kind, verb) = _slug(record), _ENDS.get(header.state, ("failed", "failed"))
        where = f" ({_where(record, header)})" if header.started is not None else ""
        text = f"{slug} {verb}{where}: {_said(header)}"
        if kind != "trigger":
            return [Reason(kind, slug, text)]
        # The root cause is told by itself, before.
        own = Reason(kind, slug, text.partition("; root cause:")[0])
        cause = header.more.get("root_cause")
        way = self._way_to(record, cause[0]) if cause else []
        if not way:
            return [own]
        return [*self.of(way[-1]), *self._passed_on(way[-2:0:-1]), own]

    def _passed_on(self, way: list[TaskRunRecord]) -> Iterator[Reason]:
        """Yield how a failure came down, without the wholes whose parts are told of already."""
        for record in way:
            header = record.header
            if header is not None and header.state == "TriggerFailed":
                yield self._failed(record, header)[-1]

    def _way_to(self, record: TaskRunRecord, slug: str) -> list[TaskRunRecord]:
        """Return the records from one to that of a slug which is upstream, or a part of that."""
        came_from: dict[TaskRunId, TaskRunRecord | None] = {record.id: None}
        queue = deque([record])
        while queue:
            one = queue.popleft()
            if one is not record and _slug(one) == slug and one.header is not None:
                return self._back(one, came_from)
            for other in (*self._upstream(one), *self._parts_of(one)):
                if other.id not in came_from:
                    came_from[other.id] = one
                    queue.append(other)
        return []

    @staticmethod
    def _back(
        record: TaskRunRecord, came_from: dict[TaskRunId, TaskRunRecord | None]
    ) -> list[TaskRunRecord]:
        way: list[TaskRunRecord] = []
        here: TaskRunRecord | None = record
        while here is not None:
            way.append(here)
            here = came_from[here.id]
        return way[::-1]

    def _skipped(self, record: TaskRunRecord, header: Header) -> list[Reason]:
        slug = _slug(record)
        if header.started is not None:
            return [Reason("skipped", slug, f"{slug} skipped itself: {_said(header)}")]
        if not header.worker:
            return [Reason("rejected", slug, f"{slug} was skipped: {_said(header)}")]
        own = Reason("upstream-skipped", slug, f"{slug} was skipped: {_said(header)}")
        for source in self._upstream(record):
            for one in (source, *children_of(source, self._records)):
                if one.header is not None and one.header.state == "Skipped":
                    return [*self.of(one), own]
        return [own]

    def _parts(self, record: TaskRunRecord, header: Header) -> list[Reason]:
        """Return what the parts of a whole came to: the first that went wrong tells why."""
        slug, parts = _slug(record), self._parts_of(record)
        own = Reason("parts", slug, f"{slug} came to this: {_said(header)}")
        wrong = [one for one in parts if one.header is not None and _is_wrong(one.header)]
        if wrong and (header.is_failed or header.is_cancelled):
            cause = header.more.get("root_cause")
            way = self._way_to(record, cause[0]) if cause else []
            first = way[-1] if way else wrong[0]
            named = format_some((_slug(one) for one in wrong), _NAMED)
            text = f"{slug}: {len(wrong)} of {len(parts)} did not succeed: {named}"
            return [*self.of(first), Reason("parts", slug, text)]
        return [own]

    # -- what has not ---------------------------------------------------------------------

    def _unfinished(self, record: TaskRunRecord) -> list[Reason]:
        slug, final = _slug(record), self._moment.final
        if record.plan.role == "outside":
            return [Reason("outside", slug, f"{slug} is not part of this run")]
        if final is not None and final.state != "Paused":
            known = record.retry_header
            ended = Reason("run-ended", "", f"the run ended as {final.state}: {_said(final)}")
            text = f"{slug} {_said(known)}" if known is not None else f"{slug} had not ended"
            return [ended, Reason("run-ended", slug, text)]
        found: list[Reason] = _UNFINISHED[record.phase](self, record)
        return found

    def _waiting(self, record: TaskRunRecord) -> list[Reason]:
        sources = self._awaited(record)
        if not sources:
            return [Reason("sending", _slug(record), f"{_slug(record)} is about to be sent")]
        # What cannot go on by itself is what somebody has to know of.
        first = min(sources, key=lambda one: one.phase not in ("paused", "delayed"))
        named = format_some((_slug(one) for one in sources), _NAMED)
        own = Reason("waits", _slug(record), f"{_slug(record)} waits for {named}")
        return [*self._going_on(first), own]

    def _awaited(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        """Return what is upstream and not there."""
        sources = self._upstream(record)
        return [one for one in sources if one.phase != "finished" or one.unfinished_children]

    def _going_on(self, record: TaskRunRecord) -> list[Reason]:
        """Return why something goes on: it may have ended, and its value is made again."""
        if record.header is None:
            return self._unfinished(record)
        again = [one for one in self._parts_of(record) if one.phase != "finished"]
        if again:
            return self._going_on(again[0])
        text = f"the result of {_slug(record)} was lost, and is made again"
        return [Reason("made-again", _slug(record), text)]

    def _submitted(self, record: TaskRunRecord) -> list[Reason]:
        slug, running = _slug(record), record.running
        if running is not None:
            took = format_duration(self._moment.now - running.started)
            attempt = f"attempt {len(record.values) + 1}"
            text = f"{slug} has been running for {took} ({attempt}, {running.worker})"
            return [Reason("running", slug, text)]
        if self._awaited(record):
            # It is sent at once, and the cluster knows the order.
            return self._waiting(record)
        stalled = self._moment.stalled
        why = [Reason("stalled", "", stalled)] if stalled else []
        text = f"{slug} was sent, and no worker has said that it runs: it waits for a place there"
        return [*why, Reason("submitted", slug, text)]

    def _delayed(self, record: TaskRunRecord) -> list[Reason]:
        header = record.retry_header
        assert header is not None
        slug, left = _slug(record), header.more["scheduled_time"] - self._moment.now
        due = f"in {format_duration(left)}" if left > 0 else "now"
        text = f"{slug} is due again {due}: {_said(header)}"
        return [Reason("retry-due", slug, text)]

    def _paused(self, record: TaskRunRecord) -> list[Reason]:
        slug, header = _slug(record), record.retry_header
        said = f": {_said(header)}" if header is not None and header.message else ""
        text = f"{slug} has paused{said}; run.approve({slug!r}) lets it go on"
        return [Reason("paused", slug, text)]

    def _expanded(self, record: TaskRunRecord) -> list[Reason]:
        parts = self._parts_of(record)
        going_on = [one for one in parts if one.header is None]
        slug, ended = _slug(record), len(parts) - len(going_on)
        own = Reason("parts", slug, f"{slug}: {ended} of {len(parts)} have finished")
        # Those that wait for others of them are not the ones to look at.
        waits = sorted(going_on, key=lambda one: one.phase in ("waiting", "queued"))
        return [*self._unfinished(waits[0]), own] if waits else [own]

    # -- around it ------------------------------------------------------------------------

    def _upstream(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        ids = (id for id in record.plan.upstream if id in self._records)
        return [self._records[id] for id in ids]

    def _parts_of(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        inner = record.inner.runs if record.inner is not None else ()
        return [*children_of(record, self._records), *(self._records[id] for id in inner)]


def _alone(kind: Kind, text: str) -> Callable[[_Why, TaskRunRecord], list[Reason]]:
    return lambda _, record: [Reason(kind, _slug(record), f"{_slug(record)} {text}")]


#: What is to be said of a task run that has not ended, by its phase.
_UNFINISHED: Final[dict[str, Callable[[_Why, TaskRunRecord], list[Reason]]]] = {
    "waiting": _Why._waiting,
    "queued": _alone("sending", "is about to be sent"),
    "submitted": _Why._submitted,
    "delayed": _Why._delayed,
    "paused": _Why._paused,
    "foreign": _alone("foreign", "belongs to another run, which goes on"),
    "growing": _alone("growing", "has returned a graph, which is being planned"),
    "expanded": _Why._expanded,
}


def _slug(record: TaskRunRecord) -> str:
    return record.plan.slug


def _said(header: Header) -> str:
    return header.message or header.state


def _where(record: TaskRunRecord, header: Header) -> str:
    attempts = f"attempt {len(record.values)}" if record.values else ""
    return ", ".join(part for part in (attempts, header.worker) if part)


def _is_wrong(header: Header) -> bool:
    kind = STATE_CLASSES[header.state]
    return header.is_failed or header.is_cancelled or issubclass(kind, Failed)
