"""How a flow run ends, and the words for it. Pure functions over the records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from dask_taskrunner.headers import NOTHING_MORE, Header, TaskRunId
from dask_taskrunner.machine.board import Board
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.machine.records import ACTIVE, READ, TaskRunRecord, read_by
from dask_taskrunner.machine.sources import all_are_there, children_of, sources_of
from dask_taskrunner.machine.submissions import expanded_by_index, expands_at_once
from dask_taskrunner.states import Cancelled, Failed

#: How many task runs a message names before it only counts.
NAMED = 3


def flow_header(state: str, text: str | None, at: float) -> Header:
    """Return the header of a flow run's own state."""
    return Header(-1, -1, 0, 0, state, text, "", 1, None, None, at, "", 0, None, NOTHING_MORE)


def outcome(plan: Plan, records: Mapping[TaskRunId, TaskRunRecord], at: float) -> Header:
    """Return the flow run's state when no task run can advance: the reference tasks decide."""
    headers = [(id, records[id].header) for id in sorted(plan.reference)]
    failed = [id for id, header in headers if header and header.is_failed]
    unfinished = [id for id, header in headers if header is None]
    cancelled = [id for id, header in headers if header and header.is_cancelled]
    if failed:
        return flow_header("Failed", f"{_names(failed, records)} failed", at)
    if unfinished:
        return flow_header("Paused", _waiting(unfinished, records), at)
    if cancelled:
        return flow_header("Cancelled", f"{_names(cancelled, records)} cancelled", at)
    text = "reference tasks succeeded"
    others = [
        id
        for id, record in records.items()
        if record.header and issubclass(record.header.state_class, Failed) and not record.inner
    ]
    if others:
        total = sum(record.is_counted for record in records.values())
        text += f"; {len(others)} of {total} task runs failed: {_names(others, records)}"
    return flow_header("Success", text, at)


def _waiting(unfinished: list[TaskRunId], records: Mapping[TaskRunId, TaskRunRecord]) -> str:
    """Return what a run that cannot go on by itself waits for."""
    paused = [id for id, record in sorted(records.items()) if record.is_paused]
    if not paused:
        return f"{_names(unfinished, records)} did not finish"
    slugs = ", ".join(repr(records[id].plan.slug) for id in paused[:NAMED])
    more = ", ..." if len(paused) > NAMED else ""
    verb = "waits" if len(paused) == 1 else "wait"
    return f"{_names(paused, records)} {verb} for run.approve({slugs}{more})"


def _names(ids: list[TaskRunId], records: Mapping[TaskRunId, TaskRunRecord]) -> str:
    names = [records[id].plan.slug for id in ids[:NAMED]]
    return ", ".join(names) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def holds_inputs(header: Header) -> bool:
    """Return whether a run that ended so keeps its inputs held: a resume would need them."""
    return issubclass(header.state_class, Failed | Cancelled)


def crash_text(record: TaskRunRecord, loss: Loss) -> str:
    """Return the message of a run that took its workers with it."""
    if loss.kind != "killed":
        return f"its data was lost {_times(record.crashes)}: {loss.text}"
    where = f", last {loss.worker}" if loss.worker else ""
    return (
        f"its worker died {_times(record.deaths)}{where} "
        "(memory limit, os._exit or a crash in C code, walltime, or a GIL held too long?)"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def last_heard(record: TaskRunRecord) -> str:
    """Return the last that is known of an unfinished run."""
    if record.running is not None:
        return f"last heard: running on {record.running.worker}"
    if record.length is not None:
        return (
            f"last heard: {record.length - record.unfinished_children} of {record.length} finished"
        )
    if record.submission:
        return f"last heard: {record.phase}"
    return "it was not sent"


def clock(at: float) -> str:
    """Return a time as a person reads it, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def broken(board: Board) -> list[str]:
    """Return what contradicts the rules of the machine; empty where all is well."""
    records = board.records.values()
    checks = (_broken_counters, _broken_phase, _broken_family, _broken_role, _broken_leftover)
    found = [text for record in records for check in checks for text in check(board, record)]
    if board.active != sum(record.phase in ACTIVE for record in records):
        found.append("the count of active runs disagrees with the records")
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if not record.is_counted:
            continue
        shown[record.plan.name][record.shown] += 1
    # Of a mapped task without children nothing is left to count.
    if {name: +counts for name, counts in board.counts.items() if +counts} != shown:
        found.append("the counts by state disagree with the records")
    return found


def _sources(board: Board, record: TaskRunRecord) -> list[TaskRunRecord]:
    """Return the upstream runs that still count this one among their readers."""
    # What is never sent again has left an open plan's lists, and what it read may be forgotten.
    sources = [board.records[id] for id in record.plan.upstream if id in board.records]
    return [source for source in sources if record.id in source.downstream]


def _broken_counters(board: Board, record: TaskRunRecord) -> Iterator[str]:
    slug, upstream = record.plan.slug, _sources(board, record)
    there = [board.records[id] for id in record.downstream if id in board.records]
    readers = [
        reader
        for reader in {reader.id: reader for reader in there}.values()
        for source in read_by(reader.plan, board.records)
        if source is record
    ]
    if len(there) < len(record.downstream):
        yield f"{slug} has a reader that was forgotten"
    counted = (
        record.unopened_upstream,
        record.unfinished_upstream,
        record.unfinished_readers,
        record.failed_readers,
    )
    if counted != (
        sum(not source.is_open_in(source.phase) for source in upstream),
        sum(source.phase != "finished" for source in upstream),
        sum(reader.phase not in READ for reader in readers),
        sum(reader.header is not None and holds_inputs(reader.header) for reader in readers)
        * (not board.plan.is_open),
    ):
        yield f"{slug}: its counters disagree with the runs around it"
    if record.holders < 0:
        yield f"the result of {slug} was dropped more often than it was held"


def _stood_behind(board: Board, record: TaskRunRecord) -> list[TaskRunRecord]:
    """Return the runs whose states or values a run that is sent is sent with."""
    records, plan = board.records, record.plan
    if plan.maps is not None:
        apart = expanded_by_index(record, records)
        return [records[id] for place, id in enumerate(plan.upstream) if place not in apart]
    # An open plan has neither maps nor growth, and forgets what is upstream.
    return _sources(board, record) if board.plan.is_open else [*sources_of(record, records)]


def _is_awaiting(board: Board, record: TaskRunRecord) -> bool:
    """Return whether something will end, or be expanded, that a run waits for."""
    awaited = [source for source in _sources(board, record) if source.phase != "finished"]
    maps = record.plan.maps
    if maps is None:
        # A child's value may be made again, after the mapped run has ended.
        lists = (board.records[record.plan.upstream[place]] for place in record.plan.lists)
        return (
            bool(awaited)
            or any(family.unfinished_children for family in lists)
            or not (board.plan.is_open or all_are_there(record, board.records))
        )
    apart = expanded_by_index(record, board.records)
    going_on = [board.records[record.plan.upstream[place]].phase != "finished" for place in apart]
    return not expands_at_once(record, board.records) and len(awaited) > sum(going_on)


def _broken_phase(board: Board, record: TaskRunRecord) -> Iterator[str]:
    slug = record.plan.slug
    if record.phase == "finished" and record.header is None:
        yield f"{slug} is finished without a state"
    may_hold = record.phase in ("submitted", "growing", "finished") or record.goes_on
    if record.future and not may_hold:
        yield f"{slug} is {record.phase}, and its future is held"
    if record.phase == "submitted" and not record.future:
        yield f"{slug} is submitted, and its future was released"
    if record.goes_on and not record.future:
        yield f"{slug} is to go on with a result that was released"
    if record.phase in ("queued", "submitted"):
        for source in _stood_behind(board, record):
            # Of a mapped run only the trigger is asked, by what the others have come to.
            is_open = source.is_open_in(source.phase) and not source.is_gone
            if not is_open if record.plan.maps is None else source.header is None:
                yield f"{slug} stands behind {source.plan.slug}, which is not there"
    if board.has_begun and record.phase == "waiting" and not _is_awaiting(board, record):
        yield f"{slug} waits, and nothing will wake it"
    if not _will_move(board, record):
        yield f"{slug} is {record.phase}, and nothing will wake it"


def _will_move(board: Board, record: TaskRunRecord) -> bool:
    """Return whether what is queued or delayed will come out again."""
    if record.phase == "queued":
        return record.plan.order in board.outbox
    return record.phase != "delayed" or record.id in board.timers


def _broken_family(board: Board, record: TaskRunRecord) -> Iterator[str]:
    slug, phase, unfinished = record.plan.slug, record.phase, record.unfinished_children
    children = [*children_of(record, board.records)]
    inside = [board.records[id] for id in record.inner.runs] if record.inner is not None else []
    if phase == "expanded" and record.is_counted:
        yield f"{slug} is expanded, and nobody knows to how many children"
    if phase == "growing" and not record.future:
        yield f"{slug} grows, and the graph was released"
    if phase == "expanded" and not unfinished:
        yield f"{slug} has no unfinished children, and is not finished"
    if phase == "finished" and any(child.header is None for child in (*children, *inside)):
        yield f"{slug} has finished, and not all its children have"
    if phase == "expanded" and record.header is None:
        is_paused = unfinished == record.paused_children
        if is_paused != (record.retry_header is not None):
            yield f"{slug} is paused, and does not show it, or the other way round"
    if any(child.family is not record for child in children):
        yield f"{slug} has a child that does not know whose it is"
    if any(one.outer is not record for one in inside):
        yield f"{slug} has an inner run that does not know whose it is"
    children += inside
    counts = (
        sum(child.phase != "finished" for child in children),
        sum(child.phase == "paused" for child in children),
    )
    if counts != (unfinished, record.paused_children):
        yield f"{slug}: its counts of children disagree with these"


def _broken_role(board: Board, record: TaskRunRecord) -> Iterator[str]:
    slug, role, phase = record.plan.slug, record.plan.role, record.phase
    if phase == "foreign" and (role != "foreign" or record.header is not None):
        yield f"{slug} is foreign, and it is this run's own or has ended"
    if not board.has_begun or role == "run":
        return
    if phase in ("waiting", "queued", "submitted", "delayed"):
        yield f"{slug} is {phase}, and it is not run here"
    if role == "outside" and (phase != "paused" or record.header is not None):
        yield f"{slug} is not part of this run, and it was touched"
    if role == "given" and record.header is None:
        yield f"{slug} was given a state, and has none"


def _broken_leftover(board: Board, record: TaskRunRecord) -> Iterator[str]:
    """Only an open plan takes runs out of the lists, and then it leaves none behind."""
    slug, upstream = record.plan.slug, _sources(board, record)
    if len(upstream) < len(record.plan.upstream) and record.may_be_sent:
        yield f"{slug} may be sent again, and what is upstream of it does not know it"
    if not board.plan.is_open:
        return
    if upstream and not record.needs_upstream:
        yield f"{slug} reads nothing any more, and still holds what is upstream of it"
    if record.is_unneeded:
        yield f"{slug} has finished, nobody asks for it, and it was not forgotten"
