"""The records of a flow run at one moment, for whoever looks at a run that goes on.

The machine's thread goes on changing its records while another thread reads them. A mapped run has
its length before its children are there, and one that has grown its inner runs before these have
joined: who reads in the middle of that misses a record, or has a dict change its size under it. So
everything that tells of a run reads a copy, which is made once, between two events.
"""

from __future__ import annotations

import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import Shared, TaskRunRecord
from dask_taskrunner.machine.sources import parts_of

#: Seconds between two tries, and how many there are: an event that lets 100,000 task runs begin
#: takes a second.
_REST: Final = 0.001
_TRIES: Final = 30_000
_FIELDS: Final = (*Shared.__slots__, *TaskRunRecord.__slots__)
_fields: Final = operator.attrgetter(*_FIELDS)
#: Those that name another record, which is to be one of the copy.
_LINKS: Final = ("family", "outer", "stands_for")


class Watched(Protocol):
    """What is copied: a machine."""

    @property
    def turn(self) -> int:
        """Odd while it takes something in."""

    @property
    def records(self) -> Mapping[TaskRunId, TaskRunRecord]:
        """What is known of each task run."""

    @property
    def history(self) -> list[HistoryEntry]:
        """Every change of state so far, oldest first."""

    @property
    def final(self) -> Header | None:
        """The flow run's own state, if it is over or paused."""


class Snapshot(NamedTuple):
    """A flow run at one moment.

    Attributes
    ----------
    records : dict
        Copies, which change no more; but for their ``downstream``, which is the machine's.
    history : list of HistoryEntry
        Up to that moment.
    final : Header or None
        The flow run's own state, if it was over or had paused.
    """

    records: dict[TaskRunId, TaskRunRecord]
    history: list[HistoryEntry]
    final: Header | None

    @property
    def counts(self) -> dict[str, int]:
        """How many task runs show which state."""
        return Counter(one.shown for one in self.records.values() if one.is_counted)

    def in_order(self, ids: Iterable[TaskRunId]) -> dict[TaskRunId, TaskRunRecord]:
        """Return all records, each with those that it is made of behind it.

        Parameters
        ----------
        ids : iterable of TaskRunId
            In the order of the plan, but for children; what has not joined may be among them.
        """
        tops = (self.records[id] for id in ids if id in self.records)
        inside = (one for top in tops if top.outer is None for one in self._with_all_inside(top))
        return {one.id: one for one in inside}

    def _with_all_inside(self, record: TaskRunRecord) -> Iterator[TaskRunRecord]:
        yield record
        for part in parts_of(record, self.records):
            yield from self._with_all_inside(part)


def _rest() -> None:
    time.sleep(_REST)


def snapshot_of(machine: Watched, rest: Callable[[], None] | None = None) -> Snapshot:
    """Return a flow run as it is between two events; from any thread.

    Nothing is locked: the collector of garbage may come in the middle of a look and close a runner,
    and that would then wait for the very thread that the look held up.

    Parameters
    ----------
    machine : Watched
        The run's.
    rest : callable, optional
        Lets the machine go on, before another try.

    Raises
    ------
    TimeoutError
        No try of half a minute fell between two events.
    """
    for _ in range(_TRIES):
        if (found := _look(machine)) is not None:
            fields, history, final = found
            return Snapshot(_copies(fields), history, final)
        (rest or _rest)()
    raise TimeoutError("the flow run could not be looked at between two changes; ask again")


def _look(
    machine: Watched,
) -> tuple[list[tuple[Any, ...]], list[HistoryEntry], Header | None] | None:
    """Return all fields of all records, or None where the machine was in the middle of an event."""
    turn = machine.turn
    if turn % 2:
        return None
    try:
        # Of each record at once, by a function that is not Python: no other thread comes between.
        fields = [*map(_fields, machine.records.values())]
    except RuntimeError:
        # One has joined meanwhile.
        return None
    found = fields, machine.history[:], machine.final
    return found if machine.turn == turn else None


def _copies(found: Iterable[tuple[Any, ...]]) -> dict[TaskRunId, TaskRunRecord]:
    copies: dict[TaskRunId, TaskRunRecord] = {}
    for fields in found:
        record = TaskRunRecord.__new__(TaskRunRecord)
        for name, value in zip(_FIELDS, fields, strict=True):
            setattr(record, name, value)
        copies[record.id] = record
    for record in copies.values():
        for name in _LINKS:
            other = getattr(record, name)
            if other is not None:
                setattr(record, name, copies[other.id])
    return copies
