"""What a report tells of a flow run, as plain data that is small where there are many task runs.

Names, addresses and messages stand once in a list, and rows have their positions; times are
seconds from the run's start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.insight.readings import Execution, Reading
from dask_taskrunner.insight.waits import places_of, spent
from dask_taskrunner.logs import LogStore, clock, level_name
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.states import OWN_FAILURES

#: Of so many failures there are tracebacks; more than so many characters of one are cut.
_TRACEBACKS: Final = 200
_TRACEBACK: Final = 8_000
#: More characters of a message, and of all logs together, are not told.
_MESSAGE: Final = 400
_LOGS: Final = 1_000_000


class Numbers(dict[str, int]):
    """Gives each text its position in a list, the same one each time."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


class Lane(NamedTuple):
    """A place on a worker, where one body runs at a time."""

    worker: str
    place: int


def contents(
    records: Mapping[TaskRunId, TaskRunRecord],
    reading: Reading,
    slack: Mapping[str, float],
    logs: LogStore,
) -> dict[str, Any]:
    """Return what the page's script draws.

    Parameters
    ----------
    records : mapping
        The machine's, in the order of the plan.
    reading : Reading
        The same, read.
    slack : mapping
        Slug -> by how many seconds it could have ended later.
    logs : LogStore
        Of the run.
    """
    names, states, texts, outcomes = Numbers(), Numbers(), Numbers(), Numbers()
    places = places_of(reading)
    rows, bars = [], []
    lanes = _Lanes(body for node in reading.nodes.values() for body in node.executions)
    for number, record in enumerate(records.values()):
        node = reading.nodes.get((record.id, False))
        bodies = () if node is None else node.executions
        took = spent(node, places) if node is not None and node.ended is not None else None
        header = record.header or record.retry_header
        attempts = record.attempts()
        rows.append([
            record.plan.slug,
            names[record.plan.name],
            states[record.shown],
            texts[(header.message or "")[:_MESSAGE] if header is not None else ""],
            len(attempts),
            _short(None if node is None else node.ready),
            _short(None if node is None else node.ended),
            texts[attempts[-1].worker if attempts else ""],
            [_short(part) for part in took] if took is not None else None,
            header.nbytes if header is not None else 0,
            _short(slack.get(record.plan.slug)),
        ])  # fmt: skip
        for body in bodies:
            times = map(_short, (body.available, body.started, body.ended))
            bars.append([number, lanes.of(body), *times, outcomes[body.outcome]])
    return {
        "names": list(names), "states": list(states), "texts": list(texts),
        "outcomes": list(outcomes), "lanes": lanes.labels, "rows": rows, "bars": bars,
        "details": _details(records, logs), "seconds": _short(reading.seconds),
    }  # fmt: skip


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


class _Lanes:
    """Puts the bodies of each worker side by side, as its threads ran them."""

    def __init__(self, bodies: Iterable[Execution]) -> None:
        self._lane: dict[Execution, int] = {}
        found: dict[Lane, int] = {}
        free: dict[str, list[float]] = {}
        for body in sorted(set(bodies), key=lambda body: (body.worker, body.started)):
            ends = free.setdefault(body.worker, [])
            # Clocks are read one after the other, also where one body follows on another.
            idle = (place for place, end in enumerate(ends) if end <= body.started + 0.001)
            place = next(idle, len(ends))
            ends[place : place + 1] = [body.ended]
            lane = Lane(body.worker, place)
            self._lane[body] = found.setdefault(lane, len(found))
        #: What stands beside each.
        self.labels = [f"{lane.worker} #{lane.place + 1}" for lane in found]

    def of(self, body: Execution) -> int:
        return self._lane[body]


def _details(
    records: Mapping[TaskRunId, TaskRunRecord], logs: LogStore
) -> dict[int, dict[str, Any]]:
    """Return what is told of a row that somebody opens, where there is anything."""
    found: dict[int, dict[str, Any]] = {}
    told, room = 0, _LOGS
    for number, record in enumerate(records.values()):
        header, own = record.header, {}
        if header is not None and header.state in OWN_FAILURES and told < _TRACEBACKS:
            told += 1
            own["traceback"] = header.more.get("traceback", "")[-_TRACEBACK:]
            own["inputs"] = dict(header.more.get("inputs", {}))
        attempts = record.attempts()
        if len(attempts) > 1:
            own["attempts"] = [
                [one.number, one.outcome, one.worker, (one.error or "")[:_MESSAGE]]
                for one in attempts
            ]
        kept = logs.get(record.id)
        lines = [] if kept is None else _lines(logs.read(kept)[0])
        if lines and room > 0:
            own["logs"] = lines[-max(room // 40, 1) :]
            room -= sum(map(len, own["logs"])) + 1
        if own := {key: value for key, value in own.items() if value}:
            found[number] = own
    return found


def _lines(lines: Iterable[Sequence[Any]]) -> list[str]:
    return [f"{clock(line[0])} {level_name(line[1])} {line[2]}" for line in lines]
