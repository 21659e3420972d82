"""Whoever looks at a run while task runs join it sees what there is, and breaks nothing."""

from __future__ import annotations

import threading

import pytest
from fakes.gates import PATIENCE, Gate
from fakes.graphs import inc, train

from dask_taskrunner import Flow, task
from dask_taskrunner.exceptions import NotFinished
from dask_taskrunner.insight import snapshots
from dask_taskrunner.machine.growth import Growth


class Held:
    """The machine's thread, in the middle of having a task run join."""

    def __init__(self, monkeypatch, slug):
        self.came, self.may_go = threading.Event(), threading.Event()
        add = Growth._add

        def adds(growth, run, family=None):
            if run.slug == slug:
                self.came.set()
                assert self.may_go.wait(PATIENCE)
            return add(growth, run, family)

        monkeypatch.setattr(Growth, "_add", adds)

    def wait(self):
        assert self.came.wait(PATIENCE)


@task
def numbers(n):
    return list(range(n))


def a_map():
    gate = Gate("a map is looked at")

    @task
    def waits(x):
        gate.pass_through()

    with Flow("etl") as flow:
        waits.map(numbers(3))
    return flow, gate, "waits", "waits[1]"


def a_graph():
    gate = Gate("a graph is looked at")

    @task
    def waits(x):
        gate.pass_through()

    with Flow("outer") as flow:
        waits(inc(train(3)))
    return flow, gate, "train", "train/inc"


@pytest.fixture(params=[a_map, a_graph])
def held(request, monkeypatch, start):
    """A run whose machine stands still while something joins, what it joins, and what holds it."""
    flow, gate, whole, joins = request.param()
    machine = Held(monkeypatch, joins)
    run = start(flow)
    machine.wait()
    yield run, whole, machine
    machine.may_go.set()
    gate.open()


def test_what_is_there_is_shown(held):
    run, whole, _ = held
    assert whole in run.states
    assert whole in [row["slug"] for row in run.table()]
    assert run.counts
    assert f"<FlowRun {run.flow.name}" in repr(run)
    assert 0 < len(run[whole].children) < 3
    assert not run.failures


@pytest.mark.parametrize("ask", ["report", "explain", "visualize", "critical_path", "what_if"])
def test_whoever_asks_is_answered_when_the_event_is_over(held, ask, monkeypatch, tmp_path):
    run, whole, machine = held
    rest, rested = snapshots._rest, []

    def rests():
        rested.append(ask)
        machine.may_go.set()
        rest()

    monkeypatch.setattr(snapshots, "_rest", rests)
    if ask == "report":
        page = run.report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert f'"{whole}"' in page
    elif ask == "explain":
        reasons = run.explain(whole).reasons
        # All have joined by then; how far they are is no matter.
        assert reasons[-1].kind == "parts"
    elif ask == "visualize":
        assert whole in str(run.visualize())
    else:
        with pytest.raises(NotFinished):
            getattr(run, ask)()
    assert rested
