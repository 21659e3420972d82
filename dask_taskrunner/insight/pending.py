"""Why a task run has not ended: from the records of one moment to reasons, the root cause first.

Pure: what is known of the workers is given.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.machine.records import Running, TaskRunRecord
from dask_taskrunner.machine.sources import Records, children_of, parts_of
from dask_taskrunner.placement import Need, Wait, WorkerView, why_it_waits
from dask_taskrunner.view.text import format_duration, format_some

#: So many of several are named.
NAMED: Final = 3
#: A child is slow that takes so many times as long as the middle one of its siblings.
SLOW: Final = 2.0
#: Among fewer, none is the rule.
SIBLINGS: Final = 3


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
    look : callable, optional
        Returns the workers there are, if that can be found out.
    need : callable, optional
        Returns what a task run asks of a worker.
    """

    now: float
    final: Header | None = None
    stalled: str = ""
    look: Callable[[], Sequence[WorkerView] | None] = lambda: None
    need: Callable[[TaskRunId, str], Need] = lambda _, slug: Need(slug, None, None)


def why_unfinished(record: TaskRunRecord, records: Records, moment: Moment) -> list[Reason]:
    """Return why a task run has not ended.

    Parameters
    ----------
    record : TaskRunRecord
        Of the task run.
    records : mapping
        All of the flow run's.
    moment : Moment
        When they are looked at.
    """
    return _Why(records, moment).of(record)


class _Why:
    def __init__(self, records: Records, moment: Moment) -> None:
        self._records = records
        self._moment = moment
        #: Whether there is a worker that suits a task, by its position in the flow.
        self._has_worker: dict[int, bool] = {}

    def of(self, record: TaskRunRecord) -> list[Reason]:
        # From the task run to what it comes down to; a chain may be longer than Python's stack.
        found: list[list[Reason]] = []
        here: TaskRunRecord | None = record
        while here is not None:
            reasons, here = self._step(here, is_asked=here is record)
            found.append(reasons)
        return [reason for reasons in reversed(found) for reason in reasons]

    def _step(
        self, record: TaskRunRecord, *, is_asked: bool
    ) -> tuple[list[Reason], TaskRunRecord | None]:
        """Return what is to be said of a task run, and that one which has to be looked at next."""
        slug, final = record.plan.slug, self._moment.final
        if record.header is not None and not is_asked:
            again = [one for one in parts_of(record, self._records) if one.phase != "finished"]
            text = f"the result of {slug} was lost, and is made again"
            return ([], again[0]) if again else ([Reason("made-again", slug, text)], None)
        if record.plan.role == "outside":
            return [Reason("outside", slug, f"{slug} is not part of this run")], None
        if final is not None and final.state != "Paused":
            return self._after_the_end(record, final), None
        if record.phase == "waiting" or self._is_behind(record):
            return self._waiting(record)
        if record.phase == "expanded":
            return self._expanded(record)
        return _UNFINISHED[record.phase](self, record), None

    @staticmethod
    def _after_the_end(record: TaskRunRecord, final: Header) -> list[Reason]:
        slug, known = record.plan.slug, record.retry_header
        ended = Reason("run-ended", "", f"the run ended as {final.state}: {said(final)}")
        text = f"{slug} had not ended"
        if known is not None:
            # What is not known is said in the words of whoever does not know it.
            was = "" if known.state == "Pending" else f"was {known.state}: "
            text = f"{slug} {was}{said(known)}"
        return [ended, Reason("run-ended", slug, text)]

    # -- what waits for others ------------------------------------------------------------

    def _is_behind(self, record: TaskRunRecord) -> bool:
        """Return whether a run may be sent already, and it is the cluster that keeps the order."""
        is_open = record.phase in ("queued", "submitted") and record.running is None
        return is_open and bool(self._awaited(record))

    def _awaited(self, record: TaskRunRecord) -> list[TaskRunRecord]:
        """Return what is upstream and not there."""
        sources = upstream_of(record, self._records)
        return [one for one in sources if one.phase != "finished" or one.unfinished_children]

    def _waiting(self, record: TaskRunRecord) -> tuple[list[Reason], TaskRunRecord | None]:
        slug, sources = record.plan.slug, self._awaited(record)
        if not sources:
            return [Reason("sending", slug, f"{slug} is about to be sent")], None
        # What cannot go on by itself is what somebody has to know of.
        first = min(sources, key=self._goes_on)
        if first not in sources[:NAMED]:
            sources = [first, *(one for one in sources if one is not first)]
        named = format_some((one.plan.slug for one in sources), NAMED)
        return [Reason("waits", slug, f"{slug} waits for {named}")], first

    def _goes_on(self, record: TaskRunRecord) -> bool:
        """Return whether a run comes to its end by itself, as far as is known."""
        if record.phase != "submitted" or record.running is not None:
            return record.phase not in ("paused", "delayed")
        n = record.id[0]
        if n not in self._has_worker:
            # Children all need the same, and there may be very many.
            self._has_worker[n] = self._wait_of(record)[0] != "no-worker"
        return self._has_worker[n]

    def _expanded(self, record: TaskRunRecord) -> tuple[list[Reason], TaskRunRecord | None]:
        parts = [*parts_of(record, self._records)]
        going_on = [one for one in parts if one.header is None]
        slug, ended = record.plan.slug, len(parts) - len(going_on)
        own = Reason("parts", slug, f"{slug}: {ended} of {len(parts)} have finished")
        # Those that wait for others of them are not the ones to look at.
        return [own], min(going_on, key=self._rank, default=None)

    def _rank(self, record: TaskRunRecord) -> int:
        """Return how much a part tells of why the whole has not ended; the least tells most."""
        if not self._goes_on(record):
            return 0
        if record.running is not None:
            return 1
        return 3 if record.phase in ("waiting", "queued") else 2

    # -- what waits for the cluster, or for a time ------------------------------------------

    def _submitted(self, record: TaskRunRecord) -> list[Reason]:
        slug = record.plan.slug
        if record.running is not None:
            return self._running(record, record.running)
        sent = f"{slug} was sent, and no worker has said that it runs"
        kind, text = self._wait_of(record)
        if kind != "open":
            return [Reason(kind, slug, text), Reason("submitted", slug, sent)]
        if self._workers is None and self._moment.stalled:
            stalled = Reason("stalled", "", self._moment.stalled)
            return [stalled, Reason("submitted", slug, sent)]
        more = "it waits for a place or for its inputs there, or has only just begun"
        return [Reason("submitted", slug, f"{sent}: {more}")]

    def _wait_of(self, record: TaskRunRecord) -> tuple[Wait, str]:
        """Return what keeps a run that was sent from beginning, where the workers tell that."""
        if self._workers is None:
            return "open", ""
        need = self._moment.need(record.id, record.plan.slug)
        return why_it_waits(need, self._workers, self._holders)

    @cached_property
    def _workers(self) -> Sequence[WorkerView] | None:
        # It is asked for where somebody waits for a place, and not more than once.
        return self._moment.look()

    @cached_property
    def _holders(self) -> Mapping[str, Sequence[Need]]:
        """What is known to run on each worker, and what it needs."""
        found: dict[str, list[Need]] = {}
        for one in self._records.values():
            for running in (one.running, one.left_running):
                if running is not None:
                    need = self._moment.need(one.id, one.plan.slug)
                    found.setdefault(running.worker, []).append(need)
        return found

    def _running(self, record: TaskRunRecord, running: Running) -> list[Reason]:
        slug, seconds = record.plan.slug, self._moment.now - running.started
        attempt = f"attempt {len(record.values) + 1}"
        text = (
            f"{slug} has been running for {format_duration(seconds)} ({attempt}, {running.worker})"
        )
        return [Reason("running", slug, text), *self._among_siblings(record, seconds)]

    def _among_siblings(self, record: TaskRunRecord, seconds: float) -> list[Reason]:
        """Return whether a child has run for much longer than its siblings had to."""
        if record.family is None:
            return []
        headers = (one.header for one in children_of(record.family, self._records))
        took = [one.seconds for one in headers if one is not None and one.seconds is not None]
        if len(took) < SIBLINGS or seconds < SLOW * statistics.median(took):
            return []
        middle = format_duration(statistics.median(took))
        text = f"the middle one of its {len(took)} siblings that have ended ran for {middle}"
        return [Reason("longer", record.plan.slug, text)]

    def _delayed(self, record: TaskRunRecord) -> list[Reason]:
        header = record.retry_header
        assert header is not None
        slug, left = record.plan.slug, header.more["scheduled_time"] - self._moment.now
        due = f"in {format_duration(left)}" if left > 0 else "now"
        return [Reason("retry-due", slug, f"{slug} is due again {due}: {said(header)}")]

    def _paused(self, record: TaskRunRecord) -> list[Reason]:
        slug, header = record.plan.slug, record.retry_header
        why = f": {said(header)}" if header is not None and header.message else ""
        text = f"{slug} has paused{why}; run.approve({slug!r}) lets it go on"
        return [Reason("paused", slug, text)]


def _alone(kind: Kind, text: str) -> Callable[[_Why, TaskRunRecord], list[Reason]]:
    """Return what makes one reason of a task run, of which no more is to be said."""
    return lambda _, record: [Reason(kind, record.plan.slug, f"{record.plan.slug} {text}")]


#: What is to be said of a task run that waits for nobody, by its phase.
_UNFINISHED: Final[dict[str, Callable[[_Why, TaskRunRecord], list[Reason]]]] = {
    "queued": _alone("sending", "is about to be sent"),
    "submitted": _Why._submitted,
    "delayed": _Why._delayed,
    "paused": _Why._paused,
    "foreign": _alone("foreign", "belongs to another run, which goes on"),
    "growing": _alone("growing", "has returned a graph, which is being planned"),
}


def upstream_of(record: TaskRunRecord, records: Records) -> list[TaskRunRecord]:
    """Return what is upstream of a run; of single calls, what is not forgotten."""
    return [records[id] for id in record.plan.upstream if id in records]


def said(header: Header) -> str:
    """Return what a state says, or else its name."""
    return header.message or header.state
