"""How a runner gets its cluster, what it closes, and what it says where it gets none."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from distributed import Client, LocalCluster
from marks import eventually
from watched import assert_nothing_left, tasks_on

from dask_taskrunner import (
    ConnectFailed,
    DaskTaskRunner,
    EmptyFlow,
    Flow,
    OptionError,
    Parameter,
    ParameterError,
    ResultReleased,
    RunnerClosed,
    UnpicklableArgument,
    states,
    task,
)
from dask_taskrunner.dask_backend import backend

pytestmark = pytest.mark.cluster

#: Workers in this process start at once, where a test is not about processes.
THREADS = {"n_workers": 1, "threads_per_worker": 1, "processes": False}


@task
def one():
    return 1


@task
def payload(n):
    return b"p" * n


@pytest.fixture
def flow():
    with Flow("one") as flow:
        one()
    return flow


@pytest.fixture
def nothing_stays():
    """No thread and no child process stays behind a cluster of a test's own."""
    import multiprocessing

    before = set(threading.enumerate()), set(multiprocessing.active_children())
    yield

    def new():
        loops = [t.name for t in set(threading.enumerate()) - before[0] if t.name == "IO loop"]
        return [*loops, *(set(multiprocessing.active_children()) - before[1])]

    assert eventually(lambda: not new(), 5), new()


# -- the ways to name a cluster ------------------------------------------------------------


def test_an_address(cluster, client, flow):
    with DaskTaskRunner(address=cluster.scheduler_address) as runner:
        assert runner.address == cluster.scheduler_address
        assert runner.cluster is None
        assert runner.run(flow).result() == 1
    assert runner.client.status == "closed"
    assert_nothing_left(client)


def test_a_cluster_object_stays_open(cluster, client, flow):
    with DaskTaskRunner(cluster=cluster) as runner:
        assert runner.cluster is cluster
        assert runner.dashboard_link.endswith("/status")
        assert runner.run(flow).result() == 1
    assert runner.client.status == "closed"
    assert cluster.status.name == "running"
    assert_nothing_left(client)


def test_a_client_stays_open(client, flow):
    with DaskTaskRunner(client=client) as runner:
        assert runner.client is client
        assert runner.run(flow).result() == 1
    assert client.status == "running"
    assert_nothing_left(client)


def test_the_workers_of_a_client_are_asked_once_for_their_versions(cluster, flow, monkeypatch):
    asked = []
    look = backend.look
    monkeypatch.setattr(backend, "look", lambda *args: asked.append(1) or look(*args))
    with Client(cluster, set_as_default=False) as client:
        for _ in range(3):
            with DaskTaskRunner(client=client) as runner:
                assert runner.run(flow).state.is_successful()
    assert asked == [1]


def test_the_current_default_client_is_used_where_there_is_one(cluster, flow):
    with Client(cluster) as default:
        with DaskTaskRunner() as runner:
            assert runner.client is default
            run = runner.run(flow)
        assert run.result() == 1
        assert default.status == "running"
        # `flow.run()` alone finds it as well.
        assert flow.run().result() == 1
        assert default.status == "running"


def test_the_surrounding_runner_is_used_by_flow_run(client, flow):
    with DaskTaskRunner(client=client) as runner:
        run = flow.run()
        assert runner.last_run is run
        with DaskTaskRunner(client=client) as inner:
            assert inner.last_run is None
            flow.run()
            assert inner.last_run is not None
        assert flow.run() is runner.last_run
        assert flow.run(runner=runner) is runner.last_run


@pytest.mark.parametrize("how", ["class", "callable", "dotted"])
def test_a_cluster_class_is_started_and_closed(how, flow, nothing_stays):
    cluster_class = {
        "class": LocalCluster,
        "callable": lambda **options: LocalCluster(dashboard_address=":0", **options),
        "dotted": "distributed.LocalCluster",
    }[how]
    with DaskTaskRunner(cluster_class=cluster_class, cluster_kwargs=THREADS) as runner:
        assert type(runner.cluster) is LocalCluster
        assert runner.run(flow).result() == 1
    assert runner.cluster.status.name == "closed"


def test_an_adaptive_cluster_starts_workers_when_there_is_work(flow, nothing_stays):
    with DaskTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={**THREADS, "n_workers": 0},
        adapt_kwargs={"minimum": 0, "maximum": 1, "interval": "50 ms"},
    ) as runner:
        assert not runner.cluster.workers
        assert runner.run(flow).result() == 1


def test_without_anything_a_cluster_of_processes_is_started_and_closed(flow, nothing_stays):
    run = flow.run()
    assert run.result() == 1
    assert run["one"].attempts[0].worker.startswith("tcp://")


# -- closing --------------------------------------------------------------------------------


def test_close_twice_is_nothing_and_a_closed_runner_says_so(client, flow):
    runner = DaskTaskRunner(client=client)
    assert not runner.closed
    runner.close()
    runner.close()
    assert runner.closed
    with pytest.raises(RunnerClosed, match="make a new one"):
        runner.run(flow)
    with pytest.raises(RunnerClosed), runner:
        pass
    assert_nothing_left(client)


def test_a_runner_that_is_collected_closes_what_it_opened(flow, nothing_stays):
    runner = DaskTaskRunner(cluster_kwargs=THREADS)
    runner.run(flow)
    opened, cluster = runner.client, runner.cluster
    del runner
    gc.collect()
    assert opened.status == "closed"
    assert cluster.status.name == "closed"


def test_leaving_with_waits_for_what_was_started(client, marks):
    @task
    def slow():
        marks.wait("go")
        return "slow"

    with Flow("slow") as flow:
        slow()
    with DaskTaskRunner(client=client) as runner:
        run = runner.start(flow)
        threading.Timer(0.2, marks.add, ["go"]).start()
    assert run.state.is_successful()
    assert run.result() == "slow"
    assert_nothing_left(client)


def test_leaving_with_by_an_exception_cancels(client, marks):
    @task
    def slow():
        marks.add("began")
        marks.wait("go")

    with Flow("slow") as flow:
        for _ in range(5):
            slow()
    began = time.monotonic()
    with suppress(ZeroDivisionError), DaskTaskRunner(client=client) as runner:
        run = runner.start(flow)
        marks.wait("began")
        raise ZeroDivisionError
    assert time.monotonic() - began < 4
    assert isinstance(run.state, states.Cancelled)
    assert run.counts == {"Cancelled": 5}
    assert eventually(lambda: not tasks_on(client))
    before = marks.count("began")
    marks.add("go")
    assert marks.count("began") == before <= 2
    assert_nothing_left(client)


def test_closing_a_cluster_does_not_wait_for_a_body_that_will_not_end(marks, nothing_stays):
    @task
    def endless():
        marks.add("began")
        marks.wait("never")

    with Flow("endless") as flow:
        endless()
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1})
    run = runner.start(flow)
    marks.wait("began")
    began = time.monotonic()
    runner.close()
    assert time.monotonic() - began < 8
    assert isinstance(run.state, states.Cancelled)


def test_held_results_are_fetched_before_the_runner_closes_smallest_first(client):
    with Flow("sizes") as flow:
        for n in (300_000, 10_000, 50_000):
            payload(n)
    with DaskTaskRunner(client=client, fetch_limit=70_000) as runner:
        run = runner.run(flow)
    assert len(run["payload-2"].result()) == 10_000
    assert len(run["payload-3"].result()) == 50_000
    with pytest.raises(ResultReleased, match=r"payload \(300 kB\) was not fetched"):
        run["payload"].result()
    (note,) = [note for note in run.notes if "fetch_limit" in note.text]
    assert "payload (300 kB)" in note.text
    assert_nothing_left(client)


# -- errors ---------------------------------------------------------------------------------


def test_nobody_answers(nothing_stays):
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": "1 s"})
    assert time.monotonic() - began < 3


def test_a_closed_client(cluster, nothing_stays):
    closed = Client(cluster, set_as_default=False)
    closed.close()
    with pytest.raises(ConnectFailed, match="the client is closed"):
        DaskTaskRunner(client=closed)


def test_an_asynchronous_client(cluster):
    import asyncio

    async def try_it():
        async with Client(
            cluster.scheduler_address, asynchronous=True, set_as_default=False
        ) as client:
            with pytest.raises(OptionError, match="asynchronous"):
                DaskTaskRunner(client=client)

    asyncio.run(try_it())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"address": "tcp://x:1", "cluster_class": LocalCluster}, "one of address and cluster"),
        ({"address": 8786}, "address must be text"),
        ({"client": "tcp://x:1"}, "must be a distributed.Client"),
        ({"cluster_class": "no.such.Cluster"}, "cannot be imported"),
        ({"cluster_class": 5}, "must be a class"),
        ({"address": "tcp://x:1", "adapt_kwargs": {}}, "adapt_kwargs need a cluster"),
        ({"address": "tcp://x:1", "cluster_kwargs": {}}, "cluster_kwargs start a cluster"),
        ({"task_defaults": {"max_retrys": 1}}, "max_retries"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_starts(
    options, text, nothing_stays
):
    with pytest.raises(OptionError, match=text):
        DaskTaskRunner(**options)


def test_a_cluster_that_cannot_be_told_to_adapt_is_closed_again(nothing_stays):
    started = []

    class Rigid(LocalCluster):
        def adapt(self, **options):
            started.append(self)
            raise TypeError("this one does not")

    with pytest.raises(TypeError, match="this one does not"):
        DaskTaskRunner(cluster_class=Rigid, cluster_kwargs=THREADS, adapt_kwargs={"maximum": 1})
    assert started[0].status.name == "closed"


def test_what_is_wrong_with_a_flow_is_told_before_anything_is_sent(runner, client):
    with Flow("parameters") as flow:
        payload(Parameter("n"))
    with pytest.raises(ParameterError, match="n"):
        runner.run(flow)
    with pytest.raises(ParameterError, match="m"):
        runner.run(flow, n=1, m=2)
    with pytest.raises(EmptyFlow):
        runner.run(Flow("empty"))
    with Flow("lock") as locked:
        payload(threading.Lock())
    with pytest.raises(UnpicklableArgument, match="'n' of 'payload'"):
        runner.run(locked)
    with pytest.raises(OptionError, match="keep"):
        runner.run(flow, n=1, keep="some")
    assert runner.last_run is None
    assert not tasks_on(client)


def test_a_run_of_a_flow_that_lacks_a_parameter_starts_no_cluster(nothing_stays, monkeypatch):
    from dask_taskrunner.dask_backend import connecting

    monkeypatch.setattr(connecting, "LocalCluster", None)
    with Flow("parameters") as flow:
        payload(Parameter("n"))
    with pytest.raises(ParameterError):
        flow.run()


def test_cache_for_works_on_a_cluster_that_ends_with_the_runner_while_there_is_one(nothing_stays):
    """There is no warning: this runner has next runs."""

    @task(cache_for=timedelta(seconds=60))
    def cached():
        return 1

    with Flow("cached") as flow:
        cached()
    with DaskTaskRunner(cluster_kwargs=THREADS) as runner:
        runner.run(flow)
        assert runner.run(flow)["cached"].state.message == "cached result"
