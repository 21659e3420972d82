"""What of one run has ended, and who is to be told: in threads that wait, and by calls.

A run that takes in single calls has no end of its own to wait for. There a call that paused, and
whatever waits for it, counts as ended, for nobody would ever hear of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.waiters import Waiter, Waiters


class Ends:
    """The ends of one run's task runs, and its own.

    Parameters
    ----------
    records : mapping
        The machine's; read here from any thread.
    is_open : bool
        True where task runs are added later, and forgotten.
    """

    def __init__(self, records: Mapping[TaskRunId, TaskRunRecord], *, is_open: bool) -> None:
        self._records = records
        self._is_open = is_open
        #: Set when the run is over, and what had to be called for it has returned.
        self.over = threading.Event()
        #: Notified after each batch of news.
        self._changed = threading.Condition()
        #: By the id of a task run, and None for the whole run.
        self._waiters = Waiters()
        #: Added, and not taken in by the machine yet.
        self._coming: set[TaskRunId] = set()
        self._paused: set[TaskRunId] = set()

    # -- asking ---------------------------------------------------------------------------

    def has_ended(self, id: TaskRunId | None) -> bool:
        """Return whether a task run is final, or never will be; for None, whether all is over."""
        if self.over.is_set():
            return True
        if id is None:
            return False
        # In this order: what arrives meanwhile is in the records first.
        is_coming, record = id in self._coming, self._records.get(id)
        if record is None:
            # It ended, and was forgotten.
            return not is_coming
        return record.header is not None or self._is_stuck(record)

    def when_ended(self, id: TaskRunId | None, waiter: Waiter) -> None:
        """Have something called once, in whichever thread tells of the end."""
        self._waiters.add(id, waiter, lambda: self.has_ended(id))

    def forget_waiter(self, id: TaskRunId | None, waiter: Waiter) -> None:
        """Have it called no more, if it was not yet."""
        self._waiters.discard(id, waiter)

    def wait_for(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true of the run, and return whether it is."""
        with self._changed:
            return bool(self._changed.wait_for(done, timeout))

    def _is_stuck(self, record: TaskRunRecord) -> bool:
        """Return whether a run has paused, or waits for one that has."""
        stack, seen = [record] if self._paused else [], {record.id}
        while stack:
            one = stack.pop()
            if one.id in self._paused:
                return True
            if one.phase == "waiting":
                for id in one.plan.upstream:
                    source = self._records.get(id)
                    if source is not None and id not in seen:
                        seen.add(id)
                        stack.append(source)
        return False

    # -- telling --------------------------------------------------------------------------

    def announce(self, ids: Iterable[TaskRunId]) -> None:
        """Take note of task runs that are on their way to the machine."""
        self._coming.update(ids)

    def arrived(self, ids: Iterable[TaskRunId]) -> None:
        """Take note of task runs that the machine has taken in."""
        self._coming.difference_update(ids)
        if self._paused:
            for id in ids:
                self._tell_if_ended(id)

    def tell(self, news: Iterable[HistoryEntry]) -> None:
        """Tell of changes of state."""
        for entry in news:
            id = entry.task_run
            if id is None or entry.header is None:
                continue
            if entry.header.is_finished:
                self._paused.discard(id)
                self._waiters.tell(id)
            elif self._is_open and entry.new == "Paused":
                self._tell_of_pause(id)
        self.notify()

    def _tell_of_pause(self, id: TaskRunId) -> None:
        self._paused.add(id)
        stack, seen = [id], {id}
        while stack:
            one = stack.pop()
            self._tell_if_ended(one)
            record = self._records.get(one)
            fresh = [] if record is None else [id for id in record.downstream if id not in seen]
            seen.update(fresh)
            stack += fresh

    def _tell_if_ended(self, id: TaskRunId) -> None:
        if self.has_ended(id):
            self._waiters.tell(id)

    def tell_over(self) -> None:
        """Tell everybody that the run is over."""
        self.over.set()
        self.notify()
        self._waiters.tell_all()

    def reopen(self) -> None:
        """Take note that the run goes on after all."""
        self.over.clear()

    def notify(self) -> None:
        """Have threads look again at what they wait for."""
        with self._changed:
            self._changed.notify_all()


class HasEnds:
    """What lets others wait for its ends."""

    _ends: Ends

    def when_ended(self, id: TaskRunId | None, waiter: Callable[[], None]) -> None:
        """Have something called once when a task run has ended, or, for None, the whole run.

        In whichever thread tells of it, so it must neither block nor raise anything.
        """
        self._ends.when_ended(id, waiter)

    def forget_waiter(self, id: TaskRunId | None, waiter: Callable[[], None]) -> None:
        """Have it called no more, if it was not yet: who gave it waits no longer."""
        self._ends.forget_waiter(id, waiter)

    def has_ended(self, id: TaskRunId | None) -> bool:
        """Return whether a task run is final, or never will be; for None, whether all is over."""
        return self._ends.has_ended(id)

    def wait_for(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true of the run, and return whether it is."""
        return self._ends.wait_for(done, timeout)
