"""How far a run is, by task name: a fold over its history. It reads no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.states import STATE_CLASSES, Failed, Finished, State

#: A rate over less than this is noise.
_SECONDS_FOR_A_RATE = 0.5


class Group:
    """The task runs of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: How many task runs there are.
        self.total = 0
        #: Name of a state's class -> how many are in it; the sum is `total`.
        self.counts: Counter[str] = Counter()
        #: When each retry is due, in epoch seconds; exactly those in state Retrying.
        self.due: dict[TaskRunId, float] = {}
        #: How many retries have been put off until they are due, those included.
        self.retries = 0
        #: When something was first heard of them, and last; None before.
        self.first_at: float | None = None
        self.last_at: float | None = None

    @property
    def finished(self) -> int:
        """How many have a final state."""
        return self._count(Finished)

    @property
    def failed(self) -> int:
        """How many have failed, for whatever reason."""
        return self._count(Failed)

    def elapsed(self, now: float) -> float:
        """Return the seconds from the first news until now, or until the last one finished."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return (self.last_at if self.finished == self.total else now) - self.first_at

    def rate(self, now: float) -> float | None:
        """Return how many finish per second, or None while that says nothing."""
        elapsed = self.elapsed(now)
        return self.finished / elapsed if self.finished and elapsed >= _SECONDS_FOR_A_RATE else None

    def next_due_in(self, now: float) -> float | None:
        """Return the seconds until the next retry is due, 0 if overdue; None without one."""
        return max(min(self.due.values()) - now, 0.0) if self.due else None

    def _count(self, kind: type[State]) -> int:
        return sum(n for name, n in self.counts.items() if issubclass(STATE_CLASSES[name], kind))


class Tally:
    """A whole flow run.

    Parameters
    ----------
    names : mapping
        Id of a task run -> its task's name. Groups stand in the order in which this names them.
    """

    def __init__(self, names: Mapping[TaskRunId, str]) -> None:
        self._names = names
        #: Mapped runs that have become their children.
        self._expanded: set[TaskRunId] = set()
        self.groups: dict[str, Group] = {}
        #: The flow run's own state and message.
        self.state = "Pending"
        self.message: str | None = None
        #: When the flow run was first heard of, and last; None before.
        self.first_at: float | None = None
        self.last_at: float | None = None
        for name in names.values():
            group = self.groups.setdefault(name, Group(name))
            group.total += 1
            group.counts["Pending"] += 1

    @property
    def is_over(self) -> bool:
        """Whether the flow run has ended, finished or paused."""
        return self.state not in ("Pending", "Running")

    @property
    def total(self) -> int:
        """How many task runs there are."""
        return sum(group.total for group in self.groups.values())

    @property
    def finished(self) -> int:
        """How many task runs have a final state."""
        return sum(group.finished for group in self.groups.values())

    @property
    def failed(self) -> int:
        """How many task runs have failed, for whatever reason."""
        return sum(group.failed for group in self.groups.values())

    def elapsed(self, now: float) -> float:
        """Return the seconds from the run's start until now, or until its end."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return (self.last_at if self.is_over else now) - self.first_at

    def group_of(self, id: TaskRunId) -> Group:
        """Return the group of a task run."""
        # A child has its mapped run's name.
        return self.groups[self._names[id if id in self._names else (id[0], -1)]]

    def feed(self, entries: Iterable[HistoryEntry]) -> None:
        """Take in what happened since the last time, oldest first."""
        for entry in entries:
            if self.first_at is None:
                self.first_at = entry.at
            self.last_at = entry.at
            if entry.task_run is not None:
                self._feed_task_run(entry.task_run, entry)
            else:
                self.state = entry.new
                self.message = None if entry.header is None else entry.header.message

    def _feed_task_run(self, id: TaskRunId, entry: HistoryEntry) -> None:
        group = self.group_of(id)
        if group.first_at is None:
            group.first_at = entry.at
        group.last_at = entry.at
        if id in self._expanded:
            return
        group.counts[entry.old] -= 1
        group.due.pop(id, None)
        children = None if entry.header is None else entry.header.more.get("children")
        if children is not None:
            self._expanded.add(id)
            # What a run has grown to is counted in its place.
            assert entry.header is not None
            joined = entry.header.more.get("inner", ())
            self._names = {**self._names, **{(n, -1): group.name for n in joined}}
            group.total += children - 1
            group.counts["Pending"] += children
            return
        group.counts[entry.new] += 1
        if entry.new == "Retrying":
            group.retries += 1
            group.due[id] = due(entry)


def due(entry: HistoryEntry) -> float:
    """Return when a retry is due, in epoch seconds."""
    more = {} if entry.header is None else entry.header.more
    # The delay runs from the moment at which the client heard of it; only a task that chose a time
    # of its own is taken at its word about the clock.
    if "delay" in more:
        return entry.at + float(more["delay"])
    return float(more.get("scheduled_time", entry.at))
