"""The thread that owns a machine: what happens when news is missing, or something breaks."""

from __future__ import annotations

import gc
import logging
import threading
import weakref

import pytest
from fakes.fake_backend import launched
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, driver, exceptions, states, task
from dask_taskrunner.headers import NOTHING_MORE, Header
from dask_taskrunner.machine.events import RunStarted, TaskRunEnded, TimerFired
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.states import Cancelled, Crashed, Pending, Success


@task
def one():
    return 1


@task
def add(x, y):
    return x + y


def small_flow(**options):
    with Flow("etl", **options) as flow:
        add(one(), 1)
    return flow


def channel_of(backend):
    (channel,) = backend.channels.values()
    return channel


def stuck_flow(gate):
    @task
    def waits():
        gate.pass_through()
        return 1

    with Flow("etl") as flow:
        add(one(), 1)
        add(waits(), 1)
    return flow


def test_headers_that_never_come_are_fetched(finish, backend):
    backend.is_silent = True
    assert finish(small_flow()).result() == 2


def test_news_after_the_end_is_taken_in_and_breaks_nothing(finish, backend):
    run = finish(small_flow())
    header = Header(
        0, -1, 1, 5, "Success", None, "w", 1, 0.0, 0.1, 0.0, "int", 8, None, NOTHING_MORE
    )
    run._driver.post(TaskRunEnded(0.0, (0, -1), 1, header))
    assert [a.outcome for a in run["one"].attempts] == ["success", "re-executed"]
    # Nobody knows such a task run; the thread that brings the news is not the driver's.
    run._driver.post(TaskRunEnded(0.0, (77, -1), 1, header))
    assert isinstance(run.state, Success)


def test_a_run_that_has_ended_leaves_no_thread(finish):
    run = finish(small_flow())
    run._driver._thread.join(PATIENCE)
    assert eventually(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("dask-taskrunner-hooks")]
    )
    assert not run._driver._thread.is_alive()


def test_a_driver_that_nobody_holds_goes_and_its_late_news_with_it(backend):
    run = launched(backend, small_flow())
    run.wait(PATIENCE)
    run._driver._thread.join(PATIENCE)
    driver, post = weakref.ref(run._driver), channel_of(backend)._post
    del run
    assert eventually(lambda: gc.collect() >= 0 and driver() is None)
    post(TimerFired(0.0))


# --- a lost cluster ------------------------------------------------------------------------------


def test_a_lost_cluster_ends_the_run_and_is_raised(start, backend):
    gate = Gate("lost cluster")
    run = start(stuck_flow(gate))
    gate.wait()
    assert eventually(lambda: run["add"].state.is_finished() and run.still_running)
    channel_of(backend).lose_cluster()
    with pytest.raises(exceptions.ClusterLost, match="the fake went away"):
        run.wait(PATIENCE)
    gate.open()
    assert isinstance(run.error, exceptions.ClusterLost)
    assert isinstance(run.state, Crashed)
    assert run.state.message.startswith("the cluster was lost at ")
    assert run["add"].result() == 2
    assert isinstance(run["waits"].state, Pending)
    assert run["waits"].state.message.startswith(
        "not known: the fake went away; last heard: running on fake://"
    )
    with pytest.raises(exceptions.NotFinished, match="waits did not finish: Pending"):
        run["waits"].result()


def test_an_error_of_a_lost_connection_is_not_ours(start, backend, monkeypatch):
    # It is a message that finds out, not a look at the futures.
    monkeypatch.setattr(driver, "SWEEP_EVERY", 1000.0)
    gate = Gate("lost connection")

    @task(max_retries=1, retry_delay=0)
    def waits():
        gate.pass_through()
        raise ValueError

    with Flow("etl") as flow:
        waits()
    run = start(flow)
    gate.wait()
    channel = channel_of(backend)
    channel.errors |= dict.fromkeys(("submit", "finish"), OSError("broken pipe"))
    channel.lose_cluster()
    gate.open()
    with pytest.raises(exceptions.ClusterLost):
        run.wait(PATIENCE)
    assert run.state.message.startswith("the cluster was lost at ")
    channel.errors.clear()


# --- an error of our own -------------------------------------------------------------------------


def test_an_error_of_our_own_ends_the_run_with_the_last_events(start, backend, monkeypatch, caplog):
    def broken(self, event):
        raise RuntimeError("a bug")

    seen = []
    gate = Gate("our own error")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl", state_handlers=[lambda flow, old, new: seen.append(repr(new))]) as flow:
        add(one(), 1)
        add(waits(), 1)
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run["add"].state.is_finished())
    monkeypatch.setitem(run._driver.machine._handlers, TaskRunEnded, broken.__get__(run))
    gate.open()
    with pytest.raises(exceptions.InternalError, match="RuntimeError: a bug") as caught:
        run.wait(PATIENCE)
    assert isinstance(caught.value.events[0], RunStarted)
    assert isinstance(caught.value.events[-1], TaskRunEnded)
    assert isinstance(caught.value.__cause__, RuntimeError)
    text = "error in dask_taskrunner: RuntimeError: a bug"
    assert repr(run.state) == f'Crashed("{text}")'
    assert run["add"].result() == 2
    # Everything is cancelled, and everybody is told.
    assert repr(run["waits"].state) == f'Cancelled("{text}")'
    assert seen[-1] == f'Crashed("{text}")'
    assert run.history[-1].new == "Crashed"
    assert backend.channels == {}
    assert caplog.records[-1].levelno == logging.ERROR


def test_the_events_of_an_internal_error_are_the_last_hundred(start, monkeypatch):
    @task
    def pause():
        return 1

    with Flow("etl") as flow:
        for _ in range(150):
            pause()
    original, count = Machine.handle, []

    def handle(self, event):
        count.append(event)
        if len(count) == 120:
            raise RuntimeError("a bug")
        return original(self, event)

    monkeypatch.setattr(Machine, "handle", handle)
    run = start(flow)
    with pytest.raises(exceptions.InternalError) as caught:
        run.wait(PATIENCE)
    assert caught.value.events == count[20:120]


@pytest.mark.parametrize("method", ["submit", "release", "sweep"])
def test_no_broken_part_of_the_connection_leaves_anybody_waiting(start, backend, method):
    gate = Gate(f"broken {method}")
    with Flow("etl") as flow:
        held = one()

        @task(max_retries=3, retry_delay=0)
        def waits(x):
            gate.pass_through()
            raise ValueError

        add(waits(held), 1)
    run = start(flow)
    gate.wait()
    channel = channel_of(backend)
    channel.errors[method] = OSError("broken")
    # What is done about it fails as well.
    channel.errors |= dict.fromkeys(("sweep", "finish", "release"), OSError("broken, too"))
    gate.open()
    with pytest.raises(exceptions.InternalError, match="OSError: broken"):
        run.wait(PATIENCE)
    assert isinstance(run["waits"].state, Cancelled)
    channel.errors.clear()


def test_what_breaks_after_the_last_word_takes_nothing_back(start, backend):
    gate = Gate("after the end")
    run = start(stuck_flow(gate))
    gate.wait()
    channel_of(backend).errors["finish"] = OSError("broken")
    gate.open()
    run.wait(PATIENCE)
    assert isinstance(run.state, Success)
    assert run.error is None
    channel_of(backend).errors.clear()


def test_a_listener_that_breaks_leaves_nobody_waiting(start, monkeypatch, caplog):
    gate = Gate("listener")
    run = start(stuck_flow(gate))
    gate.wait()

    def broken(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(run.listener, "run_ended", broken)
    gate.open()
    run.wait(PATIENCE)
    assert isinstance(run.state, states.Success)
    assert eventually(lambda: "RuntimeError: a bug" in caplog.text)


@pytest.mark.parametrize(("sweep", "pause"), [(0.01, 1.0), (0.1, 2.0), (30.0, 5.0)])
def test_a_look_that_takes_long_is_had_less_often(sweep, pause):
    assert driver._pause_after(sweep) == pytest.approx(pause)
