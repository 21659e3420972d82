"""Fetches what is held before a cluster ends: smallest first, up to a limit in all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import ClusterLost
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Note
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.short_texts import format_bytes

#: How many seconds a closing runner gives one result to arrive.
_PATIENCE: Final = 30.0


class Holder(NamedTuple):
    """A run that is over, and where notes on it go."""

    driver: Driver
    add_note: Callable[[Note, float], None]

    def held(self) -> list[tuple[int, TaskRunId, str]]:
        """Return size, id and slug of each result that the cluster has."""
        return [
            (_size(record), record.id, record.plan.slug)
            for record in list(self.driver.machine.records.values())
            if record.header is not None and self.driver.channel.holds(record.id)
        ]


def _size(record: TaskRunRecord) -> int:
    return 0 if record.header is None else record.header.nbytes


def keep_results(holders: Sequence[Holder], limit: int) -> None:
    """Fetch held results up to so many bytes in all, and let go of everything.

    Parameters
    ----------
    holders : sequence of Holder
        Whose results they are.
    limit : int
        In bytes.
    """
    held = [(found, n) for n, holder in enumerate(holders) for found in holder.held()]
    left: dict[int, list[str]] = {}
    kept: dict[int, list[TaskRunId]] = {}
    for (nbytes, id, slug), n in sorted(held):
        error = holders[n].driver.error
        if isinstance(error, ClusterLost):
            # Nobody answers: each would be waited for.
            holders[n].driver.values.leave(id, f"the result of {slug} is gone: {error}")
            continue
        if nbytes <= limit:
            limit -= nbytes
            kept.setdefault(n, []).append(id)
            continue
        left.setdefault(n, []).append(f"{slug} ({format_bytes(nbytes)})")
        text = f"the result of {slug} ({format_bytes(nbytes)}) was not fetched: the runner"
        holders[n].driver.values.leave(id, f"{text} closed, and fetch_limit was used up")
    for n, ids in kept.items():
        holders[n].driver.values.keep(ids, _PATIENCE)
    for n, names in left.items():
        text = f"not fetched when the runner closed, beyond fetch_limit: {', '.join(names)}"
        holders[n].add_note(Note(text, None, logging.WARNING), time.time())
    for holder in holders:
        holder.driver.is_closed = True
        holder.driver.channel.close()
