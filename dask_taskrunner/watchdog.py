"""Looks whether a flow run still moves, and says why where it does not.

A run moves while a body of its is running, while a retry waits for its time, and whenever a state
changes. It asks the cluster nothing before a run has been still for a while.
"""

from __future__ import annotations

from typing import Final

from dask_taskrunner.backend import Channel
from dask_taskrunner.machine.events import Event, Stalled
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.placement import Need, why_nothing_runs

#: A run that has been still for so many seconds is looked at.
STILL_AFTER: Final = 10.0
#: So many task runs are looked at for what they need.
_LOOKED_AT: Final = 1000


class Watchdog:
    """One flow run's.

    Parameters
    ----------
    machine : Machine
        Is read.
    channel : Channel
        Knows what the task runs need, and who is there.
    """

    def __init__(self, machine: Machine, channel: Channel) -> None:
        self._machine = machine
        self._channel = channel
        self._seen: tuple[int, int] = (0, 0)
        self._still_since: float | None = None
        self._said = ""

    @property
    def said(self) -> str:
        """Why nothing happens, as far as that was found out; empty where something does."""
        return self._said

    def look(self, now: float) -> list[Event]:
        """Return what is to be said, and whether the run is to end for it."""
        limit = self._channel.stall_timeout
        if not self._is_still():
            self._still_since, self._said = None, ""
            return []
        if self._still_since is None:
            self._still_since = now
        still_for = now - self._still_since
        if still_for < min(STILL_AFTER, STILL_AFTER if limit is None else limit):
            return []
        workers = self._channel.look()
        if workers is None:
            return []
        text = why_nothing_runs(self._needs(), workers)
        ends = limit is not None and still_for >= limit
        if text == self._said and not ends:
            return []
        self._said = text
        return [Stalled(now, text, still_for if ends else None)]

    def _is_still(self) -> bool:
        machine = self._machine
        seen = (len(machine.history), machine.active)
        has_moved, self._seen = seen != self._seen, seen
        if has_moved or machine.active == 0 or machine.final is not None:
            return False
        sent = False
        for record in machine.records.values():
            if record.running is not None or record.phase in ("delayed", "growing", "foreign"):
                return False
            sent = sent or record.phase == "submitted"
        return sent

    def _needs(self) -> list[Need]:
        return [
            self._channel.need(record.id, record.plan.slug)
            for record in [*filter(_is_sent, self._machine.records.values())][:_LOOKED_AT]
        ]


def _is_sent(record: TaskRunRecord) -> bool:
    return record.phase == "submitted"
