"""What calls wait for: futures and task runs, of this runner and of others, in whichever state."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from fakes.fake_backend import FakeBackend, FakeFuture
from fakes.gates import PATIENCE, Gate, eventually
from fakes.sessions import Caller

from dask_taskrunner import (
    Flow,
    MissingResult,
    context,
    exceptions,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.keeping import keep_results

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


@task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
def look(x):
    return type(x.state).__name__ if isinstance(x, MissingResult) else x


def skips():
    raise signals.SKIP("nothing new")


@dataclasses.dataclass(frozen=True)
class Pair:
    left: object
    right: object


# --- futures of the same runner ------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_future_is_replaced_by_its_result(runner, value, is_finished):
    gate = Gate("replaced")

    def waits():
        gate.pass_through()
        return value

    future = runner.submit(waits)
    if is_finished:
        gate.open()
        future.result(PATIENCE)
    reader = runner.submit(look, future)
    gate.open()
    assert reader.result(PATIENCE) == value


def test_futures_are_found_at_any_depth(runner):
    one, two = runner.submit(give, 1), runner.submit(give, LARGE)
    many = runner.map(give, [3, 4])
    value = {"a": [one, (two,)], "b": Pair(one, {"c": many}), "d": {one}, one: 0}
    assert runner.submit(give, value).result(PATIENCE) == {
        "a": [1, (LARGE,)],
        "b": Pair(1, {"c": [3, 4]}),
        "d": {1},
        1: 0,
    }


def test_the_same_future_twice_is_one_upstream_run(runner):
    one = runner.submit(give, 1)
    both = runner.submit(add, one, one, upstream_tasks=[one])
    assert both.result(PATIENCE) == 2
    assert runner.records[both._id].plan.upstream == (one._id,)


def test_a_task_run_of_a_future_is_that_future(runner):
    one = runner.submit(give, LARGE)
    reader = runner.submit(add, one.task_run, one)
    assert reader.result(PATIENCE) == 2 * LARGE


def test_a_future_in_what_is_not_looked_into_is_refused(runner):
    one = runner.submit(give, 1)
    hidden = functools.partial(add, one)
    with pytest.raises(exceptions.UnpicklableArgument) as caught:
        runner.submit(give, hidden)
    assert "the future of 'give' cannot be pickled or copied" in str(caught.value)
    with pytest.raises(exceptions.UnpicklableArgument, match=r"or pass future\.result\(\)"):
        runner.submit(lambda: one)


def test_what_a_future_waits_for_may_be_dropped_at_once(runner):
    future = runner.submit(add, runner.submit(add, runner.submit(give, LARGE), LARGE), LARGE)
    assert future.result(PATIENCE) == 3 * LARGE


def test_upstream_tasks_order_without_data(runner):
    order = Gate("order")
    first = runner.submit(order.pass_through)
    after = runner.submit(give, 2, upstream_tasks=[first])
    one = runner.submit(give, 3, upstream_tasks=first)
    assert not after.done()
    order.open()
    assert (after.result(PATIENCE), one.result(PATIENCE)) == (2, 3)


def test_triggers_skips_and_retries_hold(runner):
    failed, skipped = runner.submit(fails), runner.submit(skips)
    assert isinstance(runner.submit(give, failed).exception(PATIENCE), exceptions.UpstreamFailed)
    assert runner.submit(look, failed).result(PATIENCE) == "Failed"
    passed_on = runner.submit(give, skipped)
    assert passed_on.result(PATIENCE) is None
    assert isinstance(passed_on.state, states.Skipped)
    assert runner.submit(look, skipped).result(PATIENCE) == "Skipped"

    @task(max_retries=2, retry_delay=0)
    def third_time():
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return "at last"

    assert runner.submit(add, runner.submit(third_time), "!").result(PATIENCE) == "at last!"


@pytest.mark.parametrize("wrong", [5, "rows", None, give, [5]])
def test_upstream_tasks_takes_nothing_else(runner, wrong):
    with pytest.raises(exceptions.ArgumentError, match="upstream_tasks takes futures and task"):
        runner.submit(give, 1, upstream_tasks=wrong)


def test_a_bound_task_is_refused_at_any_depth(runner):
    with Flow("etl"):
        rows = give(1)
    for options in ({"value": [rows]}, {"upstream_tasks": [rows]}):
        with pytest.raises(exceptions.ArgumentError) as caught:
            runner.submit(give, **options)
        assert "'give', a task of flow 'etl'" in str(caught.value)
        assert "Run the flow, and pass run['give']" in str(caught.value)


# --- what was let go -----------------------------------------------------------------------------


def test_a_released_future_with_a_small_result_is_passed_on(runner):
    one = runner.submit(give, 1)
    one.result(PATIENCE)
    one.release()
    runner.settled()
    assert runner.submit(add, one, 1).result(PATIENCE) == 2


def test_a_released_future_with_a_large_result_says_so(runner):
    one = runner.submit(give, LARGE)
    one.result(PATIENCE)
    one.release()
    runner.settled()
    with pytest.raises(exceptions.ResultReleased, match="give"):
        runner.submit(add, one, "")


def test_what_another_thread_releases_meanwhile_fails_that_call_alone(runner):
    one = runner.submit(give, LARGE)
    one.result(PATIENCE)
    one.release()
    runner.settled()
    # As it looks to a call that has asked before.
    one._is_held = True
    late = runner.submit(add, one, "")
    with pytest.raises(exceptions.RemoteTaskError, match="was released before it was sent"):
        late.result(PATIENCE)
    one._is_held = False
    assert runner.submit(give, 2).result(PATIENCE) == 2
    assert runner.driver.machine.validate() == []


# --- the cluster's own ---------------------------------------------------------------------------


def test_the_clusters_own_futures_are_upstream_runs(runner):
    theirs = FakeFuture(5)
    assert runner.submit(add, theirs, theirs).result(PATIENCE) == 10
    assert runner.submit(give, [{"a": theirs}]).result(PATIENCE) == [{"a": 5}]
    assert runner.submit(give, 1, upstream_tasks=[theirs]).result(PATIENCE) == 1


# --- another runner on the same cluster ----------------------------------------------------------


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_future_of_another_runner_is_passed_on(make_runner, value, is_finished):
    theirs, ours, gate = make_runner(), make_runner(), Gate("another runner")

    def waits():
        gate.pass_through()
        return value

    future = theirs.submit(waits)
    if is_finished:
        gate.open()
        future.result(PATIENCE)
    reader = ours.submit(look, future)
    del future
    gate.open()
    assert reader.result(PATIENCE) == value
    # What was asked for is let go again.
    assert eventually(lambda: not theirs.records)


def test_a_failed_future_of_another_runner_has_its_own_cause(make_runner):
    theirs, ours = make_runner(), make_runner()
    # Both have a task run of this name; the cause is the one that is upstream.
    ours_failed = ours.submit(fails, "ours")
    failed = theirs.submit(fails, "theirs")
    assert isinstance(failed.exception(PATIENCE), KeyError)
    ours_failed.exception(PATIENCE)
    error = ours.submit(give, failed).exception(PATIENCE)
    assert isinstance(error, exceptions.UpstreamFailed)
    assert error.__cause__.args == ("theirs",)


def test_a_cancelled_future_of_another_runner_is_a_cancelled_upstream(make_runner):
    theirs, ours, gate = make_runner(), make_runner(), Gate("cancelled there")
    future = theirs.submit(gate.pass_through)
    reader = ours.submit(look, future)
    gate.wait()
    assert future.cancel()
    gate.open()
    assert reader.result(PATIENCE) == "Cancelled"


def test_a_reader_that_is_cancelled_first_needs_nothing_of_another_runner(make_runner):
    theirs, ours, gate = make_runner(), make_runner(), Gate("cancelled here")

    def waits():
        gate.pass_through()
        return LARGE

    future = theirs.submit(waits)
    reader = ours.submit(add, future, "")
    assert reader.cancel()
    gate.open()
    assert future.result(PATIENCE) == LARGE
    ours.settled()
    assert isinstance(reader.exception(PATIENCE), exceptions.TaskCancelled)


def test_a_future_of_a_closed_runner_says_so(make_runner):
    theirs, ours = make_runner(), make_runner()
    future = theirs.submit(give, 1)
    future.result(PATIENCE)
    theirs.end()
    with pytest.raises(exceptions.RunnerClosed) as caught:
        ours.submit(add, [future])
    assert str(caught.value) == (
        "add was given 'give', a future of a closed runner; pass its result, future.result(), "
        "where that was kept"
    )


def test_a_future_of_another_client_says_so(runner, monkeypatch):
    other = FakeBackend()
    other.install(monkeypatch)
    theirs = Caller(other)
    try:
        future = theirs.submit(give, 1)
        with pytest.raises(exceptions.ArgumentError) as caught:
            runner.submit(add, future)
        assert str(caught.value) == (
            "add was given 'give', which ran for another Dask client; pass its result, "
            "future.result()"
        )
    finally:
        theirs.end()
        other.close()


# --- task runs of flows --------------------------------------------------------------------------


def etl(*bound):
    with Flow("etl") as flow:
        for task_, *args in bound:
            task_(*args)
    return flow


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
def test_a_flow_is_gone_on_with_by_hand(runner, finish, value):
    run = finish(etl((give, value)))
    assert runner.submit(add, run["give"], value).result(PATIENCE) == 2 * value
    assert runner.submit(give, {"a": [run["give"]]}).result(PATIENCE) == {"a": [value]}
    assert runner.map(give, [run["give"]] * 2).results(timeout=PATIENCE) == [value, value]


def test_a_result_may_be_looked_after_before_its_run_is_known(runner, finish, monkeypatch):
    run = finish(etl((give, LARGE)))
    sweep, add = runner.channel.sweep, runner.channel.add
    swept: list[object] = []

    def sweep_and_count(awaited):
        found = sweep(awaited)
        swept.append(found)
        return found

    def add_and_wait(specs):
        add(specs)
        before = len(swept)
        assert eventually(lambda: len(swept) > before + 1)

    monkeypatch.setattr(runner.channel, "sweep", sweep_and_count)
    monkeypatch.setattr(runner.channel, "add", add_and_wait)
    assert runner.submit(give, run["give"]).result(PATIENCE) == LARGE


@pytest.mark.parametrize("value", [5, LARGE], ids=["small", "large"])
def test_a_flow_that_goes_on_is_waited_for(runner, start, value):
    gate = Gate("goes on")

    @task
    def waits():
        gate.pass_through()
        return value

    with Flow("etl") as flow:
        # Nobody else keeps its result.
        look(waits())
    run = start(flow)
    reader = runner.submit(look, run["waits"])
    gate.open()
    assert reader.result(PATIENCE) == value


def test_a_task_run_that_is_tried_again_is_waited_for(runner, start):
    @task(max_retries=3, retry_delay=0.01)
    def fourth_time():
        if context.task_run_number < 4:
            raise ValueError("not yet")
        return LARGE

    run = start(etl((fourth_time,)))
    assert runner.submit(look, run["fourth_time"]).result(PATIENCE) == LARGE


def test_a_failed_task_run_is_a_failed_upstream(runner, finish):
    run = finish(etl((fails, "root")))
    assert runner.submit(look, run["fails"]).result(PATIENCE) == "Failed"
    error = runner.submit(give, run["fails"]).exception(PATIENCE)
    assert isinstance(error, exceptions.UpstreamFailed)
    assert error.__cause__.args == ("root",)


def test_a_task_run_that_its_flow_left_unfinished_has_no_result(runner, finish):
    @task
    def pauses():
        raise signals.PAUSE("ask somebody")

    run = finish(etl((pauses,)))
    reader = runner.submit(look, run["pauses"])
    assert reader.result(PATIENCE) == "Failed"
    error = runner.submit(give, run["pauses"]).exception(PATIENCE)
    assert "pauses has no result: its own run ended" in str(error)


def test_a_task_run_whose_result_was_released_says_so(runner, finish):
    with Flow("etl") as flow:
        flow.set_reference_tasks([look(give(LARGE))])
    run = finish(flow)
    with pytest.raises(exceptions.ResultReleased) as caught:
        runner.submit(add, run["give"])
    assert "keep it with return_tasks=['give']" in str(caught.value)
    run.release()
    with pytest.raises(exceptions.ResultReleased):
        runner.submit(add, run["look"])


def test_a_result_that_was_fetched_at_the_end_is_passed_as_a_value(runner, finish):
    run = finish(etl((give, LARGE)))
    keep_results([run.holder], 10**6)
    with pytest.raises(exceptions.RunnerClosed) as caught:
        runner.submit(add, run["give"])
    assert str(caught.value).endswith("pass it as a value: run['give'].result()")
    assert runner.submit(add, run["give"].result(), "").result(PATIENCE) == LARGE
