import asyncio
import threading

import pytest

from dask_taskrunner import context
from dask_taskrunner.graph.bodies import settle


async def answer(value=42):
    await asyncio.sleep(0)
    return value


async def count():
    for number in range(3):
        yield number


def test_a_plain_value_stays_the_same_object():
    value = object()
    assert settle(value) is value


def test_a_generator_becomes_a_list():
    assert settle(number for number in range(3)) == [0, 1, 2]


def test_a_coroutine_is_run():
    assert settle(answer()) == 42


def test_an_async_generator_becomes_a_list():
    assert settle(count()) == [0, 1, 2]


def test_what_a_coroutine_returns_is_settled_too():
    assert settle(answer(number for number in range(3))) == [0, 1, 2]


def test_a_coroutine_sees_the_context():
    async def read():
        return context.region

    with context(region="eu"):
        assert settle(read()) == "eu"


def test_a_coroutine_is_run_in_a_thread_where_a_loop_runs_already():
    async def read():
        return context.region, threading.current_thread()

    async def notebook():
        with context(region="eu"):
            return settle(read())

    region, thread = asyncio.run(notebook())
    assert region == "eu"
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_coroutine_raises_is_raised(error):
    async def fail():
        raise error("no")

    with pytest.raises(error):
        settle(fail())
