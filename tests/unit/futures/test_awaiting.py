"""Futures in an event loop: awaited, cancelled, iterated over, in many loops at once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, as_completed, awaiting, exceptions, task
from dask_taskrunner.awaiting import Awaited, NotAwaited
from dask_taskrunner.exceptions import TaskRunnerWarning
from dask_taskrunner.flow_running import _Launch

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


def fails():
    raise KeyError("no")


# --- awaiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
def test_a_future_is_awaited_for_its_result(runner, value):
    async def main():
        future = runner.submit(give, value)
        assert await future == value
        # Also a second time, when it has long ended.
        return await future

    assert asyncio.run(main()) == value


def test_an_awaited_failure_raises_the_tasks_own_exception(runner):
    async def main():
        with pytest.raises(KeyError):
            await runner.submit(fails)
        with pytest.raises(exceptions.UpstreamFailed):
            await runner.submit(give, runner.submit(fails))

    asyncio.run(main())


def test_many_are_awaited_at_once(runner):
    async def main():
        futures = runner.map(give, [LARGE + str(n) for n in range(50)])
        return await asyncio.gather(*futures)

    assert asyncio.run(main()) == [LARGE + str(n) for n in range(50)]


def test_waiting_leaves_the_event_loop_alone(runner):
    gate, beats = Gate("leaves alone"), []

    async def beat():
        while len(beats) < 3:
            beats.append(1)
            await asyncio.sleep(0)
        gate.open()

    async def main():
        await asyncio.gather(runner.submit(gate.pass_through), beat())

    asyncio.run(main())
    assert len(beats) == 3


def test_who_stops_waiting_leaves_the_work_alone_and_nothing_behind(runner):
    gate = Gate("stops waiting")

    async def main():
        future = runner.submit(gate.pass_through)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await future
        waiter = asyncio.ensure_future(_result_of(future))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not future.cancelled()
        assert not runner.driver._ends._waiters._waiters
        gate.open()
        assert await future is None

    asyncio.run(main())


async def _result_of(future):
    return await future


def test_an_event_loop_that_has_gone_harms_nobody(runner):
    gate = Gate("has gone")
    loop = asyncio.new_event_loop()
    tell, _ = awaiting.signal_of(loop)
    future = runner.submit(gate.pass_through)
    runner.driver.when_ended(future._id, tell)
    loop.close()
    gate.open()
    assert future.result(PATIENCE) is None
    assert runner.submit(give, 2).result(PATIENCE) == 2


def test_several_event_loops_wait_at_once(runner):
    gate, found = Gate("several loops"), []
    first = runner.submit(gate.pass_through)
    future = runner.submit(give, LARGE, upstream_tasks=[first])

    def work():
        found.append(asyncio.run(_result_of(future)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [LARGE] * 4


def test_a_flow_run_is_awaited(start):
    gate = Gate("flow run")
    with Flow("etl") as flow:
        task(gate.pass_through)()

    async def main():
        run = start(flow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run
        assert run.state.is_running()
        gate.open()
        return run, await run

    run, awaited = asyncio.run(main())
    assert awaited is run
    assert run.state.is_successful()


# --- as_completed --------------------------------------------------------------------------------


def test_as_completed_is_iterated_over_in_an_event_loop(runner):
    gate = Gate("iterated over")

    async def main():
        last, first = runner.submit(gate.pass_through), runner.submit(give, LARGE)
        seen = []
        async for future in as_completed([last, first]):
            seen.append(future)
            gate.open()
        assert seen == [first, last]
        futures = [*runner.map(give, [LARGE, 2]), runner.submit(fails)]
        return [r async for _, r in as_completed(futures, PATIENCE, with_results=True)]

    results = asyncio.run(main())
    assert sorted(results[n] if type(results[n]) is int else 0 for n in range(3)) == [0, 0, 2]
    assert LARGE in results
    assert any(isinstance(result, KeyError) for result in results)


def test_as_completed_has_a_time_limit_in_an_event_loop(runner):
    gate = Gate("limit in a loop")

    async def main():
        futures = [runner.submit(give), runner.submit(gate.pass_through)]
        order = as_completed(futures, timeout=0.05)
        assert await anext(order) is futures[0]
        with pytest.raises(TimeoutError, match="1 futures have not ended after"):
            await anext(order)

    asyncio.run(main())
    assert not runner.driver._ends._waiters._waiters
    gate.open()


# --- what nobody awaited -------------------------------------------------------------------------


async def _five():
    return 5


def awaited():
    return Awaited(_five(), "`run = await runner.run_async(flow)`")


def test_an_awaitable_is_awaited_run_and_made_a_task_of():
    async def main():
        assert await asyncio.create_task(awaited()) == 5
        assert await asyncio.wait_for(awaited(), PATIENCE) == 5
        assert await asyncio.gather(awaited(), awaited()) == [5, 5]
        return await awaited()

    assert asyncio.run(main()) == 5
    assert asyncio.run(awaited()) == 5


@pytest.mark.parametrize("use", [lambda a: a.state, lambda a: a.result(), lambda a: a["clean"]])
def test_a_forgotten_await_shows_the_right_line(use):
    with pytest.raises(NotAwaited) as caught:
        use(awaited())
    assert str(caught.value).endswith(
        "was asked of a call that nobody awaited; write `run = await runner.run_async(flow)`"
    )
    assert isinstance(caught.value, exceptions.NotAValue)


def test_a_call_that_is_dropped_without_an_await_is_warned_of():
    with pytest.warns(TaskRunnerWarning, match="was not awaited, and nothing was done") as caught:
        awaited()
    (warning,) = caught
    assert warning.filename == __file__
    assert "`run = await runner.run_async(flow)`" in str(warning.message)


def test_a_call_without_an_await_is_refused_as_what_is_called_and_as_an_argument(runner):
    with pytest.raises(exceptions.OptionError, match="a coroutine that nobody awaited was submit"):
        runner.submit(awaited())
    for wrong in (awaited(), [awaited()]):
        with pytest.raises(exceptions.UnpicklableArgument, match="write `await` before it"):
            runner.submit(give, wrong)


# --- a start that is given up --------------------------------------------------------------------


class Run:
    def __init__(self):
        self.is_cancelled = self.is_given_up = False
        self.listener = self

    def cancel(self):
        self.is_cancelled = True

    def give_up_waiting(self):
        self.is_given_up = True


@pytest.mark.parametrize("is_early", [True, False])
def test_a_start_that_is_given_up_is_a_run_that_is_cancelled(is_early):
    run = Run()
    launch = _Launch(lambda: run)
    if is_early:
        launch.cancel()
    assert launch.start() is run
    assert run.is_cancelled == run.is_given_up == is_early
    launch.cancel()
    assert run.is_cancelled
    # Nobody will see it: what fails is to be logged.
    assert run.is_given_up


def test_blocking_calls_work_in_a_running_loop(runner):
    async def main():
        assert runner.submit(give, LARGE).result(PATIENCE) == LARGE
        assert runner.map(give, [1, 2]).results(timeout=PATIENCE) == [1, 2]
        assert len(list(as_completed(runner.map(give, [1, 2]), PATIENCE))) == 2

    asyncio.run(main())


def test_a_running_loops_thread_is_not_needed_for_an_end(runner):
    gate = Gate("not needed")

    async def main():
        future = runner.submit(gate.pass_through)
        waiter = asyncio.ensure_future(_result_of(future))
        await asyncio.sleep(0)
        gate.open()
        # The loop hangs in somebody's code meanwhile.
        assert eventually(future.done)
        begin = time.monotonic()
        await waiter
        assert time.monotonic() - begin < PATIENCE

    asyncio.run(main())
