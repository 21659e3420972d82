"""State handlers on the client: they see, they cannot replace, and what they raise ends nothing."""

from __future__ import annotations

import logging

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, signals, states, task
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.states import Failed, Success


@task
def one():
    return 1


def make(*tasks):
    """Return a flow of calls without arguments."""
    with Flow("etl") as flow:
        for each in tasks:
            each()
    return flow


def test_a_flows_handlers_see_its_start_and_its_end(finish):
    seen = []

    def watch(flow, old, new):
        seen.append((flow.name, type(old).__name__, type(new).__name__))
        # What it returns is not asked for here.
        return Failed(message="no")

    with Flow("etl", state_handlers=[watch]) as flow:
        one()
    run = finish(flow)
    assert seen == [("etl", "Pending", "Running"), ("etl", "Running", "Success")]
    assert isinstance(run.state, Success)


def test_a_tasks_handlers_see_what_only_the_client_knows(start, backend):
    gate, seen = Gate("handlers"), []

    def watch(task, old, new):
        seen.append((task.name, repr(old), repr(new)))

    @task(state_handlers=[watch], max_crash_retries=0)
    def waits():
        gate.pass_through()

    run = start(make(waits))
    gate.wait()
    assert eventually(lambda: run.still_running)
    (channel,) = backend.channels.values()
    channel.lose((0, -1), Loss("error", "MemoryError: full"))
    run.wait(PATIENCE)
    gate.open()
    assert ("waits", "Running()", 'Crashed("MemoryError: full")') in seen


@pytest.mark.parametrize("error", [ValueError("no"), signals.SKIP("no"), SystemExit("no")])
def test_a_handler_that_raises_is_a_note_and_ends_nothing(finish, error):
    def watch(flow, old, new):
        raise error

    with Flow("etl", state_handlers=[watch]) as flow:
        one()
    run = finish(flow)
    assert isinstance(run.state, Success)
    text = f"state handler watch of nightly: {type(error).__name__}: no"
    assert [note.text for note in run.notes] == [text, text]
    assert run.notes[0].level == logging.WARNING


def test_a_handler_may_look_at_the_run_and_cancel_it(start):
    runs, gate = [], Gate("handler cancels")

    def stop(flow, old, new):
        if new.is_running():
            gate.pass_through()
            runs[0].cancel()

    @task(max_retries=1, retry_delay=3600)
    def much_later():
        raise ValueError("not yet")

    with Flow("etl", state_handlers=[stop]) as flow:
        much_later()
    runs.append(start(flow))
    gate.open()
    assert isinstance(runs[0].wait(PATIENCE).state, states.Cancelled)
