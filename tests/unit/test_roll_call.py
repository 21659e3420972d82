"""Who is there: asked of a scheduler that may not answer."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from dask_taskrunner.dask_backend.roll_call import RollCall, views_of
from dask_taskrunner.placement import WorkerView

WORKER = {
    "name": "w0",
    "nthreads": 2,
    "resources": {"GPU": 1.0},
    "metrics": {"task_counts": {"executing": 1, "ready": 4}},
    "status": "running",
}
VIEW = WorkerView("tcp://10.0.0.1:33", "w0", 2, {"GPU": 1.0}, 1)


@pytest.fixture
def loop():
    """An event loop in a thread of its own, as a client has it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    # What was given up ends before the loop does.
    for _ in range(3):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def client_of(loop, identity, status="running"):
    return SimpleNamespace(
        status=status,
        loop=SimpleNamespace(asyncio_loop=loop),
        scheduler=SimpleNamespace(identity=identity),
    )


async def answers():
    return {"workers": {"tcp://10.0.0.1:33": WORKER}}


async def breaks():
    raise OSError("the line is dead")


async def is_silent():
    await asyncio.Event().wait()


def test_the_answer_is_waited_for(loop):
    assert RollCall(client_of(loop, answers)).ask(10) == [VIEW]


@pytest.mark.parametrize("identity", [breaks, is_silent])
def test_without_an_answer_in_time_nothing_is_known(loop, identity):
    assert RollCall(client_of(loop, identity)).ask(0.05) is None


def test_a_client_that_is_closed_is_not_asked(loop):
    assert RollCall(client_of(loop, breaks, status="closed")).ask(10) is None


def test_in_the_very_thread_that_would_bring_the_answer_nobody_waits_for_it(loop):
    roll = RollCall(client_of(loop, answers))

    async def asks():
        return roll.ask(10)

    assert asyncio.run_coroutine_threadsafe(asks(), loop).result(5) is None


def test_how_busy_a_worker_is_and_whether_it_has_paused_is_read():
    paused = {**WORKER, "status": "paused"}
    new = {**WORKER, "metrics": {}}
    views = views_of({"workers": {"a": WORKER, "b": paused, "c": new}})
    assert [(view.executing, view.is_paused) for view in views] == [
        (1, False),
        (1, True),
        (0, False),
    ]
