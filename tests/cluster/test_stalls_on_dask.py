"""Runs in which nothing can happen, and schedulers that are gone or do not answer."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack

import pytest
from distributed import Client
from marks import PATIENCE, eventually
from processes import ForeignCluster

from dask_taskrunner import ClusterLost, DaskTaskRunner, Flow, exceptions, states, task, watchdog

pytestmark = pytest.mark.cluster


@task
def quick(x=0):
    return x


@task
def long(marks, x):
    marks.add("began")
    time.sleep(60)


@pytest.fixture
def lonely(tmp_path):
    """A scheduler of the test's own, and its workers if any."""
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        yield cluster


def test_without_a_worker_the_run_says_so_and_ends_when_it_is_to(lonely, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.5)
    with Flow("nobody") as flow:
        quick(quick())
    with DaskTaskRunner(address=lonely.address, stall_timeout=3) as runner:
        begin = time.monotonic()
        run = runner.run(flow)
        assert time.monotonic() - begin < PATIENCE
        assert type(run.state) is states.Crashed
        assert "no worker is connected" in run.state.message
        assert run.notes[0].text == "no worker is connected; 2 task runs wait"
        assert type(run["quick"].state) is states.Crashed


def test_a_run_goes_on_when_a_worker_comes(lonely, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.5)
    with Flow("late") as flow:
        quick(quick())
    with DaskTaskRunner(address=lonely.address) as runner:
        run = runner.start(flow)
        assert eventually(lambda: run.notes)
        lonely.start_worker("w0")
        assert run.wait(PATIENCE).result() == 0


def test_what_no_worker_has_is_warned_of_before_and_told_meanwhile(runner, monkeypatch):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.5)
    with Flow("gpu") as flow:
        quick.with_options(name="fit", resources={"GPU": 1})()
    with pytest.warns(exceptions.UnsatisfiableWarning, match="fit needs GPU=1, and no worker has"):
        run = runner.start(flow)
    assert eventually(lambda: run.notes)
    assert run.notes[0].text == "fit needs GPU=1, and no worker has that"
    run.cancel()
    run.wait(PATIENCE)


@pytest.fixture
def working(lonely, marks):
    """A flow run that is under way on a cluster of the test's own."""
    lonely.start_worker("w0")
    with Client(lonely.address, set_as_default=False) as client:
        client.wait_for_workers(1)
    with Flow("lost") as flow:
        long(marks, quick(5))
    with DaskTaskRunner(address=lonely.address, cluster_timeout=3) as runner:
        run = runner.start(flow)
        assert eventually(lambda: run.still_running)
        yield run


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_is_gone_is_known_within_15_s_and_the_record_is_there(
    working, lonely, how, caplog
):
    os.kill(lonely.scheduler.pid, how)
    begin = time.monotonic()
    with pytest.raises(ClusterLost):
        working.wait(PATIENCE)
    assert time.monotonic() - begin < 15
    assert type(working.state) is states.Crashed
    assert "the cluster was lost" in working.state.message
    assert working["quick"].result() == 5
    assert working["long"].state.is_pending()
    assert "last heard: running on" in working["long"].state.message
    # Nothing of the user's is told to have failed.
    assert not working.failures
    assert not [record for record in caplog.records if "long failed" in record.getMessage()]
    lonely.scheduler.send_signal(signal.SIGCONT)
