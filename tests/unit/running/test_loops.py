"""Task runs that run in loops, from end to end on a cluster in this process."""

from __future__ import annotations

import pytest
from fakes.ran import RAN, ran

from dask_taskrunner import Flow, TaskRunner, context, signals, states, task

LARGE = "x" * 10_000


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@task
def give(value):
    return value


@task
def collect(start, until=3):
    ran((context.task_loop_count, context.task_loop_result and len(context.task_loop_result)))
    so_far = (context.task_loop_result or "") + start
    if context.task_loop_count < until:
        raise signals.LOOP(result=so_far)
    return so_far


@task
def size(text):
    return len(text)


def test_a_loop_goes_on_with_what_it_has_so_far(finish):
    with Flow("loop") as flow:
        size(collect(give(LARGE)))
    run = finish(flow)
    assert run.result() == 30_000
    assert RAN == [(1, None), (2, 10_000), (3, 20_000)]
    looped = run["collect"]
    assert [attempt.outcome for attempt in looped.attempts] == ["looped", "looped", "success"]
    assert [attempt.submission for attempt in looped.attempts] == [1, 2, 3]
    shown = [entry.new for entry in run.history if entry.slug == "collect"]
    assert shown == ["Looped", "Looped", "Success"]


def test_a_loop_needs_no_result(finish):
    @task
    def count():
        if context.task_loop_count < 4:
            assert context.task_loop_result is None
            raise signals.LOOP
        return context.task_loop_count

    with Flow("count") as flow:
        count()
    assert finish(flow).result() == 4


def test_each_iteration_has_all_its_retries_and_a_retry_repeats_its_own(finish):
    @task(max_retries=1, retry_delay=0)
    def flaky():
        n, number = context.task_loop_count, context.task_run_number
        ran((n, number, context.task_loop_result))
        if number == 1:
            raise ValueError(n)
        if n < 3:
            raise signals.LOOP(result=[LARGE, n])
        return n

    with Flow("flaky") as flow:
        flaky()
    run = finish(flow)
    assert run.result() == 3
    assert [(n, number, so_far and so_far[1]) for n, number, so_far in RAN] == [
        (1, 1, None), (1, 2, None), (2, 1, 1), (2, 2, 1), (3, 1, 2), (3, 2, 2),
    ]  # fmt: skip


def test_a_loop_that_fails_ends_as_any_task(finish):
    @task
    def ends():
        if context.task_loop_count == 2:
            raise ValueError("enough")
        raise signals.LOOP(result=1)

    with Flow("ends") as flow:
        size(ends())
    run = finish(flow)
    assert run["ends"].state.message == "ValueError: enough"
    assert isinstance(run["size"].state, states.TriggerFailed)


def test_children_loop_each_by_itself(finish):
    @task
    def until(n):
        if context.task_loop_count < n:
            raise signals.LOOP(result=context.task_loop_count)
        return (n, context.task_loop_result)

    with Flow("children") as flow:
        give(until.map(give([1, 3, 2])))
    assert finish(flow).result() == [(1, None), (3, 2), (2, 1)]


def test_nothing_is_left_of_a_loop_that_has_ended(finish):
    with Flow("left") as flow:
        size(collect(give(LARGE)))
    run = finish(flow, keep="none")
    assert run._driver.channel._loops == {}
    assert not any(run._driver.channel.holds(id) for id in run._driver.machine.records)


def test_a_loop_is_known_before_it_goes_on(start):
    @task
    def slow():
        if context.task_loop_count == 1:
            raise signals.LOOP("one more time", result=5)
        return context.task_loop_result

    with Flow("known") as flow:
        slow(task_args={"state_handlers": [lambda task, old, new: ran((type(old), type(new)))]})
    run = start(flow).wait(5)
    assert run.result() == 5
    assert (states.Running, states.Looped) in RAN
    assert (states.Looped, states.Running) in RAN
    (header,) = [e.header for e in run.history if e.new == "Looped"]
    assert (header.message, header.more["loop_count"]) == ("one more time", 1)


def test_a_task_runner_alone_goes_on_from_a_looped_state():
    runner = TaskRunner(collect)
    state = runner.run(inputs={"start": "a", "until": 3})
    assert (type(state), state.result, state.loop_count) == (states.Looped, "a", 1)
    state = runner.run(state)
    assert (state.result, state.loop_count) == ("aa", 2)
    assert runner.run(state) == states.Success("aaa")


def test_a_trigger_cannot_loop(finish):
    def loops(upstream_states):
        raise signals.LOOP

    with Flow("trigger") as flow:
        give(1, task_args={"trigger": loops})
    run = finish(flow)
    assert isinstance(run["give"].state, states.Failed)
    assert "trigger loops" in run["give"].state.message
