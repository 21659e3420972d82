"""When inputs came from other workers is read from Dask's log of transfers."""

from __future__ import annotations

import threading
import types

import pytest

from dask_taskrunner.worker import transfers
from dask_taskrunner.worker.transfers import fetched


class TaskState(types.SimpleNamespace):
    """Dask's, of which there are sets."""

    __hash__ = object.__hash__


class Worker:
    """As much of a Dask worker as is asked."""

    def __init__(self):
        self.transfer_incoming_log = []
        self.scheduler_delay = 0.5
        self.state = types.SimpleNamespace(tasks={})

    def gets(self, start, stop, *keys):
        delay = self.scheduler_delay
        entry = {"start": start + delay, "stop": stop + delay, "keys": dict.fromkeys(keys, 1)}
        self.transfer_incoming_log.append(entry)

    def has(self, key, *inputs):
        self.state.tasks[key] = TaskState(dependencies={TaskState(key=one) for one in inputs})


@pytest.fixture
def worker(monkeypatch):
    # This thread may have run something in a test before.
    monkeypatch.setattr(transfers, "_idle", threading.local())
    return Worker()


def test_each_transfer_of_an_input_is_told_once_by_the_workers_clock(worker):
    worker.has("task", "a", "b", "c", "here")
    worker.gets(10.0, 11.0, "a", "b", "of another")
    worker.gets(10.5, 12.0, "c")
    assert fetched(worker, "task") == [(10.0, 11.0), (10.5, 12.0)]


def test_what_several_wait_for_is_told_of_each(worker):
    for key in ("task", "other"):
        worker.has(key, "a")
    worker.gets(10.0, 11.0, "a")
    assert fetched(worker, "task") == fetched(worker, "other") == [(10.0, 11.0)]


def test_what_was_fetched_again_came_when_it_came_last(worker):
    worker.has("task", "a")
    worker.gets(10.0, 11.0, "a")
    assert fetched(worker, "task") == [(10.0, 11.0)]
    worker.gets(20.0, 21.0, "a")
    worker.gets(22.0, 23.0, "b")
    assert fetched(worker, "task") == [(20.0, 21.0)]


def test_what_came_from_nowhere_is_not_told(worker):
    worker.has("task", "a")
    assert fetched(worker, "task") == []
    worker.gets(10.0, 11.0, "of another")
    assert fetched(worker, "task") == []
    assert fetched(worker, "gone") == []


def test_what_had_come_before_the_thread_was_free_kept_nobody_waiting(worker, monkeypatch):
    monkeypatch.setattr(transfers, "time", types.SimpleNamespace(time=lambda: 10.7))
    worker.has("task", "a", "b")
    worker.gets(10.0, 10.5, "a")
    worker.gets(10.5, 11.0, "b")
    assert fetched(worker, "task") == [(10.0, 10.5), (10.5, 11.0)]
    transfers.note_end()
    assert fetched(worker, "task") == [(10.5, 11.0)]


def test_a_log_is_read_once(worker):
    class Log(list):
        seen = 0

        def __getitem__(self, place):
            self.seen += 1
            return super().__getitem__(place)

    worker.transfer_incoming_log = Log()
    worker.has("task", "a")
    for n in range(100):
        worker.gets(n, n + 0.5, f"key-{n}")
        fetched(worker, "task")
    # The new one, and the one that was the newest before.
    assert worker.transfer_incoming_log.seen < 200


def test_of_many_the_last_are_remembered_and_told(worker, monkeypatch):
    monkeypatch.setattr(transfers, "_REMEMBERED", 20)
    keys = [f"key-{n}" for n in range(30)]
    worker.has("task", *keys)
    for n, key in enumerate(keys):
        worker.gets(n, n + 0.5, key)
    assert fetched(worker, "task") == [(n, n + 0.5) for n in range(22, 30)]
    worker.has("late", *keys[:10])
    assert fetched(worker, "late") == []
