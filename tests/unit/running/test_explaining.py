"""A run is asked why, while it goes on."""

from __future__ import annotations

import pytest
from fakes.gates import Gate, eventually

from dask_taskrunner import Flow, task, watchdog
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


def test_what_the_watchdog_has_found_out_comes_first(start, backend, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.05)
    gate = Gate("explained stalls")
    for _ in backend.workers:
        backend.pool.submit(gate.pass_through)
    gate.wait()
    backend.views = [WorkerView("tcp://10.0.0.1:33", "w0", 1, {}, 1)]
    with Flow("etl") as flow:
        save(load())
    run = start(flow)
    assert eventually(lambda: run.notes)
    text = "2 task runs wait for a place: all 1 threads of 1 workers are busy"
    assert run.explain("save").root_cause == ("stalled", "", text)
    gate.open()
    # What was so then is so no more.
    assert run.wait(10).explain("save").root_cause.kind == "succeeded"


@pytest.mark.parametrize("task", ["load", load])
def test_a_task_is_named_like_everywhere_else(finish, task):
    with Flow("etl") as flow:
        save(load())
    assert finish(flow).explain(task).slug == "load"
