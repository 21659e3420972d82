"""What is made of the messages of an isolated body's process; here nothing is started."""

from __future__ import annotations

import itertools
import pickle

import pytest

from dask_taskrunner import signals
from dask_taskrunner.time_limits import Overdue
from dask_taskrunner.worker import isolating
from dask_taskrunner.worker.isolating import BEGAN, LINE, RESULT, IsolatedBody, Limits, packed

A_LINE = LINE, pickle.dumps((0.0, 20, "text"))


class Talker:
    """Stands for a process: says one thing after the other, and the clock goes on meanwhile."""

    def __init__(self, messages, monkeypatch) -> None:
        self._messages = iter(messages)
        self.now = 0.0
        monkeypatch.setattr(isolating.time, "monotonic", lambda: self.now)

    def next_message(self):
        self.now += 0.01
        return next(self._messages)


def body(seconds=None, is_cancelled=lambda: False):
    return IsolatedBody(b"", Limits(seconds), None, is_cancelled)


def test_a_body_that_never_stops_talking_has_its_deadline_all_the_same(monkeypatch):
    process = Talker([(BEGAN, b""), *itertools.repeat(A_LINE, 1000)], monkeypatch)
    with pytest.raises(Overdue, match=r"longer than its timeout of 0\.5 s; its process was killed"):
        body(0.5)._follow(process)
    assert process.now == pytest.approx(0.5, abs=0.05)


def test_a_body_that_never_stops_talking_is_cancelled_all_the_same(monkeypatch):
    process = Talker([(BEGAN, b""), *itertools.repeat(A_LINE, 1000)], monkeypatch)
    with pytest.raises(signals.CANCELLED, match="its process was killed"):
        body(is_cancelled=lambda: process.now > 0.5)._follow(process)
    assert process.now == pytest.approx(0.5, abs=0.05)


def test_what_is_said_in_time_counts(monkeypatch):
    lines = itertools.repeat(A_LINE, 20)
    process = Talker([None, (BEGAN, b""), *lines, None, (RESULT, packed([1, 2]))], monkeypatch)
    assert body(0.5)._follow(process) == [1, 2]


def test_the_time_that_the_process_takes_to_start_is_not_the_bodys(monkeypatch):
    messages = [*[None] * 100, (BEGAN, b""), (RESULT, packed("done"))]
    assert body(0.5)._follow(Talker(messages, monkeypatch)) == "done"
