"""Why a task run has the state that it has: from the records to reasons, the root cause first.

Pure: it looks at the records of one moment, and asks nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.insight.pending import (
    NAMED,
    Moment,
    said,
    upstream_of,
    why_unfinished,
)
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import Records, children_of, parts_of, tries_of
from dask_taskrunner.states import STATE_CLASSES, Failed
from dask_taskrunner.view.text import format_some

#: What a final state is called where it is a reason.
_ENDS: Final[dict[str, tuple[Kind, str]]] = {
    "TimedOut": ("timed-out", "ran out of time"),
    "Crashed": ("crashed", "crashed"),
    "Cancelled": ("cancelled", "was cancelled"),
    "TriggerFailed": ("trigger", "was not run"),
}


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
            return why_unfinished(record, self._records, self._moment)
        # A state that was given is its own reason; what led to it is another run's.
        if record.plan.role == "given" and not record.values:
            return [_given(record, header)]
        if header.state == "Mapped" or record.inner is not None:
            return self._parts(record, header)
        if header.state == "Skipped":
            return self._skipped(record)
        if issubclass(header.state_class, Failed) or header.state == "Cancelled":
            return self._failed(record, header)
        if record.plan.role == "foreign":
            text = f"{_slug(record)} belongs to another run, and ended there: {said(header)}"
            return [Reason("foreign", _slug(record), text)]
        if record.values:
            return [Reason("succeeded", _slug(record), f"{_slug(record)} succeeded")]
        text = f"{_slug(record)} was not run: an earlier run's result was still good"
        return [Reason("cached", _slug(record), text)]

    # -- what ended -----------------------------------------------------------------------

    def _failed(self, record: TaskRunRecord, header: Header) -> list[Reason]:
        own = _own_failure(record, header)
        cause = header.more.get("root_cause") if own.kind == "trigger" else None
        way = self._way_to(record, cause[0]) if cause else []
        if not way:
            return [own]
        return [*self.of(way[-1]), *self._passed_on(way[-2:0:-1]), own]

    @staticmethod
    def _passed_on(way: list[TaskRunRecord]) -> Iterator[Reason]:
        """Yield how a failure came down, without the wholes whose parts are told of already."""
        for record in way:
            header = record.header
            if header is not None and header.state == "TriggerFailed":
                yield _own_failure(record, header)

    def _way_to(self, record: TaskRunRecord, slug: str) -> list[TaskRunRecord]:
        """Return the records from one to that of a slug which is upstream, or a part of that."""
        came_from: dict[TaskRunId, TaskRunRecord | None] = {record.id: None}
        queue = deque([record])
        while queue:
            one = queue.popleft()
            if one is not record and _slug(one) == slug and one.header is not None:
                return self._back(one, came_from)
            for other in (*upstream_of(one, self._records), *parts_of(one, self._records)):
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

    def _skipped(self, record: TaskRunRecord) -> list[Reason]:
        # From the run to what was skipped first; a branch may be longer than Python's stack.
        found: list[Reason] = []
        here: TaskRunRecord | None = record
        while here is not None and here.header is not None:
            if here.inner is not None:
                return [*self.of(here), *found[::-1]]
            reason = _own_skip(here, here.header)
            found.append(reason)
            here = self._skipped_above(here) if reason.kind == "upstream-skipped" else None
        return found[::-1]

    def _skipped_above(self, record: TaskRunRecord) -> TaskRunRecord | None:
        """Return what was skipped upstream; of a mapped run, the first child where all were."""
        for source in upstream_of(record, self._records):
            if _is_skipped(source):
                return source
            children = [*children_of(source, self._records)]
            if children and all(map(_is_skipped, children)):
                return children[0]
        return None

    def _parts(self, record: TaskRunRecord, header: Header) -> list[Reason]:
        """Return what the parts of a whole came to: the first that went wrong tells why."""
        slug, parts = _slug(record), [*parts_of(record, self._records)]
        own = Reason("parts", slug, f"{slug} came to this: {said(header)}")
        wrong = [one for one in parts if one.header is not None and _is_wrong(one.header)]
        if wrong and (header.is_failed or header.is_cancelled):
            cause = header.more.get("root_cause")
            way = self._way_to(record, cause[0]) if cause else []
            first = way[-1] if way else wrong[0]
            named = format_some((_slug(one) for one in wrong), NAMED)
            text = f"{slug}: {len(wrong)} of {len(parts)} did not succeed: {named}"
            return [*self.of(first), Reason("parts", slug, text)]
        return [own]


def _slug(record: TaskRunRecord) -> str:
    return record.plan.slug


def _own_failure(record: TaskRunRecord, header: Header) -> Reason:
    """Return what a failed run says of itself; its root cause is told by itself, before."""
    slug, (kind, verb) = _slug(record), _ENDS.get(header.state, ("failed", "failed"))
    where = f" ({_where(record, header)})" if header.started is not None else ""
    text = f"{slug} {verb}{where}: {said(header)}"
    if kind == "trigger":
        text = text.partition("; root cause:")[0]
    last = record.values[-1] if record.values and record.left_running is None else None
    if kind == "cancelled" and isinstance(last, Header) and last.state == "Retrying":
        text = f"{text}; it had been tried, and waited for its next try: {said(last)}"
    return Reason(kind, slug, text)


def _is_skipped(record: TaskRunRecord) -> bool:
    return record.header is not None and record.header.state == "Skipped"


def _own_skip(record: TaskRunRecord, header: Header) -> Reason:
    slug = _slug(record)
    if record.plan.role == "given" and not record.values:
        return _given(record, header)
    if header.started is not None:
        return Reason("skipped", slug, f"{slug} skipped itself: {said(header)}")
    kind: Kind = "upstream-skipped" if header.worker else "rejected"
    return Reason(kind, slug, f"{slug} was skipped: {said(header)}")


def _given(record: TaskRunRecord, header: Header) -> Reason:
    slug = _slug(record)
    return Reason(
        "given", slug, f"{slug} was given its state, and was not run here: {said(header)}"
    )


def _where(record: TaskRunRecord, header: Header) -> str:
    number = tries_of(record)
    attempts = f"attempt {number}" if number else ""
    return ", ".join(part for part in (attempts, header.worker) if part)


def _is_wrong(header: Header) -> bool:
    kind = STATE_CLASSES[header.state]
    return header.is_failed or header.is_cancelled or issubclass(kind, Failed)
