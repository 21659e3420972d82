"""A run is asked why, while it goes on."""

from __future__ import annotations

import pytest
from fakes.gates import Gate, eventually

from dask_taskrunner import Flow, UnknownTask, task, watchdog
from dask_taskrunner.machine.commands import Note
from dask_taskrunner.placement import WorkerView


@task
def load():
    return 1


@task
def save(x):
    return x


def test_what_a_body_runs_for_is_told_meanwhile(start):
    gate = Gate("explained meanwhile")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        save(waits())
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run.still_running)
    why = run.explain("save")
    assert why.state == "Pending"
    assert [(one.kind, one.task_run) for one in why.reasons] == [
        ("running", "waits"),
        ("waits", "save"),
    ]
    assert run["waits"].attempts[0].worker in why.root_cause.text
    assert why.time == ()
    gate.open()


@pytest.fixture
def stuck(start, backend, monkeypatch):
    """A run of which nothing begins, because others use the cluster."""
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.05)
    gate = Gate("explained stalls")
    for _ in backend.workers:
        backend.pool.submit(gate.pass_through)
    gate.wait()

    def start_it():
        with Flow("etl") as flow:
            save(load())
        return start(flow)

    yield start_it, gate
    gate.open()


def test_why_nothing_begins_is_asked_of_the_workers(stuck, backend):
    start, gate = stuck
    backend.views = [WorkerView("tcp://10.0.0.1:33", "w0", 1, {}, 1)]
    run = start()
    assert eventually(lambda: run["load"].record.phase == "submitted")
    text = "all 1 threads of the 1 worker that load may run on are busy"
    assert run.explain("save").root_cause == ("busy", "load", text)
    backend.views = []
    assert run.explain("save").root_cause == ("no-worker", "load", "no worker is connected")
    gate.open()
    assert run.wait(10).explain("save").root_cause.kind == "succeeded"


def test_where_the_workers_cannot_be_asked_the_watchdog_has_the_word(stuck, backend):
    start, gate = stuck
    backend.views = [WorkerView("tcp://10.0.0.1:33", "w0", 1, {}, 1)]
    run = start()
    assert eventually(lambda: run.notes)
    # Nothing that is noted besides is why nothing happens.
    run.listener.add_note(Note("a log line was dropped", None, 20), 0.0)
    backend.views = None
    text = "2 task runs wait for a place: all 1 threads of 1 workers are busy"
    assert run.explain("save").root_cause == ("stalled", "", text)
    gate.open()
    # What was so then is so no more.
    assert run.wait(10).explain("save").root_cause.kind == "succeeded"


def test_why_there_is_no_such_child_is_said(finish):
    @task
    def fails():
        raise ValueError

    with Flow("etl") as flow:
        save.map(fails())
        load()
    run = finish(flow)
    with pytest.raises(UnknownTask, match=r"'load\[0\]': 'load' is not mapped"):
        run.explain("load[0]")
    with pytest.raises(UnknownTask, match=r"'save' is TriggerFailed, and has no children"):
        run.explain("save[0]")


@pytest.mark.parametrize("task", ["load", load])
def test_a_task_is_named_like_everywhere_else(finish, task):
    with Flow("etl") as flow:
        save(load())
    assert finish(flow).explain(task).slug == "load"
