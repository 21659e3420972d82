"""Single calls on worker processes: what a fake cannot show."""

from __future__ import annotations

import gc
import operator
import os
import threading

import dask
import pytest
from marks import PATIENCE, eventually, is_whole
from watched import assert_nothing_left, kill, tasks_on

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    MissingResult,
    as_completed,
    context,
    exceptions,
    task,
    triggers,
    unmapped,
    wait,
)

pytestmark = pytest.mark.cluster

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


@task
def add(x, y=0):
    return x + y


@task
def fails(text="no"):
    raise KeyError(text)


class Large(Exception):
    pass


def fails_large():
    raise Large(LARGE)


@task(trigger=triggers.all_finished)
def look(x):
    return type(x.state).__name__ if isinstance(x, MissingResult) else x


def pid(*_):
    return os.getpid()


def hold(marks, name, value=None):
    marks.add(name)
    marks.wait(f"{name} may go")
    return value


# --- the essentials ------------------------------------------------------------------------------


def test_calls_of_all_kinds_give_their_results(runner):
    async def later(x):
        return x + 1

    def numbers(n):
        yield from range(n)

    assert runner.submit(add, 1, y=2).result(PATIENCE) == 3
    assert runner.submit(len, LARGE).result(PATIENCE) == 10_000
    assert runner.submit(operator.add, [1], [2]).result(PATIENCE) == [1, 2]
    assert runner.submit(later, 1).result(PATIENCE) == 2
    assert runner.submit(numbers, 3).result(PATIENCE) == [0, 1, 2]
    assert runner.submit(lambda: context.slug).result(PATIENCE) == "<lambda>"
    assert runner.submit(give, LARGE).result(PATIENCE) == LARGE
    assert runner.submit(pid).result(PATIENCE) != os.getpid()


def test_futures_go_on_at_any_depth_with_retries_triggers_and_failures(runner):
    @task(max_retries=2, retry_delay=0)
    def third_time():
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return 3

    third, failed = runner.submit(third_time), runner.submit(fails, "root")
    value = runner.submit(give, {"a": [third, (runner.submit(give, LARGE),)]})
    assert value.result(PATIENCE) == {"a": [3, (LARGE,)]}
    assert runner.submit(look, failed).result(PATIENCE) == "Failed"
    error = runner.submit(give, failed).exception(PATIENCE)
    assert isinstance(error, exceptions.UpstreamFailed)
    assert error.__cause__.args == ("root",)
    assert any("in fails" in note for note in error.__cause__.__notes__)


def test_a_map_of_a_map_and_a_reduce(runner):
    chunks = runner.map(lambda n: list(range(n)), range(5))
    sizes = runner.map(lambda chunk, scale: scale * len(chunk), chunks, unmapped(10))
    assert sizes.results(timeout=PATIENCE) == [0, 10, 20, 30, 40]
    assert runner.submit(sum, sizes).result(PATIENCE) == 100
    assert chunks.results() == [list(range(n)) for n in range(5)]


def test_large_results_of_many_come_in_one_message(runner, monkeypatch):
    futures = runner.map(give, [LARGE + str(n) for n in range(30)])
    wait(futures, PATIENCE)
    calls = []
    gather = runner.client.gather

    def counting(*args, **kwargs):
        calls.append(1)
        return gather(*args, **kwargs)

    monkeypatch.setattr(runner.client, "gather", counting)
    assert futures.results() == [LARGE + str(n) for n in range(30)]
    assert len(calls) == 1


def test_dask_futures_delayed_values_and_collections_are_arguments(runner, client):
    theirs = client.submit(operator.add, 1, 2)
    lazy = dask.delayed(operator.mul)(2, 5)
    assert runner.submit(add, theirs, lazy).result(PATIENCE) == 13
    assert runner.map(add, [theirs, client.submit(operator.neg, 1)], unmapped(lazy)).results(
        timeout=PATIENCE
    ) == [13, 9]
    bad = client.submit(operator.truediv, 1, 0)
    error = runner.submit(give, bad).exception(PATIENCE)
    assert isinstance(error.__cause__, ZeroDivisionError)
    del theirs, bad, lazy


def test_a_flow_is_gone_on_with_by_hand(runner, marks):
    with Flow("etl") as flow:
        held = task(hold)(marks, "held", LARGE)
        give(held)
    run = runner.start(flow)
    marks.wait("held")
    # One that still runs, and whose result nobody else keeps.
    early = runner.submit(len, run[held])
    marks.add("held may go")
    assert early.result(PATIENCE) == 10_000
    run.wait(PATIENCE)
    assert runner.submit(add, run["give"], run["give"]).result(PATIENCE) == 2 * LARGE
    assert run.result() == LARGE


def test_a_cancelled_call_ends_what_waits_for_it(runner, marks):
    first = runner.submit(hold, marks, "first")
    second = runner.submit(give, first)
    behind = runner.submit(look, second)
    marks.wait("first")
    assert second.cancel()
    assert behind.result(PATIENCE) == "Cancelled"
    marks.add("first may go")
    assert first.result(PATIENCE) is None


def test_many_threads_submit_at_once(runner):
    found, errors = {}, []

    def work(n):
        try:
            futures = runner.map(add, range(10), unmapped(n))
            found[n] = runner.submit(sum, futures).result(PATIENCE)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert found == {n: 45 + 10 * n for n in range(6)}


def test_threads_that_share_a_large_argument_never_miss_it(runner):
    import numpy as np

    array = np.ones(100_000)
    errors = []

    def work():
        try:
            for _ in range(15):
                assert runner.submit(np.sum, array).result(PATIENCE) == 100_000
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_large_array_that_changed_is_sent_anew(runner):
    import numpy as np

    array = np.zeros(100_000)
    first = runner.submit(np.sum, array)
    array[:] = 1
    second = runner.submit(np.sum, array)
    assert (first.result(PATIENCE), second.result(PATIENCE)) == (0, 100_000)


# --- messages and memory -------------------------------------------------------------------------


def test_a_map_of_two_thousand_goes_out_in_few_messages(runner, monkeypatch):
    sent = []
    send = runner.client._send_to_scheduler

    def counting(message):
        if message.get("op") == "update-graph":
            sent.append(message)
        return send(message)

    monkeypatch.setattr(runner.client, "_send_to_scheduler", counting)
    futures = runner.map(add, range(2000), unmapped(1))
    assert sum(futures.results(timeout=60)) == sum(range(2000)) + 2000
    assert len(sent) <= 20


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _loop(runner, count):
    for n in range(count):
        assert runner.submit(add, n, 1).result(PATIENCE) == n + 1


def _assert_nothing_gathers(runner, client):
    driver = runner._session.driver
    assert eventually(lambda: not driver.machine.records)
    channel = driver.channel
    assert not channel._specs
    assert not channel._sender._names
    assert not list(channel._held.all())
    assert not driver.machine.history
    assert not driver.machine.counts
    # The definition of `add` waits for its next use, a copy for each worker.
    assert eventually(lambda: len(client.futures) <= 2)
    assert eventually(lambda: len(tasks_on(client)) <= 2)


def test_results_in_a_loop_leave_nothing(runner, client):
    _loop(runner, 200)
    _assert_nothing_gathers(runner, client)


@pytest.mark.slow
@pytest.mark.many
def test_thousands_of_results_in_a_loop_leave_memory_flat(runner, client):
    # Dask keeps its last 1,000 messages and events, and the scheduler, which is in this process, a
    # span of 5 kB for each time that it had nothing to do: as much for each call of its own.
    _loop(runner, 1200)
    gc.collect()
    before = _resident()
    _loop(runner, 1000)
    gc.collect()
    grown = _resident() - before
    _assert_nothing_gathers(runner, client)
    assert grown < 8_000 * 1000, f"{grown / 1000:.0f} bytes for each call"


def test_what_is_dropped_is_released_but_not_stopped(runner, client, marks):
    future = runner.submit(hold, marks, "dropped", LARGE)
    marks.wait("dropped")
    del future
    runner.map(give, [LARGE] * 3)
    marks.add("dropped may go")
    runner.submit(marks.add, "after").result(PATIENCE)
    # Only definitions are left.
    assert eventually(
        lambda: all(str(key[0]).startswith("definition") for key in tasks_on(client))
    ), tasks_on(client)
    assert eventually(lambda: not runner._session.driver.machine.records)


# --- workers that die ----------------------------------------------------------------------------


def test_what_runs_on_a_worker_that_is_killed_runs_again(runner, marks):
    def works():
        marks.add("works")
        if marks.count("works") == 1:
            marks.wait("never")
        return LARGE

    future = runner.submit(works)
    behind = runner.submit(len, future)
    marks.wait("works")
    assert eventually(future.running)
    kill(marks.pids("works")[0])
    assert behind.result(60) == 10_000
    assert future.result(PATIENCE) == LARGE
    assert [a.outcome for a in future.attempts] == ["worker-lost", "success"]


def test_a_result_on_a_worker_that_is_killed_is_made_again(runner, client):
    futures = runner.map(lambda n: (os.getpid(), LARGE + str(n)), range(4))
    made = futures.results(timeout=PATIENCE)
    kill(made[0][0])
    again = futures.results(timeout=60)
    assert [text for _, text in again] == [text for _, text in made]
    assert again[0][0] != made[0][0]


def test_a_result_that_may_not_be_made_again_is_lost(runner, marks):
    def once():
        marks.add("once")
        if marks.count("once") > 1:
            raise ValueError("not a second time")
        return os.getpid(), LARGE

    future = runner.submit(once, task_args={"max_crash_retries": 0})
    kill(future.result(PATIENCE)[0])
    assert eventually(lambda: marks.count("once") > 1, 60)
    with pytest.raises(exceptions.ResultLost):
        future.result(60)


# --- leaving -------------------------------------------------------------------------------------


@pytest.fixture
def whole(cluster, client):
    """The shared cluster, whole before and empty after the test."""
    assert eventually(lambda: is_whole(cluster))
    yield client
    assert_nothing_left(client)


def test_leaving_waits_for_what_was_submitted(whole, marks):
    with DaskTaskRunner(client=whole) as runner:
        future = runner.submit(hold, marks, "last", LARGE)
        runner.submit(marks.add, "dropped")
        marks.add("last may go")
    assert future.done()
    assert future.result() == LARGE
    assert marks.count("dropped") == 1


def test_leaving_by_an_exception_cancels(whole, marks):
    runner = DaskTaskRunner(client=whole)
    futures = []

    def leave():
        with runner:
            futures.append(runner.submit(hold, marks, "cancelled"))
            futures.append(runner.submit(marks.add, "never", upstream_tasks=futures))
            marks.wait("cancelled")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    future, behind = futures
    marks.add("cancelled may go")
    assert future.cancelled()
    assert behind.cancelled()
    assert marks.count("never") == 0
    with pytest.raises(exceptions.RunnerClosed):
        runner.submit(give)
    with pytest.raises(exceptions.RunnerClosed):
        runner.map(give, [1])


def test_results_are_fetched_at_the_end_smallest_first_up_to_the_limit(whole):
    with Flow("etl") as flow:
        give(LARGE * 3)
    with DaskTaskRunner(client=whole, fetch_limit=65_000) as runner:
        run = runner.run(flow)
        futures = [runner.submit(give, LARGE * n) for n in (4, 1, 2)]
        dropped = runner.submit(give, LARGE)
        wait([*futures, dropped], PATIENCE)
        del dropped
    large, small, middle = futures
    assert small.result() == LARGE
    assert middle.result() == LARGE * 2
    assert run.result() == LARGE * 3
    with pytest.raises(exceptions.ResultReleased, match="the runner closed, and fetch_limit was"):
        large.result()
    with DaskTaskRunner(client=whole) as other, pytest.raises(exceptions.RunnerClosed):
        other.submit(len, small)


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, {"add"}),
        ({"keep": "all"}, {"give", "add"}),
        ({"keep": "none"}, set()),
        ({"return_tasks": "all"}, {"give", "add"}),
        ({"return_tasks": ["give"]}, {"give", "add"}),
    ],
)
def test_what_a_flow_run_keeps_is_what_was_asked_for(runner, options, held):
    with Flow("etl") as flow:
        add(give(LARGE), LARGE)
    run = runner.run(flow, **options)
    for slug in ("give", "add"):
        if slug in held:
            assert run[slug].result().startswith(LARGE)
        else:
            with pytest.raises(exceptions.ResultReleased, match=rf"return_tasks=\['{slug}'\]"):
                run[slug].result()


def test_a_flow_run_without_an_argument_gives_its_reference_results(runner):
    with Flow("one") as one:
        add(give(1), 1)
    with Flow("two") as two:
        give(1)
        add(2)
    assert runner.run(one).result() == 2
    assert runner.run(two).result() == {"give": 1, "add": 2}


# --- the plain value for other Dask code ---------------------------------------------------------
# Dask's own are asked for their exception: one that has raised it lives as long as its client does.


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
def test_future_is_a_dask_future_of_the_plain_value(runner, client, value):
    with Flow("etl") as flow:
        give(value)
    future, run = runner.submit(give, value), runner.run(flow)
    for theirs in (future.future, run["give"].future):
        assert client.submit(operator.add, theirs, value).result(PATIENCE) == 2 * value
        assert dask.delayed(operator.add)(theirs, value).compute(scheduler=client) == 2 * value
        assert theirs.result(PATIENCE) == value
    del theirs


@pytest.mark.parametrize(("f", "kind"), [(fails, KeyError), (fails_large, Large)])
def test_future_of_a_failure_fails_with_the_tasks_own_exception(runner, client, f, kind):
    theirs = runner.submit(f).future
    assert isinstance(client.submit(operator.neg, theirs).exception(PATIENCE), kind)
    del theirs


def test_future_of_what_was_cancelled_or_did_not_run_fails_as_well(runner, marks):
    first = runner.submit(hold, marks, "first")
    marks.wait("first")
    second = runner.submit(give, first)
    second.cancel()
    assert isinstance(second.future.exception(PATIENCE), exceptions.TaskCancelled)
    behind = runner.submit(give, second)
    assert isinstance(behind.future.exception(PATIENCE), exceptions.UpstreamFailed)
    marks.add("first may go")


def test_future_of_what_was_released_says_so(runner):
    future = runner.submit(give, LARGE)
    future.result(PATIENCE)
    future.release()
    assert eventually(lambda: not runner._session.driver.machine.records)
    with pytest.raises(exceptions.ResultReleased):
        future.future  # noqa: B018
    with pytest.raises(exceptions.ResultReleased):
        future.result(PATIENCE)


def test_the_plain_value_outlives_the_future_that_it_came_from(runner):
    theirs = runner.submit(give, LARGE).future
    assert theirs.result(PATIENCE) == LARGE
    del theirs


def test_as_completed_gives_results_as_they_end(runner):
    futures = [*runner.map(add, range(5), unmapped(1)), runner.submit(fails)]
    found = dict(as_completed(futures, PATIENCE, with_results=True))
    assert sorted(r for r in found.values() if isinstance(r, int)) == [1, 2, 3, 4, 5]
    assert isinstance(found[futures[-1]], KeyError)
