"""From the records and the history of a flow run to what took how long, and waited for what.

All times are in seconds from the run's start, by the client's clock. It knows no Dask, and asks
nobody: what the records and the history do not say is not known.
"""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import Attempt, TaskRunRecord, attempt_of
from dask_taskrunner.machine.sources import Records, elements_of, parts_of
from dask_taskrunner.placement import Need

#: A task run and whether all that it is made of is meant: its children, or its inner runs.
NodeId: TypeAlias = tuple[TaskRunId, bool]

#: News takes some time. A worker's clock that differs by less is taken to agree with the client's.
_NEWS_TAKES: Final = 0.1


#: What a task run may have been about when it was ended from outside.
Tail: TypeAlias = Literal["running", "delayed", "queued", "overhead"]
_TAILS: Final[dict[str, Tail]] = {
    "Retrying": "delayed", "Scheduled": "delayed", "Paused": "delayed", "Running": "running",
    "Pending": "queued",
}  # fmt: skip


#: How much of which resources of a worker, in the order of the names.
Needs: TypeAlias = tuple[tuple[str, float], ...]


class Execution(NamedTuple):
    """One execution of a body.

    Attributes
    ----------
    available : float
        From when on it could have begun: its upstream runs had ended, its retry was due.
    started, ended : float
        When the body ran.
    worker : str
        Where.
    outcome : str
        As :class:`~dask_taskrunner.machine.records.Attempt` has it.
    fetched : tuple of (float, float)
        When inputs came from other workers, between `available` and `started`: intervals that do
        not overlap.
    needs : tuple of (str, float)
        How much of the worker's resources it had for itself, by their names.
    """

    available: float
    started: float
    ended: float
    worker: str
    outcome: str
    fetched: tuple[tuple[float, float], ...] = ()
    needs: Needs = ()


class Node(NamedTuple):
    """What has a beginning and an end: the bodies of a task run, or all that it is made of.

    Attributes
    ----------
    id : NodeId
        Which.
    slug, task : str
        The task run's, and its task's name.
    waits_for : tuple of NodeId
        What had to end first; of a whole, its parts.
    ready : float
        When all that had.
    ended : float or None
        None where it did not.
    executions : tuple of Execution
        In their order; none of what was executed once more after the end.
    order : tuple of int
        Where it stands among what is to be sent.
    shares : mapping
        What it waits for -> the part of the result that it reads.
    nbytes : int
        The size of its result.
    is_here : bool
        False for what was given a state, or belongs to another run.
    until_end : str
        What the time went to between its last body, if any, and its end: ``running`` where it was
        cancelled in a body, ``delayed`` and ``queued`` where it waited for a time, or for a place.
    """

    id: NodeId
    slug: str
    task: str
    waits_for: tuple[NodeId, ...]
    ready: float
    ended: float | None
    executions: tuple[Execution, ...]
    order: tuple[int, int, int]
    shares: Mapping[NodeId, float]
    nbytes: int
    is_here: bool
    until_end: Tail = "overhead"

    @property
    def is_whole(self) -> bool:
        """True where it has no body, but parts."""
        return self.id[1]


class Reading(NamedTuple):
    """A flow run, read.

    Attributes
    ----------
    nodes : dict
        In topological order.
    seconds : float
        From the run's start to its end.
    bodies : tuple of Execution
        All of them, on whatever worker.
    start : float
        The run's start, in epoch seconds.
    again : mapping
        Task run -> what was executed of it once more after its end.
    """

    nodes: dict[NodeId, Node]
    seconds: float
    bodies: tuple[Execution, ...]
    start: float = 0.0
    again: Mapping[TaskRunId, Sequence[Execution]] = {}

    @property
    def ended(self) -> list[Node]:
        """What has ended, in topological order."""
        return [node for node in self.nodes.values() if node.ended is not None]


def read(
    records: Records,
    history: Sequence[HistoryEntry],
    need: Callable[[TaskRunId, str], Need] | None = None,
) -> Reading:
    """Read a flow run.

    Parameters
    ----------
    records : mapping
        The machine's.
    history : sequence of HistoryEntry
        From the run's first entry on.
    need : callable, optional
        Returns what a task run asks of a worker, where that is known.
    """
    return _Reader(records, history, need).read()


def node_id(record: TaskRunRecord) -> NodeId:
    """Return what others wait for that wait for a task run."""
    return record.id, record.length is not None or record.inner is not None


def waits_for(record: TaskRunRecord, records: Records) -> tuple[NodeId, ...]:
    """Return what had to end before the body of a task run could begin."""
    # A run of single calls forgets what nobody needs.
    upstream = [node_id(records[id]) for id in record.plan.upstream if id in records]
    if record.outer is not None:
        upstream.append((record.outer.id, False))
    return tuple(dict.fromkeys(upstream))


def _parts_of(record: TaskRunRecord, records: Records) -> Iterator[NodeId]:
    if record.inner is not None:
        yield record.id, False
    yield from map(node_id, parts_of(record, records))


class _Reader:
    """One run on its way."""

    def __init__(
        self,
        records: Records,
        history: Sequence[HistoryEntry],
        need: Callable[[TaskRunId, str], Need] | None,
    ) -> None:
        self._records = dict(records)
        self._need = need
        # What joins while it is read is not read.
        self._history = history[:]
        # What was added before the run began has no time that means anything.
        began = (entry.at for entry in self._history if entry.task_run is None)
        self._start = next(began, 0.0)
        self._end_at = max(0.0, self._history[-1].at - self._start) if self._history else 0.0
        self._offsets = _offsets(self._history)
        self._dues = _dues(self._history)
        self._tails = _tails(self._history)
        self._nodes: dict[NodeId, Node] = {}

    def read(self) -> Reading:
        graph: dict[NodeId, tuple[NodeId, ...]] = {}
        for record in self._records.values():
            if record.length is None:
                graph[record.id, False] = waits_for(record, self._records)
            if node_id(record)[1]:
                graph[record.id, True] = tuple(_parts_of(record, self._records))
                graph[record.id, True] = graph[record.id, True] or waits_for(record, self._records)
        for id in graphlib.TopologicalSorter(graph).static_order():
            self._nodes[id] = self._node(id, graph[id])
        bodies: list[Execution] = []
        again: defaultdict[TaskRunId, list[Execution]] = defaultdict(list)
        for record in self._records.values():
            for attempt in _known(record):
                bodies.append(self._execution(attempt, 0.0, self._needs_of(record)))
                if attempt.outcome == "re-executed":
                    again[record.id].append(bodies[-1])
        return Reading(self._nodes, self._end_at, tuple(bodies), self._start, again)

    def _node(self, id: NodeId, sources: tuple[NodeId, ...]) -> Node:
        record = self._records[id[0]]
        plan, header = record.plan, record.header
        # What nobody waits for has ended as far as this one is concerned.
        ready = max((self._nodes[source].ended or 0.0 for source in sources), default=0.0)
        executions = () if id[1] else self._executions(record, ready)
        is_here = plan.role == "run" or bool(executions)
        return Node(
            id, plan.slug, plan.name, sources, ready, self._end(id, record, ready, executions),
            executions, plan.order, {} if id[1] else _shares(record, self._records),
            header.nbytes if header is not None else 0, is_here,
            self._tails.get(record.id, "overhead"),
        )  # fmt: skip

    def _end(
        self, id: NodeId, record: TaskRunRecord, ready: float, executions: Sequence[Execution]
    ) -> float | None:
        header = record.header
        if not id[1] and record.inner is not None:
            return executions[-1].ended if executions else ready
        if header is None:
            return None
        if id[1] or (record.plan.role == "given" and not executions):
            # What was given was there from the beginning, whatever its own time says.
            return ready
        if executions and header.started is not None:
            return executions[-1].ended
        at = min(self._at(header.at, header.worker), self._end_at)
        return max(at, ready, *(one.ended for one in executions))

    def _executions(self, record: TaskRunRecord, ready: float) -> tuple[Execution, ...]:
        found: list[Execution] = []
        since, needs = ready, self._needs_of(record)
        again = [one for one in _known(record) if one.outcome != "re-executed"]
        for attempt in sorted(again, key=lambda one: one.started or 0.0):
            started = self._at(attempt.started or 0.0, attempt.worker)
            available = max(since, self._due_before(record.id, since, started))
            found.append(self._execution(attempt, available, needs))
            since = found[-1].ended
        return tuple(found)

    def _due_before(self, id: TaskRunId, since: float, started: float) -> float:
        """Return when a body was due that began after the one before had ended, or else 0."""
        dues = [due - self._start for due in self._dues[id]]
        before = [due for due in dues if since <= due <= started]
        # By a clock that is behind it may have begun before it was due.
        after = [due for due in dues if started < due <= started + _NEWS_TAKES]
        return max(before) if before else min(after, default=0.0)

    def _needs_of(self, record: TaskRunRecord) -> Needs:
        # Where nothing has run, nothing was asked for.
        if self._need is None or not record.values:
            return ()
        return tuple(sorted((self._need(record.id, record.plan.slug).resources or {}).items()))

    def _execution(self, attempt: Attempt, available: float, needs: Needs) -> Execution:
        started = self._at(attempt.started or 0.0, attempt.worker)
        ended = self._at(attempt.ended or 0.0, attempt.worker)
        if attempt.outcome == "worker-lost":
            # The client found that out, by its own clock.
            ended = (attempt.ended or 0.0) - self._start
        # What ran on after the run's end is none of its time.
        started, ended = min(started, self._end_at), min(ended, self._end_at)
        available = min(available, started)
        fetched = [tuple(self._at(at, attempt.worker) for at in one) for one in attempt.fetched]
        return Execution(
            available, started, max(started, ended), attempt.worker, attempt.outcome,
            _within(fetched, available, started), needs,
        )  # fmt: skip

    def _at(self, time: float, worker: str) -> float:
        return time + self._offsets.get(worker, 0.0) - self._start


def _within(
    intervals: Iterable[Sequence[float]], first: float, last: float
) -> tuple[tuple[float, float], ...]:
    """Return the parts of intervals that lie between two times, none of them twice."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted((begin, end) for begin, end in intervals):
        begin, end = max(begin, first), min(end, last)
        if found and begin <= found[-1][1]:
            begin, end = found[-1][0], max(end, found.pop()[1])
        if begin < end:
            found.append((begin, end))
    return tuple(found)


def _known(record: TaskRunRecord) -> Iterator[Attempt]:
    """Yield the executions of which both ends are known."""
    for value in record.values:
        attempt = attempt_of(value) if isinstance(value, Header) else value
        if attempt.started is not None and attempt.ended is not None:
            yield attempt


def _offsets(history: Iterable[HistoryEntry]) -> dict[str, float]:
    """Return what is to be added to a worker's clock to get the client's.

    The fastest news tells: it cannot have come before it was sent, and it took next to no time.
    """
    fastest: dict[str, float] = {}
    for entry in history:
        header = entry.header
        if header is None or not header.worker or header.started is None:
            continue
        took = entry.at - header.started - (header.seconds or 0.0)
        fastest[header.worker] = min(took, fastest.get(header.worker, took))
    return {worker: took for worker, took in fastest.items() if not 0.0 <= took <= _NEWS_TAKES}


def _dues(history: Iterable[HistoryEntry]) -> defaultdict[TaskRunId, list[float]]:
    """Return when each task run that waited for a time, or for somebody, went on."""
    dues: defaultdict[TaskRunId, list[float]] = defaultdict(list)
    for entry in history:
        if entry.task_run is not None and entry.old in ("Retrying", "Paused", "Scheduled"):
            dues[entry.task_run].append(entry.at)
    return dues


def _tails(history: Iterable[HistoryEntry]) -> dict[TaskRunId, Tail]:
    """Return what was going on with each task run that was ended from outside."""
    return {
        entry.task_run: _TAILS.get(entry.old, "overhead")
        for entry in history
        # What was rejected is a skip that no worker has made.
        if entry.task_run is not None
        and (entry.new == "Cancelled" or (entry.new == "Skipped" and entry.old == "Paused"))
    }


def _shares(record: TaskRunRecord, records: Records) -> Mapping[NodeId, float]:
    """Return of what it reads an element only, and which part of it that is."""
    shares = {}
    for position in elements_of(record):
        id = record.plan.upstream[position]
        header = records[id].header if id in records else None
        length = header.more.get("length") if header is not None else None
        if length:
            shares[node_id(records[id])] = 1.0 / length
    return shares
