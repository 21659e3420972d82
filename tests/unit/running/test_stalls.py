"""Runs in which nothing happens: what is said, and when they end."""

from __future__ import annotations

import time

import pytest
from fakes.gates import PATIENCE, Gate, eventually
from fakes.machine_story import Story, notes

from dask_taskrunner import Flow, context, states, task, watchdog
from dask_taskrunner.machine.events import Stalled
from dask_taskrunner.placement import WorkerView

BUSY = WorkerView("tcp://10.0.0.1:33", "w0", 1, {}, 1)


@pytest.fixture
def stuck(start, backend, monkeypatch):
    """A run of which nothing begins, because others use the cluster."""
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.05)
    gate = Gate("stalls")
    for _ in backend.workers:
        backend.pool.submit(gate.pass_through)
    gate.wait()
    yield start
    gate.open()


@task
def load():
    return 1


@task
def save(x):
    return x


@pytest.fixture
def flow():
    with Flow("stalls") as flow:
        save(load())
    return flow


def test_why_nothing_happens_is_a_note_and_is_said_once(stuck, flow, backend):
    backend.views = [BUSY]
    run = stuck(flow)
    assert eventually(lambda: run.notes)
    backend.views = []
    assert eventually(lambda: len(run.notes) == 2)
    texts = [note.text for note in run.notes]
    assert texts == [
        "2 task runs wait for a place: all 1 threads of 1 workers are busy",
        "no worker is connected; 2 task runs wait",
    ]
    assert not run.state.is_finished()


def test_with_a_stall_timeout_the_run_ends_as_crashed(stuck, flow, backend):
    backend.views, backend.stall_timeout = [], 0.2
    run = stuck(flow)
    assert run.wait(PATIENCE) is run
    assert type(run.state) is states.Crashed
    assert "nothing has happened for 0 s: no worker is connected" in run.state.message
    assert type(run["load"].state) is states.Crashed
    assert run["save"].state.is_finished()


def test_a_retry_that_waits_for_its_time_is_no_stall(start, backend, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.02)
    backend.views, backend.stall_timeout = [], 0.05

    @task(max_retries=1, retry_delay=0.3)
    def fail_once():
        if context.task_run_number == 1:
            raise ValueError
        return 1

    with Flow("retries") as flow:
        fail_once()
    run = start(flow).wait(PATIENCE)
    assert run.state.is_successful()
    assert not run.notes


def test_what_a_body_does_for_long_is_no_stall(start, backend, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.02)
    backend.views, backend.stall_timeout = [], 0.3
    gate = Gate("long")
    with Flow("long") as flow:
        task(gate.pass_through, name="long")()
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run["long"].state.is_running())
    assert not eventually_within(lambda: run.state.is_finished(), 0.5)
    gate.open()
    assert run.wait(PATIENCE).state.is_successful()


def eventually_within(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


# -- the machine's rules --------------------------------------------------------------------------


def test_what_was_sent_has_crashed_and_the_rest_is_cancelled():
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    commands = story.tell(Stalled(5.0, "no worker is connected", None))
    assert notes(commands) == ["no worker is connected"]
    assert story.final is None
    story.tell(Stalled(70.0, "no worker is connected", 60.0))
    assert set(story.states()) <= {"Crashed", "Cancelled"}
    assert story.final == (
        "Crashed",
        "nothing has happened for 60 s: no worker is connected",
    )
    assert story.held() == set()


def test_single_calls_end_by_themselves_and_the_next_ones_are_taken():
    story = Story({0: ()}, is_open=True)
    story.starts()
    story.tell(Stalled(70.0, "no worker is connected", 60.0))
    story.adds({1: ()})
    story.wakes()
    story.ends(1)
    ends = [entry.new for entry in story.machine.history if entry.task_run is not None]
    assert ends == ["Crashed", "Success"]
    assert story.final is None
