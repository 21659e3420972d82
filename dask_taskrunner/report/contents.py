"""What a report tells of a flow run, as plain data that is small where there are many task runs.

Names, addresses and messages stand once in a list, and rows have their positions; times are
seconds from the run's start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.insight.readings import Execution, Node, Reading
from dask_taskrunner.insight.waits import Places, places_of, spent
from dask_taskrunner.logs import LogStore, clock, level_name
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.report.lanes import Span, in_lanes
from dask_taskrunner.report.texts import Room, printable
from dask_taskrunner.states import OWN_FAILURES

#: Of so many failures there are tracebacks; more than so many characters of one are cut.
_TRACEBACKS: Final = 200
_TRACEBACK: Final = 8_000
#: More characters of a message are not told.
_MESSAGE: Final = 400
#: So many bytes have at most: all logs together; what is told of failures; all messages, and the
#: first so many characters of those for which there is no room.
_LOGS: Final = 1_000_000
_FAILURES: Final = 1_000_000
_MESSAGES: Final = 700_000
_BRIEFS: Final = 400_000
_BRIEF: Final = 60
#: What a report is to have, and about how much of it a task run and an attempt take without texts:
#: they share what is left.
_ALL: Final = 4_700_000
_ROW: Final = 100
_ATTEMPT: Final = 110
#: So many times at which one attempt's inputs came are drawn.
_FETCHED: Final = 20


class Rooms(NamedTuple):
    """The room that there is for texts."""

    logs: Room
    failures: Room
    messages: Room
    briefs: Room


def rooms_for(rows: int, attempts: int, taken: int = 0) -> Rooms:
    """Return the room for the texts of a report of so many task runs and attempts.

    ``taken`` is how much of it has been used up for other things.
    """
    left = max(_ALL - taken - rows * _ROW - attempts * _ATTEMPT, _ALL // 10)
    most = _LOGS, _FAILURES, _MESSAGES, _BRIEFS
    return Rooms(*(Room(min(one, left * one // sum(most))) for one in most))


class Numbers(dict[str, int]):
    """Gives each text its position in a list, the same one each time."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


class _Words:
    """The lists of texts to which rows and bars refer."""

    def __init__(self, rooms: Rooms) -> None:
        self.names, self.states, self.texts, self.outcomes = (Numbers() for _ in range(4))
        self._rooms = rooms
        #: What was said of a message: the same again takes no more room.
        self._said: dict[str, int] = {}

    def lists(self) -> dict[str, list[str]]:
        """Return them by name."""
        return {
            "names": list(self.names),
            "states": list(self.states),
            "texts": list(self.texts),
            "outcomes": list(self.outcomes),
        }

    def of_message(self, text: str | None) -> int:
        """Return where a message stands among the texts."""
        text = (text or "")[:_MESSAGE]
        if text not in self._said:
            whole, brief = self._rooms.messages, self._rooms.briefs
            told = whole.take(text) if whole.is_left else brief.take(text[:_BRIEF])
            self._said[text] = self.texts[told]
        return self._said[text]


class Bar(NamedTuple):
    """One execution of a body on the timeline.

    Attributes
    ----------
    row : int
        Which task run's.
    since : float
        When nothing was left to wait for but a time, a place, and inputs.
    available : float
        When it could have begun: its retry was due.
    placed : float
        When its worker had a place for it.
    started, ended : float
        When its body ran.
    worker, outcome : str
        Where, and what came of it.
    fetched : tuple of (float, float)
        When its inputs came from other workers.
    """

    row: int
    since: float
    available: float
    placed: float
    started: float
    ended: float
    worker: str
    outcome: str
    fetched: tuple[tuple[float, float], ...] = ()


def contents(
    records: Mapping[TaskRunId, TaskRunRecord],
    reading: Reading,
    slack: Mapping[str, float],
    logs: LogStore,
    *,
    path: Collection[str] = (),
    until: float | None = None,
    goes_on: bool = False,
    taken: int = 0,
) -> dict[str, Any]:
    """Return what the page's script draws.

    Parameters
    ----------
    records : mapping
        Of one moment, in the order of the plan.
    reading : Reading
        The same, read.
    slack : mapping
        Slug -> by how many seconds it could have ended later.
    logs : LogStore
        Of the run.
    path : collection of str, optional
        The slugs of what is on the critical path.
    until : float, optional
        What runs has run until then, in epoch seconds: until now, or until the run's end.
    goes_on : bool, optional
        Whether the run does.
    taken : int, optional
        How many bytes the page has without this.
    """
    attempts = sum(len(one.values) for one in records.values())
    rooms = rooms_for(len(records), attempts, taken)
    words, places = _Words(rooms), places_of(reading)
    details = _Details(logs, words, rooms)
    rows, bars = [], list[Bar]()
    for number, record in enumerate(records.values()):
        node, tries = reading.nodes.get((record.id, False)), record.attempts()
        ready = None if node is None else _ready(node, reading)
        took = spent(node, places) if node is not None and node.ended is not None else None
        rows.append([
            *_row(record, tries, words),
            _short(ready), _short(None if node is None else node.ended),
            words.texts[tries[-1].worker if tries else ""],
            None if took is None else [_short(part) for part in took],
            0 if record.header is None else record.header.nbytes,
            _short(slack.get(record.plan.slug)),
        ])  # fmt: skip
        bars += _bars(number, node, reading.again.get(record.id, ()), places)
        bars += _going_on(number, tries, reading.start, until)
        details.add(number, record, tries)
    return {
        "rows": rows,
        **_in_lanes(bars, words),
        "path": [n for n, one in enumerate(records.values()) if one.plan.slug in path],
        "details": details.found,
        "seconds": _short(reading.seconds),
        "goes_on": goes_on,
        **words.lists(),
    }


def _in_lanes(bars: Sequence[Bar], words: _Words) -> dict[str, list[Any]]:
    placed, lanes = in_lanes([Span(bar.worker, bar.started, bar.ended) for bar in bars])
    pairs = list(zip(bars, placed, strict=True))
    times = [(min(bar.available, at.started), at.started, at.ended) for bar, at in pairs]
    return {
        "lanes": [f"{lane.worker} #{lane.place + 1}" for lane in lanes],
        "bars": [
            [bar.row, at.lane, *map(_short, time), words.outcomes[bar.outcome]]
            for (bar, at), time in zip(pairs, times, strict=True)
        ],
        "waits": [
            # What was fetched comes last, and takes no room where nothing was.
            [*map(_short, (bar.since, bar.placed, *chain(*bar.fetched[:_FETCHED])))]
            for bar in bars
        ],
    }


def _row(record: TaskRunRecord, attempts: Sequence[Attempt], words: _Words) -> list[Any]:
    header = record.header or record.retry_header
    return [
        printable(record.plan.slug),
        words.names[printable(record.plan.name)],
        words.states[record.shown],
        words.of_message(None if header is None else header.message),
        len(attempts),
    ]


def _ready(node: Node, reading: Reading) -> float | None:
    """Return when all had ended that something waits for, where it has."""
    is_known = all(reading.nodes[source].ended is not None for source in node.waits_for)
    return node.ready if is_known else None


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _bars(row: int, node: Node | None, again: Iterable[Execution], places: Places) -> Iterator[Bar]:
    """Yield what was executed of a task run, also after its end."""
    since = 0.0 if node is None else node.ready
    for body in () if node is None else node.executions:
        available = max(body.available, min(since, body.started))
        placed = min(available + places.queued(body), body.started)
        waited = min(since, available), available, placed
        yield Bar(
            row, *waited, body.started, body.ended, body.worker, body.outcome, body.fetched
        )  # fmt: skip
        since = max(since, body.ended)
    for body in again:
        yield _without_wait(row, body)


def _going_on(
    row: int, attempts: Iterable[Attempt], start: float, until: float | None
) -> Iterator[Bar]:
    """Yield what is being executed of a task run."""
    for attempt in attempts:
        if attempt.outcome == "running" and attempt.started is not None and until is not None:
            ended = until - start
            # The worker's clock may be ahead of ours.
            started = min(attempt.started - start, ended)
            yield _without_wait(
                row, Execution(started, started, ended, attempt.worker, attempt.outcome)
            )


def _without_wait(row: int, body: Execution) -> Bar:
    """Return what nobody knows when it could have begun."""
    at = body.started
    return Bar(row, at, at, at, at, body.ended, body.worker, body.outcome)


class _Details:
    """What is told of a row that somebody opens, where there is anything."""

    def __init__(self, logs: LogStore, words: _Words, rooms: Rooms) -> None:
        self._logs = logs
        self._words = words
        self._tracebacks = _TRACEBACKS
        self._failures, self._lines = rooms.failures, rooms.logs
        #: By row.
        self.found: dict[int, dict[str, Any]] = {}

    def add(self, row: int, record: TaskRunRecord, attempts: Sequence[Attempt]) -> None:
        """Take in what there is to tell of a task run."""
        header, own = record.header, dict[str, Any]()
        if header is not None and header.state in OWN_FAILURES and self._tracebacks:
            self._tracebacks -= 1
            traceback = header.more.get("traceback", "")[-_TRACEBACK:]
            own["traceback"] = self._failures.take_end(traceback)
            inputs = header.more.get("inputs", {}).items()
            own["inputs"] = {printable(name): self._failures.take(line) for name, line in inputs}
        if len(attempts) > 1 or any(one.outcome == "running" for one in attempts):
            own["attempts"] = [_attempt(one, self._words) for one in attempts]
        kept = self._logs.get(record.id)
        if kept is not None and self._lines.is_left:
            lines = "\n".join(_lines(self._logs.read(kept)[0]))
            own["logs"] = self._lines.take_end(lines).split("\n")
        if own := {key: value for key, value in own.items() if value}:
            self.found[row] = own


def _attempt(attempt: Attempt, words: _Words) -> list[Any]:
    began, ended = attempt.started, attempt.ended
    took = None if began is None or ended is None else _short(ended - began)
    outcome, worker = words.outcomes[attempt.outcome], words.texts[attempt.worker]
    return [outcome, worker, words.of_message(attempt.error), took]


def _lines(lines: Iterable[Sequence[Any]]) -> Iterator[str]:
    return (f"{clock(line[0])} {level_name(line[1])} {line[2]}" for line in lines)
