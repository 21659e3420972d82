"""What type checkers are to find; run by nobody, and read by mypy and pyright.

A line that must be an error has ``type: ignore``, and both checkers complain about one that is
superfluous.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from dask_taskrunner import (
    BoundTask,
    DaskTaskRunner,
    Flow,
    FlowRun,
    FunctionTask,
    Task,
    TaskRun,
    TaskRunFuture,
    TaskRunFutures,
    as_completed,
    task,
    unmapped,
    wait,
)


@task
def extract(url: str, limit: int = 10) -> list[str]:
    return [url] * limit


@task(max_retries=3, retry_delay=0.5)
def count(rows: list[str]) -> int:
    return len(rows)


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(name="both")
def split(rows: list[str]) -> tuple[str, int]:
    return rows[0], len(rows)


class Load(Task[bool]):
    def run(self, rows: list[str]) -> bool:
        return bool(rows)


def plain(x: int) -> str:
    return str(x)


async def plain_async(x: int) -> str:
    return str(x)


def tasks() -> None:
    assert_type(extract.run("u", limit=3), list[str])
    assert_type(count.run(["a"]), int)
    assert_type(fetch.run("u"), bytes)
    extract.run(5)  # type: ignore[arg-type]
    extract.run("u", limits=3)  # type: ignore[call-arg]
    assert_type(count.with_options(max_retries=5).run([]), int)
    count.with_options(max_retry=5)  # type: ignore[call-arg]
    also: FunctionTask[[int], str] = task(plain)
    assert_type(also.run(3), str)


def flows() -> Flow:
    with Flow("etl") as flow:
        rows = extract("u")
        assert_type(rows, BoundTask[list[str]])
        assert_type(count(rows), BoundTask[int])
        assert_type(fetch("u"), BoundTask[bytes])
        assert_type(Load()(rows), BoundTask[bool])
        assert_type(split(rows), BoundTask[tuple[str, int]])
        assert_type(rows[0], BoundTask[Any])
    return flow


def running(runner: DaskTaskRunner, flow: Flow, rows: BoundTask[list[str]]) -> None:
    run = runner.run(flow, url="u")
    assert_type(run, FlowRun)
    assert_type(runner.start(flow), FlowRun)
    assert_type(run[rows], TaskRun)
    assert_type(run.result(rows), list[str])
    assert_type(run.result("extract"), Any)
    assert_type(run.result(), Any)


def futures(runner: DaskTaskRunner, run: FlowRun) -> None:
    future = runner.submit(extract, "u", limit=3)
    assert_type(future, TaskRunFuture[list[str]])
    assert_type(future.result(), list[str])
    assert_type(future.exception(), BaseException | None)
    assert_type(runner.submit(count, future, upstream_tasks=[run["extract"]]), TaskRunFuture[int])
    assert_type(runner.submit(plain, 3), TaskRunFuture[str])
    assert_type(runner.submit(plain_async, 3), TaskRunFuture[str])
    assert_type(runner.submit(fetch, "u"), TaskRunFuture[bytes])
    assert_type(runner.submit(Load(), future), TaskRunFuture[bool])
    many = runner.map(count, [[], ["a"]], task_args={"max_retries": 1})
    assert_type(many, TaskRunFutures[int])
    assert_type(many.results(), list[int])
    assert_type(many[0], TaskRunFuture[int])
    assert_type(many[1:], TaskRunFutures[int])
    assert_type(runner.map(plain, range(3)), TaskRunFutures[str])
    assert_type(runner.map(extract, ["u"], limit=unmapped(5)), TaskRunFutures[list[str]])
    done, not_done = wait(many)
    assert_type(done, set[TaskRunFuture[int]])
    assert_type(not_done, set[TaskRunFuture[int]])
    wait(many, return_when="FIRST")  # type: ignore[arg-type]
    for one in as_completed(many):
        assert_type(one, TaskRunFuture[int])
    for one, value in as_completed(many, with_results=True):
        assert_type(one, TaskRunFuture[int])
        assert_type(value, int | BaseException)


async def in_an_event_loop(flow: Flow) -> None:
    async with DaskTaskRunner() as runner:
        assert_type(runner, DaskTaskRunner)
        assert_type(await runner.run_async(flow), FlowRun)
        assert_type(await runner.start(flow), FlowRun)
        assert_type(await runner.submit(plain, 3), str)
        async for one in as_completed(runner.map(plain, [1])):
            assert_type(one, TaskRunFuture[str])


@task
def lines(path: str) -> Iterator[str]:
    yield path


@task
async def pages(url: str) -> AsyncIterator[bytes]:
    yield url.encode()
