"""A runner in event loops: nothing blocks them, and what is cancelled in them is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest
from distributed import Client
from marks import PATIENCE, eventually, is_whole
from watched import assert_nothing_left

from dask_taskrunner import DaskTaskRunner, Flow, Parameter, as_completed, exceptions, task

pytestmark = pytest.mark.cluster

LARGE = "x" * 10_000
#: No event loop may stand still for longer, in seconds.
BLINK = 0.2


@task
def give(value=1):
    return value


@task
def add(x, y=0):
    return x + y


@task
def fails():
    raise KeyError("no")


def hold(marks, name, value=None):
    marks.add(name)
    marks.wait(f"{name} may go")
    return value


async def marked(marks, name):
    """Wait for a mark without blocking the event loop."""
    deadline = time.monotonic() + PATIENCE
    while not marks.count(name):
        assert time.monotonic() < deadline, name
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def beating():
    """Assert that the event loop never stands still in the block."""
    gaps = [0.0]

    async def beat():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    heart = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        heart.cancel()
    assert max(gaps) < BLINK, f"the event loop stood still for {max(gaps):.2f} s"


@pytest.fixture
def whole(cluster, client):
    """The shared cluster, whole before and empty after the test."""
    assert eventually(lambda: is_whole(cluster))
    yield client
    assert_nothing_left(client)


@pytest.fixture
def address(cluster, whole):
    return cluster.scheduler_address


def etl(value="value"):
    with Flow("etl") as flow:
        add(give(Parameter("value", default=value)), value)
    return flow


# --- nothing blocks ------------------------------------------------------------------------------


def test_nothing_blocks_the_event_loop(address):
    async def main():
        async with beating(), DaskTaskRunner(address=address) as runner:
            run = await runner.run_async(etl(LARGE))
            # 80 MB, which take their time to arrive.
            size = len(await runner.submit(bytes, 80_000_000))
            futures = runner.map(give, [LARGE + str(n) for n in range(20)])
            texts = await asyncio.gather(*futures)
            seen = [r async for _, r in as_completed(futures, PATIENCE, with_results=True)]
        assert run.state.is_successful()
        assert run.result() == 2 * LARGE
        assert size == 80_000_000
        assert texts == [LARGE + str(n) for n in range(20)]
        assert sorted(seen) == sorted(texts)

    asyncio.run(main())


def test_a_cluster_is_started_and_closed_without_blocking():
    async def main():
        async with beating():
            options = {"n_workers": 1, "threads_per_worker": 1}
            async with DaskTaskRunner(cluster_kwargs=options) as runner:
                assert await runner.submit(add, 1, 2) == 3

    asyncio.run(main())


def test_a_runner_without_a_block_connects_when_it_is_needed(whole):
    async def main():
        runner = DaskTaskRunner(client=whole)
        run = await runner.run_async(etl(1))
        assert run.result() == 2
        assert await runner.submit(give, 3) == 3
        await asyncio.to_thread(runner.close)

    asyncio.run(main())


# --- flows ---------------------------------------------------------------------------------------


def test_a_started_run_is_awaited(whole):
    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            run = runner.start(etl(), value="a")
            assert await run is run
            assert run.result() == "avalue"

    asyncio.run(main())


def test_a_failed_flow_is_raised_where_that_was_asked_for(whole):
    with Flow("bad") as flow:
        fails()

    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            run = await runner.run_async(flow)
            assert run.state.is_failed()
            with pytest.raises(exceptions.FlowRunFailed):
                await runner.run_async(flow, raise_on_failure=True)
            with pytest.raises(exceptions.ParameterError):
                await runner.run_async(etl(), nothing=1)

    asyncio.run(main())


def test_cancelling_the_await_cancels_the_run(whole, marks):
    with Flow("long") as flow:
        give(task(hold)(marks, "long"))

    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            waiter = asyncio.create_task(runner.run_async(flow))
            await marked(marks, "long")
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            run = runner.last_run
            await run
            assert run.state.is_cancelled()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await runner.run_async(flow)
            assert runner.last_run is not run
            await runner.last_run
            assert runner.last_run.state.is_cancelled()
            marks.add("long may go")

    asyncio.run(main())


class PickledSlowly:
    """An argument that is being packed until a test says otherwise."""

    reached, opened = threading.Event(), threading.Event()

    def __reduce__(self):
        self.reached.set()
        assert self.opened.wait(PATIENCE)
        return int, (5,)


def test_cancelling_the_await_while_the_run_is_being_started_cancels_the_run(whole, marks):
    with Flow("never") as flow:
        give(PickledSlowly())
        task(hold)(marks, "never")

    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            waiter = asyncio.create_task(runner.run_async(flow))
            await asyncio.to_thread(PickledSlowly.reached.wait, PATIENCE)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert runner.last_run is None
            PickledSlowly.opened.set()
            while runner.last_run is None:
                await asyncio.sleep(0.01)
            await runner.last_run
            assert runner.last_run.state.is_cancelled()

    asyncio.run(main())
    marks.add("never may go")


# --- futures -------------------------------------------------------------------------------------


def test_cancelling_an_await_leaves_the_work_alone(whole, marks):
    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            future = runner.submit(hold, marks, "alone", LARGE)
            await marked(marks, "alone")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await future
            assert not future.done()
            marks.add("alone may go")
            assert await future == LARGE
            with pytest.raises(KeyError):
                await runner.submit(fails)
            with pytest.raises(exceptions.UpstreamFailed):
                await runner.submit(give, runner.submit(fails))

    asyncio.run(main())


def test_async_bodies_and_generators_are_tasks(whole):
    async def later(x):
        await asyncio.sleep(0.01)
        return x + 1

    async def numbers_later(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def numbers(n):
        yield from range(n)

    with Flow("async") as flow:
        task(later)(1)
        task(numbers)(2)
        task(numbers_later)(3)

    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            run = await runner.run_async(flow)
            assert run.result() == {"later": 2, "numbers": [0, 1], "numbers_later": [0, 1, 2]}
            futures = [runner.submit(later, 1), runner.submit(numbers_later, 2)]
            assert await asyncio.gather(*futures, runner.submit(numbers, 3)) == [
                2,
                [0, 1],
                [0, 1, 2],
            ]

    asyncio.run(main())


def test_blocking_calls_work_in_a_running_loop(whole):
    async def main():
        with DaskTaskRunner(client=whole) as runner:
            assert runner.run(etl(1)).result() == 2
            assert runner.submit(give, LARGE).result(PATIENCE) == LARGE
            assert runner.map(give, [1, 2]).results(timeout=PATIENCE) == [1, 2]
            assert etl(2).run().result() == 4

    asyncio.run(main())


def test_leaving_by_an_exception_cancels(whole, marks):
    futures = []

    async def main():
        async with DaskTaskRunner(client=whole) as runner:
            futures.append(runner.submit(hold, marks, "left"))
            await marked(marks, "left")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert futures[0].cancelled()
    marks.add("left may go")


def test_a_runner_is_left_in_another_task_than_it_was_entered_in(whole):
    async def main():
        runner = DaskTaskRunner(client=whole)
        await asyncio.create_task(runner.__aenter__())
        assert await runner.submit(give, 5) == 5
        await asyncio.create_task(runner.__aexit__(None, None, None))
        assert runner.closed

    asyncio.run(main())


def test_several_event_loops_share_a_runner(whole):
    found, errors = {}, []

    with DaskTaskRunner(client=whole) as runner:

        async def main(n):
            run = await runner.run_async(etl(n))
            return await runner.submit(add, run["add"], n), await asyncio.gather(
                *runner.map(add, range(3))
            )

        def work(n):
            try:
                found[n] = asyncio.run(main(n))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert found == {n: (3 * n, [0, 1, 2]) for n in range(3)}


# --- a server ------------------------------------------------------------------------------------


class App:
    """What a web framework has: something for its life, and a handler for each request."""

    def __init__(self, client) -> None:
        self.client = client
        self.flow = etl(0)

    @contextlib.asynccontextmanager
    async def lifespan(self):
        async with DaskTaskRunner(client=self.client) as runner:
            self.runner = runner
            yield

    async def __call__(self, scope, receive, send):
        kind, _, number = scope["path"].strip("/").partition("/")
        status, body = 200, ""
        try:
            if kind == "run":
                run = await self.runner.run_async(self.flow, value=int(number))
                body = str(run.result())
            elif kind == "map":
                body = str(sum(await asyncio.gather(*self.runner.map(add, range(int(number))))))
            else:
                body = str(await self.runner.submit(fails))
        except KeyError:
            status, body = 500, "KeyError"
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": body.encode()})


async def request(app, path):
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", "path": path}, None, send)
    return sent[0]["status"], sent[1]["body"].decode()


def test_handlers_of_a_server_share_one_runner(whole):
    async def main():
        app = App(whole)
        async with app.lifespan(), beating():
            paths = [f"/run/{n}" for n in range(5)] + ["/map/4", "/fail"] * 3
            return await asyncio.gather(*(request(app, path) for path in paths))

    answers = asyncio.run(main())
    assert answers[:5] == [(200, str(n)) for n in range(5)]
    assert answers[5:] == [(200, "6"), (500, "KeyError")] * 3


# --- asynchronous clients ------------------------------------------------------------------------


def test_an_asynchronous_client_is_refused_with_the_right_line(address):
    async def main():
        async with Client(address, asynchronous=True, set_as_default=False) as theirs:
            with pytest.raises(exceptions.OptionError) as caught:
                DaskTaskRunner(client=theirs)
            assert "DaskTaskRunner(address=client.scheduler.address)" in str(caught.value)
            async with DaskTaskRunner(address=theirs.scheduler.address) as runner:
                assert await runner.submit(give, 5) == 5

    asyncio.run(main())


def test_an_asynchronous_current_client_is_refused_with_the_right_line(address):
    async def main():
        theirs = Client(address, asynchronous=True, set_as_default=False)
        async with theirs:
            with theirs.as_current():
                for use in (DaskTaskRunner, etl(1).run):
                    with pytest.raises(exceptions.OptionError) as caught:
                        use()
                    text = str(caught.value)
                    assert "write DaskTaskRunner(address=client.scheduler.address)" in text

    asyncio.run(main())


def test_a_forgotten_await_says_so(whole, caplog):
    caplog.set_level(logging.ERROR)
    flow = etl(1)
    with DaskTaskRunner(client=whole) as runner:
        run = runner.run_async(flow)
        with pytest.raises(exceptions.NotAValue, match=r"write `run = await runner\.run_async"):
            run.result()
        with pytest.warns(exceptions.TaskRunnerWarning, match="was not awaited, and nothing was"):
            runner.run_async(flow)
        assert runner.last_run is None
