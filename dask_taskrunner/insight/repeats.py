"""Why the body of a task run was executed more than once. Pure: from its attempts to reasons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.machine.sources import Records, all_inside, children_of

#: What the outcome of an attempt led to.
_WHY: Final[dict[str, tuple[Kind, str]]] = {
    "retrying": ("retried", "ended with {error}, and was retried"),
    "worker-lost": ("lost", "was lost with its worker {worker}: {error}"),
    "looped": ("looped", "asked for another iteration"),
    "paused": ("approved", "paused, and somebody let it go on"),
    "crashed": ("crashed-alone", "was the end of its process: {error}"),
}
#: So many task runs inside of a whole are told of.
_TOLD: Final = 3


def repeats_of(record: TaskRunRecord, records: Records) -> tuple[Reason, ...]:
    """Return why a task run, or what it is made of, was executed again, for each time."""
    inside = (*children_of(record, records), *all_inside(record, records))
    repeated = [one for one in (record, *inside) if len(one.values) > 1]
    told = [
        reason for one in repeated[:_TOLD] for reason in _repeats(one, is_part=one is not record)
    ]
    more = len(repeated) - _TOLD
    if more > 0:
        told.append(Reason("parts", record.plan.slug, f"{more} more task runs inside it did, too"))
    return tuple(told)


def _repeats(record: TaskRunRecord, *, is_part: bool) -> Iterator[Reason]:
    attempts = record.attempts()
    for before, attempt in itertools.pairwise(attempts):
        kind, text = _why(before, attempt)
        of = f" of {record.plan.slug}" if is_part else ""
        yield Reason(kind, record.plan.slug, f"attempt {before.number}{of} {text}")


def _why(before: Attempt, after: Attempt) -> tuple[Kind, str]:
    if before.outcome in _WHY:
        kind, text = _WHY[before.outcome]
        error = before.error or "no error"
        return kind, text.format(error=error, worker=before.worker or "(not known which)")
    if after.outcome == "re-executed" or before.outcome in ("success", "re-executed"):
        lost = f"had succeeded on {before.worker}, and what it made was lost"
        return "made-again", f"{lost}: it was executed again on {after.worker}"
    return (
        "given-up",
        f"was given up ({before.outcome}): what it stood behind was not there any more",
    )
