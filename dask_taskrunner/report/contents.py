"""What a report tells of a flow run, as plain data that is small where there are many task runs.

Names, addresses and messages stand once in a list, and rows have their positions; times are
seconds from the run's start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
#: So many bytes have all logs together; what is told of failures; and all messages, of which so
#: many characters are told even then.
_LOGS: Final = 1_000_000
_FAILURES: Final = 1_000_000
_MESSAGES: Final = 700_000
_BRIEF: Final = 60


class Numbers(dict[str, int]):
    """Gives each text its position in a list, the same one each time."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


class _Words:
    """The lists of texts to which rows and bars refer."""

    def __init__(self) -> None:
        self.names, self.states, self.texts, self.outcomes = (Numbers() for _ in range(4))
        self._room = Room(_MESSAGES)
        #: What was said of a message: the same again takes no more room.
        self._said: dict[str, int] = {}

    def of_message(self, text: str | None) -> int:
        """Return where a message stands among the texts."""
        text = (text or "")[:_MESSAGE]
        if text not in self._said:
            self._said[text] = self.texts[self._room.take(text, _BRIEF)]
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
    """

    row: int
    since: float
    available: float
    placed: float
    started: float
    ended: float
    worker: str
    outcome: str


def contents(
    records: Mapping[TaskRunId, TaskRunRecord],
    reading: Reading,
    slack: Mapping[str, float],
    logs: LogStore,
    *,
    path: Collection[str] = (),
    until: float | None = None,
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
        Where the run goes on: in epoch seconds, what runs has run until then.
    """
    words, places = _Words(), places_of(reading)
    rows, bars = [], list[Bar]()
    for number, record in enumerate(records.values()):
        node = reading.nodes.get((record.id, False))
        rows.append(_row(record, node, words, places, slack))
        bars += _bars(number, record, node, reading, places, until)
    placed, lanes = in_lanes([Span(bar.worker, bar.started, bar.ended) for bar in bars])
    return {
        "rows": rows,
        "lanes": [f"{lane.worker} #{lane.place + 1}" for lane in lanes],
        "bars": [
            [bar.row, at.lane, *map(_short, (min(bar.available, at.started), at.started, at.ended)),
             words.outcomes[bar.outcome]]
            for bar, at in zip(bars, placed, strict=True)
        ],
        "waits": [[_short(bar.since), _short(bar.placed)] for bar in bars],
        "path": [n for n, one in enumerate(records.values()) if one.plan.slug in path],
        "details": _details(records, logs, words), "seconds": _short(reading.seconds),
        "names": list(words.names), "states": list(words.states), "texts": list(words.texts),
        "outcomes": list(words.outcomes),
    }  # fmt: skip


def _row(
    record: TaskRunRecord,
    node: Node | None,
    words: _Words,
    places: Places,
    slack: Mapping[str, float],
) -> list[Any]:
    took = spent(node, places) if node is not None and node.ended is not None else None
    header = record.header or record.retry_header
    attempts = record.attempts()
    return [
        printable(record.plan.slug),
        words.names[printable(record.plan.name)],
        words.states[record.shown],
        words.of_message(None if header is None else header.message),
        len(attempts),
        _short(None if node is None else node.ready),
        _short(None if node is None else node.ended),
        words.texts[attempts[-1].worker if attempts else ""],
        [_short(part) for part in took] if took is not None else None,
        header.nbytes if header is not None else 0,
        _short(slack.get(record.plan.slug)),
    ]


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _bars(
    row: int,
    record: TaskRunRecord,
    node: Node | None,
    reading: Reading,
    places: Places,
    until: float | None,
) -> Iterator[Bar]:
    """Yield what was executed of a task run, and what is being executed."""
    since = 0.0 if node is None else node.ready
    for body in () if node is None else node.executions:
        available = max(body.available, min(since, body.started))
        placed = min(available + places.queued(body), body.started)
        waited = min(since, available), available, placed
        yield Bar(row, *waited, body.started, body.ended, body.worker, body.outcome)
        since = max(since, body.ended)
    for body in reading.again.get(record.id, ()):
        yield _without_wait(row, body)
    for attempt in record.attempts():
        if attempt.outcome == "running" and attempt.started is not None and until is not None:
            started, ended = attempt.started - reading.start, until - reading.start
            # The worker's clock may be ahead of ours.
            body = Execution(0.0, min(started, ended), ended, attempt.worker, attempt.outcome)
            yield _without_wait(row, body)


def _without_wait(row: int, body: Execution) -> Bar:
    """Return what nobody knows when it could have begun."""
    at = body.started
    return Bar(row, at, at, at, at, body.ended, body.worker, body.outcome)


def _details(
    records: Mapping[TaskRunId, TaskRunRecord], logs: LogStore, words: _Words
) -> dict[int, dict[str, Any]]:
    """Return what is told of a row that somebody opens, where there is anything."""
    found: dict[int, dict[str, Any]] = {}
    told, failures, lines = 0, Room(_FAILURES), Room(_LOGS)
    for number, record in enumerate(records.values()):
        header, own = record.header, dict[str, Any]()
        if header is not None and header.state in OWN_FAILURES and told < _TRACEBACKS:
            told += 1
            own["traceback"] = failures.take_end(header.more.get("traceback", "")[-_TRACEBACK:])
            inputs = header.more.get("inputs", {}).items()
            own["inputs"] = {printable(name): failures.take(line) for name, line in inputs}
        attempts = record.attempts()
        if len(attempts) > 1 or any(one.outcome == "running" for one in attempts):
            own["attempts"] = [_attempt(one, words) for one in attempts]
        kept = logs.get(record.id)
        if kept is not None and lines.is_left:
            own["logs"] = lines.take_end("\n".join(_lines(logs.read(kept)[0]))).split("\n")
        if own := {key: value for key, value in own.items() if value}:
            found[number] = own
    return found


def _attempt(attempt: Attempt, words: _Words) -> list[Any]:
    began, ended = attempt.started, attempt.ended
    took = None if began is None or ended is None else _short(ended - began)
    outcome, worker = words.outcomes[attempt.outcome], words.texts[attempt.worker]
    return [outcome, worker, words.of_message(attempt.error), took]


def _lines(lines: Iterable[Sequence[Any]]) -> Iterator[str]:
    return (f"{clock(line[0])} {level_name(line[1])} {line[2]}" for line in lines)
