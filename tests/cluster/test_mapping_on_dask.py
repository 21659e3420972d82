"""Mapped tasks, loops, pauses and flows in flows on worker processes: what a fake cannot prove."""

from __future__ import annotations

import logging
import os
import signal
from datetime import timedelta

import numpy as np
import pytest
from distributed import Client, LocalCluster
from marks import eventually, is_whole
from tornado.iostream import IOStream
from watched import tasks_on

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    Parameter,
    apply_map,
    case,
    context,
    merge,
    signals,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.backend import Code, Constant

pytestmark = pytest.mark.cluster

ROWS = np.arange(50_000)


@task
def make(n):
    return [ROWS + i for i in range(n)]


@task
def double(x):
    return x * 2


@task
def inc(x, by=1):
    return x + by


@task
def total(xs):
    return int(sum(x.sum() for x in xs))


@task
def count(xs):
    return len(xs)


class Received:
    """Counts the bytes that come into this process, which is the client's and the scheduler's."""

    def __init__(self):
        self.bytes = 0
        self._read = IOStream.read_from_fd

    def __enter__(self):
        def reading(stream, buffer):
            n = self._read(stream, buffer)
            self.bytes += n or 0
            return n

        IOStream.read_from_fd = reading
        return self

    def __exit__(self, *_):
        IOStream.read_from_fd = self._read


def test_the_data_of_a_map_stays_on_the_workers(client):
    with Flow("data") as flow:
        total(double.map(double.map(make(40))))
    with DaskTaskRunner(client=client) as runner:
        expected = runner.run(flow).result()
        with Received() as counter:
            run = runner.run(flow)
        assert run.result() == expected == sum(4 * int((ROWS + i).sum()) for i in range(40))
        # 40 arrays of 400 kB, each of them made three times.
        assert counter.bytes < 2_000_000
    assert eventually(lambda: not tasks_on(client), 5)


def test_a_shared_constant_is_sent_once_however_many_slices_there_are(runner, client):
    constant = os.urandom(400_000)

    @task
    def size(i, data):
        return len(data)

    with Flow("constant") as flow:
        count(size.map(range(1200), unmapped(constant)))
    run = runner.run(flow)
    assert run.result() == 1200
    sent = run._driver.channel._sender._shared._sent
    sends = {type(shared): [copy.sends for copy in copies] for shared, copies in sent.items()}
    # One for each worker, of what is small.
    assert sends == {Code: [1, 1], Constant: [1]}


def test_chains_go_depth_first(runner, marks):
    @task
    def stage(i, n):
        marks.add(f"stage{n}", str(i))
        return i

    with Flow("chains") as flow:
        first = stage.map(list(range(20)), unmapped(1))
        second = stage.map(first, unmapped(2))
        count(stage.map(second, unmapped(3)))
    assert runner.run(flow).result() == 20
    tenth_root = sorted(marks.times("stage1"))[9]
    assert min(marks.times("stage3")) < tenth_root


def test_one_childs_retry_holds_back_its_own_chain_only(runner, marks):
    @task(max_retries=1, retry_delay=1.0)
    def flaky(i):
        if i == 3 and context.task_run_number == 1:
            raise ValueError(i)
        return i

    @task
    def after(i):
        marks.add("after", str(i))
        return i

    with Flow("retry") as flow:
        count(after.map(flaky.map(inc.map(list(range(6)), by=unmapped(0)))))
    run = runner.run(flow)
    assert run.result() == 6
    assert len(run["flaky[3]"].attempts) == 2
    times = dict(zip(marks.texts("after"), marks.times("after"), strict=True))
    assert max(t for i, t in times.items() if i != "3") < times["3"] - 0.5
    assert run["count"].record.submission == 1


def test_two_thousand_children_go_out_in_few_messages(runner, client, monkeypatch):
    calls = []
    whole = client.map
    monkeypatch.setattr(client, "map", lambda *a, **k: calls.append(len(a[1])) or whole(*a, **k))
    with Flow("many") as flow:
        count(inc.map(range(2000)))
    assert runner.run(flow).result() == 2000
    assert len(calls) < 12
    assert sum(calls) == 2001


@pytest.fixture
def own_cluster():
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={"allowed_failures": 0},
    ) as cluster:
        assert eventually(lambda: is_whole(cluster))
        yield cluster


def test_a_map_survives_the_death_of_the_worker_that_holds_its_list(own_cluster, marks):
    @task
    def slow(x):
        import time

        marks.add("began")
        time.sleep(0.1)
        return x * 2

    with Flow("killed") as flow:
        total(slow.map(make(12)))
    with (
        Client(own_cluster, set_as_default=False) as client,
        DaskTaskRunner(client=client) as runner,
    ):
        run = runner.start(flow)
        marks.wait("began", 4)
        holder = run["make"].attempts[0].worker
        os.kill(client.run(os.getpid)[holder], signal.SIGKILL)
        assert run.wait(60).state.is_successful()
        assert run.result() == sum(2 * int((ROWS + i).sum()) for i in range(12))


def test_a_loop_survives_the_death_of_the_worker_that_holds_its_result(own_cluster, marks):
    @task(max_retries=1, retry_delay=0.1)
    def collect(until):
        marks.add("iteration", str(context.task_loop_count))
        so_far = context.task_loop_result
        so_far = ROWS if so_far is None else so_far + 1
        if context.task_loop_count == 3 and marks.count("iteration") == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if context.task_loop_count < until:
            raise signals.LOOP(result=so_far)
        return so_far

    with Flow("loop") as flow:
        total([collect(5)])
    with (
        Client(own_cluster, set_as_default=False) as client,
        DaskTaskRunner(client=client) as runner,
    ):
        run = runner.run(flow)
        assert run.result() == int((ROWS + 4).sum())
    # Those that Dask executed again are told of.
    assert len(run["collect"].attempts) > 5


def test_a_paused_run_goes_on_with_what_it_had(runner, client):
    @task(trigger=triggers.manual_only)
    def deploy(rows, constant):
        return int(rows[0].sum()) + len(constant)

    with Flow("pause") as flow:
        inc(deploy(make(1), os.urandom(300_000)))
    run = runner.run(flow, progress=False)
    assert str(run.state.message) == "deploy waits for run.approve('deploy')"
    assert run.approve("deploy").result() == int(ROWS.sum()) + 300_001
    other = runner.start(flow).wait(20)
    other.reject()
    assert other.wait(20).state.is_successful()


def test_flows_in_flows_and_branches_hold_no_worker():
    with Flow("inner") as inner:
        total(double.map(make(Parameter("n"))))
    with Flow("middle") as middle:
        inc(inner.as_task()(n=Parameter("n")))
    with Flow("outer") as flow:
        done = inc(middle.as_task()(n=2))
        with case(done > 0, True):
            large = inc(done)
        with case(done > 0, False):
            small = inc(done, by=100)
        merge(large, small)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as one, DaskTaskRunner(cluster=one) as runner:  # fmt: skip
        run = runner.run(flow)
        assert run.result() == run["middle/inner"].result() + 3


def test_a_graph_per_element_on_workers(runner):
    with Flow("each") as flow:
        count(apply_map(lambda x: inc(double(x)), inc.map(range(30))))
    assert runner.run(flow).result() == 30


def test_children_take_over_what_earlier_ones_made(runner, client, marks):
    @task(cache_for=timedelta(hours=1))
    def made(x):
        marks.add("made")
        return ROWS + x

    with Flow("cached") as flow:
        total(made.map([1, 2, 3]))
    first = runner.run(flow).result()
    assert runner.run(flow).result() == first
    assert marks.count("made") == 3
