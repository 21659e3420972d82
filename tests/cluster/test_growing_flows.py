"""Tasks that return graphs, on worker processes: what a fake cannot prove."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
from distributed import LocalCluster
from marks import eventually, is_whole
from traffic import Traffic
from watched import assert_nothing_left, kill

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    Parameter,
    exceptions,
    expand,
    get_client,
    states,
    task,
)

pytestmark = pytest.mark.cluster

MEGABYTE = 1_000_000


@task
def chunk(x):
    return np.full(MEGABYTE, x, dtype=np.uint8)


@task
def first_of(data):
    return int(data[0])


@task
def inc(x, by=1):
    return x + by


@task
def total(xs):
    return sum(xs)


@task
def picky(x):
    if x == 2:
        raise ValueError("two")
    return x


@task
def deep(levels):
    """Grow so many levels deep."""
    if not levels:
        return 0
    with Flow("inner") as flow:
        inc(deep(levels - 1))
    return expand(flow)


@task
def each(n):
    with Flow("inner") as flow:
        xs = Parameter("xs")
        total(picky.map(xs))
    return expand(flow, xs=list(range(n)))


def test_three_levels_deep_on_one_worker_with_one_thread():
    with Flow("outer") as flow:
        inc(deep(3), 100)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as one,
        DaskTaskRunner(cluster=one) as runner,
    ):
        run = runner.run(flow)
        assert run.result() == 103
        assert run["deep/deep/deep/deep"].result() == 0
        assert run["deep/inc"].result() == 3


def test_no_data_of_a_graph_passes_the_client(runner, monkeypatch):
    @task
    def grow(x):
        with Flow("inner") as flow:
            chunk(x)
        return expand(flow)

    @task
    def several(x):
        with Flow("inner") as flow:
            chunk.map([x, x + 1])
        return expand(flow)

    with Flow("stay") as flow:
        first = first_of(grow(1))
        second = total(first_of.map(several(2)))
        third = total(first_of.map(grow.map([4, 5])))
        total([first, second, third])
    traffic = Traffic(monkeypatch)
    run = runner.run(flow)
    assert run.result() == 1 + 2 + 3 + 4 + 5
    assert traffic.bytes < MEGABYTE


def test_the_result_is_fetched_when_it_is_asked_for(runner, client):
    @task
    def grow(x):
        with Flow("inner") as flow:
            chunk(x)
            chunk(x + 1)
        return expand(flow)

    with Flow("outer") as flow:
        grow(1)
    run = runner.run(flow)
    assert {name: int(data[0]) for name, data in run.result().items()} == {"chunk": 1, "chunk-2": 2}
    future = run["grow/chunk"].future
    assert int(future.result()[0]) == 1
    run.release()
    del future


def test_a_failure_inside_has_its_path_and_its_exception(runner):
    with Flow("outer") as flow:
        inc(each(4))
    run = runner.run(flow)
    assert repr(run["each"].state) == 'Failed("each/picky[2]: ValueError: two")'
    with pytest.raises(ValueError, match="two"):
        run["each"].result()
    with pytest.raises(exceptions.UpstreamFailed):
        run["inc"].result()
    assert [failure.slug for failure in run.failures] == ["each/picky[2]"]
    rows = {row["slug"]: row["state"] for row in run.table("each")}
    assert rows == {
        "each": "Failed", "each/picky": "Mapped", "each/picky[0]": "Success",
        "each/picky[1]": "Success", "each/picky[2]": "Failed", "each/picky[3]": "Success",
        "each/total": "TriggerFailed",
    }  # fmt: skip
    run.release()


def test_what_a_script_defines_comes_back_to_the_client(runner):
    # What has no module that the client could import travels by value, in both directions.
    namespace = {"__name__": "__main__", "task": task, "Flow": Flow, "expand": expand}
    code = """
class Thing:
    def __init__(self, n):
        self.n = n

@task
def use(thing):
    return thing.n

@task
def grow(n):
    with Flow("inner") as flow:
        use(Thing(n))
    return expand(flow)
"""
    exec(code, namespace)
    with Flow("outer") as flow:
        namespace["grow"](5)
    assert runner.run(flow).result() == 5


def test_a_graph_that_the_client_cannot_open_is_a_failure(runner):
    class OnWorkersOnly:
        def __reduce__(self):
            return _elsewhere, (os.getpid(),)

    @task
    def grow():
        with Flow("inner") as flow:
            inc(OnWorkersOnly())
        return expand(flow)

    with Flow("outer") as flow:
        grow()
    state = runner.run(flow)["grow"].state
    assert type(state) is states.Failed
    assert state.message == "ImportError: not here (in the graph that grow returned)"


def _elsewhere(pid):
    if pid != os.getpid():
        raise ImportError("not here")


def test_a_worker_that_dies_with_what_has_the_result(runner, cluster, marks):
    @task
    def made(x):
        marks.add("made")
        return np.full(MEGABYTE, x, dtype=np.uint8)

    @task
    def grow(x):
        # The other worker has a thread, too, and nothing else is to run there.
        marks.wait("waits")
        with Flow("inner") as flow:
            made(x)
        return expand(flow)

    @task
    def waits(x):
        marks.add("waits")
        marks.wait("killed")
        return x

    @task
    def reads(data, x):
        return int(data[0]) + x

    with Flow("outer") as flow:
        found = grow(7)
        reads(found, waits(1))
    run = runner.start(flow, return_tasks=[found])
    assert run["grow"].exception(20) is None
    (pid,) = marks.pids("made")
    assert pid not in marks.pids("waits")
    kill(pid)
    # Nobody has read it yet.
    assert eventually(lambda: marks.count("made") == 2)
    marks.add("killed")
    assert run.wait(60).result() == 8
    assert int(run["grow"].result()[0]) == 7
    assert len(run["grow"].attempts) == 1
    run.release()
    assert eventually(lambda: is_whole(cluster))


def test_a_worker_that_dies_inside_of_a_graph(runner, cluster, marks):
    @task
    def dies_once(x):
        if marks.add("tried") == 1:
            # After its first start report, so that it is charged.
            marks.wait("heard")
            os._exit(1)
        return x

    @task
    def grow(x):
        with Flow("inner") as flow:
            inc(dies_once(x))
        return expand(flow)

    with Flow("outer") as flow:
        inc(grow(1))
    run = runner.start(flow)
    assert eventually(lambda: "grow/dies_once" in list(run))
    assert eventually(lambda: run["grow/dies_once"].state.is_running())
    marks.add("heard")
    assert run.wait(60).result() == 3
    assert [attempt.outcome for attempt in run["grow/dies_once"].attempts] == [
        "worker-lost", "success",
    ]  # fmt: skip
    assert eventually(lambda: is_whole(cluster))


def test_a_cancel_stops_what_has_joined(runner, client, marks):
    @task
    def waits():
        marks.add("began")
        marks.wait("cancelled")

    @task
    def grow():
        with Flow("inner") as flow:
            inc(waits())
        return expand(flow)

    with Flow("outer") as flow:
        inc(grow())
    run = runner.start(flow)
    marks.wait("began")
    run.cancel()
    marks.add("cancelled")
    run.wait(20)
    assert {type(state).__name__ for state in run.states.values()} == {"Cancelled"}
    assert set(run) == {"grow", "grow/waits", "grow/inc", "inc"}


def test_a_graph_may_be_run_by_the_task_itself_instead(runner):
    @task
    def runs_its_own():
        with Flow("inner") as flow:
            inc(inc(1))
        assert get_client() is not None
        return flow.run(progress=False).result()

    with Flow("outer") as flow:
        inc(runs_its_own())
    run = runner.run(flow)
    assert run.result() == 4
    # That is a run of its own, and nothing of it is here.
    assert list(run) == ["runs_its_own", "inc"]


def test_single_calls_cannot_grow(runner):
    future = runner.submit(each, 2)
    with pytest.raises(Exception, match="expand needs a flow run"):
        future.result(20)
    future.release()


def test_many_graphs_leave_nothing_behind(runner, client):
    with Flow("outer") as flow:
        total(each.map([1, 2, 1, 2, 1]))
    run = runner.run(flow)
    assert run.result() == 0 + 1 + 0 + 1 + 0
    run.release()
    assert_nothing_left(client)
