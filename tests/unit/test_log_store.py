"""What is kept of lines that come, and how it is read."""

from __future__ import annotations

import pickle
import time

import pytest

from dask_taskrunner import logs as logs_module
from dask_taskrunner.headers import Header
from dask_taskrunner.logs import (
    FIRST_BYTES,
    LAST_BYTES,
    Delivery,
    Logs,
    LogStore,
    Source,
    bounded,
    logs_of,
    logs_of_several,
)
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.records import Attempt, Running, TaskRunRecord

ID = (3, -1)
SOURCE = Source("tcp://w", 1, 77, 1)


def lines(*texts, source=SOURCE, dropped=0, gap=0, level=20, at=1000.0):
    return Delivery(source, [[at + n, level, text] for n, text in enumerate(texts)], dropped, gap)


@pytest.fixture
def store():
    return LogStore()


@pytest.fixture
def record():
    return TaskRunRecord(PlannedRun(ID, "fit", "fit", ()))


def read(store, record, id=ID):
    return logs_of(record, store, store.get(id))


def texts(logs):
    return [line.text for line in logs]


def header(execution, submission=1, worker="tcp://w"):
    return Header(
        3, -1, submission, execution, "Retrying", None, worker, 1, 1.0, 1.0, 2.0, "", 0, None, {}
    )


def test_lines_come_back_in_their_order(store, record):
    store.add(ID, lines("a", "b"))
    store.add(ID, lines("c", level=40, at=1010.5))
    logs = read(store, record)
    assert texts(logs) == ["a", "b", "c"]
    assert str(logs) == "a\nb\nc"
    last = logs[-1]
    assert last.time.timestamp() == 1010.5
    assert last.time.timezone_name == "UTC"
    assert (last.level, last.attempt, last.worker) == (40, 1, "tcp://w")
    assert [line.text for line in logs[:2]] == ["a", "b"]
    assert logs.dropped == 0


def test_who_logged_nothing_has_none(store, record):
    logs = read(store, record)
    assert (len(logs), str(logs), logs.dropped) == (0, "", 0)
    assert repr(logs) == "<Logs: 0 lines>"


def test_of_a_flood_the_first_16_kb_and_the_last_48_kb_are_kept(store, record):
    for begin in range(0, 100_000, 100):
        store.add(ID, lines(*(f"{begin + n:050}" for n in range(100))))
    logs = read(store, record)
    numbers = [int(text) for text in texts(logs)]
    size = sum(len(text) + 1 for text in texts(logs))
    assert FIRST_BYTES + LAST_BYTES - 200 < size <= FIRST_BYTES + LAST_BYTES
    first = FIRST_BYTES // 51
    assert numbers[:first] == list(range(first))
    assert numbers[first:] == list(range(100_000 - len(numbers) + first, 100_000))
    assert len(logs) + logs.dropped == 100_000
    said = f"[... {logs.dropped:,} lines dropped ...]"
    assert str(logs).splitlines()[first] == said


def test_empty_lines_count_as_well(store, record):
    store.add(ID, lines(*[""] * 100_000))
    assert len(read(store, record)) <= (FIRST_BYTES + LAST_BYTES) // 32


def test_what_was_dropped_on_the_worker_leaves_one_gap(store, record):
    store.add(ID, lines("a", "b", "c", "d", dropped=10, gap=2))
    assert str(read(store, record)) == "a\nb\n[... 10 lines dropped ...]\nc\nd"
    # The lines before the new gap would look as if they followed those before the old one.
    store.add(ID, lines("e", dropped=5))
    logs = read(store, record)
    assert str(logs) == "a\nb\n[... 17 lines dropped ...]\ne"
    assert logs.dropped == 17


def test_a_gap_may_be_the_end(store, record):
    store.add(ID, lines("a", dropped=3, gap=1))
    assert str(read(store, record)) == "a\n[... 3 lines dropped ...]"
    store.add(ID, lines(dropped=4))
    assert read(store, record).dropped == 7


def test_a_very_long_line_loses_its_middle():
    text, nbytes = bounded("a" * 9_000_000 + "b" * 9_000_000)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert "[... cut ...]" in text
    assert nbytes < FIRST_BYTES


def test_what_is_no_text_on_the_wire_is_written_in_ascii():
    class Text(str):
        __slots__ = ()

    assert bounded("\udcff")[0] == "\\udcff"
    assert bounded("ä")[1] == 32
    assert type(bounded(Text("x"))[0]) is str


def test_lines_belong_to_the_attempt_that_made_them(store, record):
    record.values = (
        header(11),
        Attempt(0, 1, 2, "tcp://dead", None, None, "worker-lost", None),
        header(13, submission=3),
    )
    record.running = Running("tcp://w", 14, 4, 1, 5.0)
    for worker, submission, execution in (
        ("tcp://w", 1, 11), ("tcp://dead", 2, 12), ("tcp://w", 3, 13), ("tcp://w", 4, 14),
    ):  # fmt: skip
        store.add(ID, lines("x", source=Source(worker, submission, execution, 9)))
    assert [line.attempt for line in read(store, record)] == [1, 2, 3, 4]


def test_before_the_record_knows_an_attempt_it_is_the_one_it_was_sent_as(store, record):
    store.add(ID, lines("x", source=Source("tcp://w", 2, 99, 2)))
    assert read(store, record)[0].attempt == 2


def test_what_is_forgotten_is_gone_and_does_not_come_back(store, record):
    store.add(ID, lines("a", dropped=1))
    kept = store.get(ID)
    store.forget([ID, (4, -1)])
    store.add(ID, lines("late"), lambda: False)
    assert store.get(ID) is None
    assert store.take_untold() == {}
    assert store._nbytes == 0
    # Who holds the future still has what there was.
    assert texts(logs_of(record, store, kept)) == ["a"]


def test_of_very_many_task_runs_the_first_lines_must_do(store, record, monkeypatch):
    monkeypatch.setattr(logs_module, "_MOST_BYTES", 200_000)
    for n in range(100):
        store.add((n, -1), lines(*(f"{i:099}" for i in range(640))))
    kept = [store.get((n, -1)) for n in range(100)]
    assert store._nbytes == sum(one.nbytes for one in kept)
    assert all(one.first for one in kept)
    assert sum(len(one.first) + len(one.last) + one.dropped for one in kept) == 64_000
    assert sum(len(one.last) for one in kept) < 1500


def test_what_views_ask_for_is_the_newest(store):
    assert store.since(0) == ([], 0)
    store.add(ID, lines("a", "b"))
    news, count = store.since(0)
    assert ([line[2] for _, line in news], count) == (["a", "b"], 2)
    store.add((4, 1), lines(*map(str, range(300))))
    news, count = store.since(count)
    assert len(news) == 200
    assert count == 302
    assert news[-1][0] == (4, 1)
    assert news[-1][1][2] == "299"
    assert store.since(count) == ([], 302)


def test_it_is_told_once_that_lines_were_dropped(store):
    store.add(ID, lines("a", dropped=3))
    store.add((4, -1), lines("a"))
    assert store.take_untold() == {ID: 3}
    assert store.take_untold() == {}


def test_the_repr_shows_the_last_lines(store, record):
    store.add(ID, lines("a", level=30))
    clock = time.strftime("%H:%M:%S", time.localtime(1000))
    assert repr(read(store, record)) == f"<Logs: 1 line\n  {clock} WARNING a>"
    store.add(ID, lines(*"bcdefghijklmn", dropped=2))
    shown = repr(read(store, record)).splitlines()
    assert shown[0] == "<Logs: 14 lines, 2 dropped, the last 10"
    assert len(shown) == 11


def test_logs_of_several_are_one_by_their_time(store, record):
    store.add(ID, lines("a", "c", at=1.0))
    store.add((4, 0), lines("b", at=1.5, dropped=2))
    both = logs_of_several([read(store, record), read(store, record, (4, 0))])
    assert texts(both) == ["a", "b", "c"]
    assert both.dropped == 2


def test_logs_can_be_pickled(store, record):
    store.add(ID, lines("a"))
    logs = pickle.loads(pickle.dumps(read(store, record)))
    assert isinstance(logs, Logs)
    assert texts(logs) == ["a"]
