"""Why the body of a task run was executed more than once. Pure: from its attempts to reasons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from dask_taskrunner.headers import Header
from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.machine.sources import Records, all_inside, children_of

#: What the outcome of an attempt led to.
_WHY: Final[dict[str, tuple[Kind, str]]] = {
    "retrying": ("retried", "ended with {error}, and was retried"),
    "worker-lost": ("lost", "was lost with its worker {worker}"),
    "looped": ("looped", "asked for another iteration"),
    "paused": ("approved", "paused, and somebody let it go on"),
    "crashed": ("crashed-alone", "was the end of its process: {error}"),
}
#: How what is executed once more had ended, and what it left.
_ENDED: Final = {
    "Success": ("had succeeded", "what it made"),
    "Skipped": ("had skipped itself", "its state"),
    "TimedOut": ("had run out of time", "its state"),
    "Failed": ("had failed", "its state"),
}
#: So many task runs inside of a whole are told of.
_TOLD: Final = 3


def repeats_of(record: TaskRunRecord, records: Records) -> tuple[Reason, ...]:
    """Return why a task run, or what it is made of, was executed again, for each time."""
    inside = (*children_of(record, records), *all_inside(record, records))
    repeated = [one for one in (record, *inside) if len(one.values) > 1 or _was_sent_again(one)]
    told = [
        reason for one in repeated[:_TOLD] for reason in _repeats(one, is_part=one is not record)
    ]
    more = len(repeated) - _TOLD
    if more > 0:
        told.append(Reason("parts", record.plan.slug, f"{more} more task runs inside it did, too"))
    return tuple(told)


def _was_sent_again(record: TaskRunRecord) -> bool:
    """Return whether workers died that had it, and nothing is known of a body there."""
    return record.deaths > 0 and len(record.attempts()) < 2


def _repeats(record: TaskRunRecord, *, is_part: bool) -> Iterator[Reason]:
    slug, attempts = record.plan.slug, record.attempts()
    of = f" of {slug}" if is_part else ""
    for place, (before, attempt) in enumerate(itertools.pairwise(attempts)):
        value = record.values[place] if place < len(record.values) else None
        kind, text = _why(before, attempt, value if isinstance(value, Header) else None)
        yield Reason(kind, slug, f"attempt {before.number}{of} {text}")
    if _was_sent_again(record):
        died = "a worker died" if record.deaths == 1 else f"workers died {record.deaths} times"
        text = f"{died} to which {slug} was assigned; whether its body had begun is not known"
        yield Reason("lost", slug, text)


def _why(before: Attempt, after: Attempt, header: Header | None) -> tuple[Kind, str]:
    if before.outcome == "retrying" and before.error is None:
        # Nothing was raised but the wish itself.
        said = header.message if header is not None else None
        return "retried", f"asked to be tried again: {said or 'RETRY'}"
    if before.outcome in _WHY:
        kind, text = _WHY[before.outcome]
        return kind, text.format(error=before.error, worker=before.worker or "(not known which)")
    if after.outcome == "re-executed" or before.outcome in ("success", "re-executed"):
        # Dask makes a failure again, too: it is a value like others.
        state = header.state if header is not None else "Success"
        ended, left = _ENDED.get(state, (f"had ended as {state}", "its state"))
        lost = f"{ended} on {before.worker}, and {left} was lost"
        return "made-again", f"{lost}: it was executed again on {after.worker}"
    return (
        "given-up",
        f"was given up ({before.outcome}): what it stood behind was not there any more",
    )
