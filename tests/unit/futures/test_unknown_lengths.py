"""Maps over results whose length nobody knows yet, and over what was mapped in a flow."""

from __future__ import annotations

import gc
import threading

import pytest
from fakes.fake_backend import FakeFuture
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, context, exceptions, signals, task, triggers, unmapped, wait

LARGE = "x" * 2_000


@task
def give(value=1):
    return value


@task
def add(x, y=0):
    return x + y


@task
def fails():
    raise KeyError("no")


@task
def skips():
    raise signals.SKIP("nothing today")


def gated(name, value):
    """Return a gate, and a function that waits there."""
    gate = Gate(name)

    def held():
        gate.pass_through()
        return value

    return gate, held


# --- whose length is not known -------------------------------------------------------------------


def test_a_map_over_a_future_returns_at_once_and_len_waits_for_the_length(runner):
    gate, held = gated("list", [1, 2, 3])
    futures = runner.map(add, runner.submit(held), y=unmapped(10))
    assert repr(futures) == "<TaskRunFutures add: length not known yet>"
    assert futures.counts == {}
    with pytest.raises(TimeoutError, match="the length of add is not known after 0"):
        futures.results(timeout=0)
    gate.open()
    assert len(futures) == 3
    assert futures.results(timeout=PATIENCE) == [11, 12, 13]
    assert [future.slug for future in futures] == ["add[0]", "add[1]", "add[2]"]
    assert repr(futures) == "<TaskRunFutures add[3]\n  3 Success>"
    assert futures[1:].results() == [12, 13]


def test_the_length_alone_is_waited_for(runner):
    gate, held = gated("children", None)

    def child(x):
        held()
        return x

    futures = runner.map(child, runner.submit(give, [1, 2]))
    assert len(futures) == 2
    assert not any(future.done() for future in futures)
    gate.open()
    assert futures.results(timeout=PATIENCE) == [1, 2]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (list, []),
        (lambda: range(3), [0, 1, 2]),
        (lambda: iter((4, 5)), [4, 5]),
        (lambda: [LARGE], [LARGE]),
    ],
    ids=["empty", "range", "iterator", "large"],
)
def test_whatever_has_elements_is_mapped_over_where_it_lies(runner, make, expected):
    assert runner.map(give, runner.submit(make)).results(timeout=PATIENCE) == expected


def test_the_clusters_own_future_and_a_task_run_are_mapped_over(runner, finish):
    assert runner.map(add, FakeFuture([1, 2])).results(timeout=PATIENCE) == [1, 2]
    with Flow("etl") as flow:
        give([LARGE, "b"])
    run = finish(flow)
    assert runner.map(give, run["give"]).results(timeout=PATIENCE) == [LARGE, "b"]


def test_several_of_them_and_known_ones_go_together(runner):
    xs, ys = runner.submit(give, [1, 2]), runner.submit(give, (10, 20))
    first = runner.map(lambda *parts: parts, xs, ys, [5, 6], xs, unmapped(xs))
    assert first.results(timeout=PATIENCE) == [
        (1, 10, 5, 1, [1, 2]),
        (2, 20, 6, 2, [1, 2]),
    ]
    # The same is made elements of once.
    assert sum(record.plan.name == "elements" for record in runner.records.values()) <= 2
    second = runner.map(add, runner.map(add, xs), ys)
    assert second.results(timeout=PATIENCE) == [11, 22]
    assert runner.submit(sum, runner.map(add, xs)).result(PATIENCE) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("fast", "map: add cannot be mapped over x, of type str. Write x=unmapped('fast') to pass"),
        (None, "map: add cannot be mapped over x, of type NoneType. Write x=unmapped(None)"),
        ({"a": 1}, "Write x=unmapped(...) to pass the whole"),
        (5, "Write x=unmapped(5) to pass the same to each"),
    ],
)
def test_what_is_never_mapped_over_is_told_to_who_asks(runner, value, text):
    futures = runner.map(add, runner.submit(give, value))
    for ask in (lambda: len(futures), futures.results, lambda: wait(futures)):
        with pytest.raises(exceptions.ArgumentError) as caught:
            ask()
        assert text in str(caught.value)
    assert repr(futures) == "<TaskRunFutures add: none, ArgumentError>"
    assert futures.counts == {}
    futures.cancel()
    futures.release()


def test_lengths_that_differ_are_told_to_who_asks(runner):
    xs, ys = runner.submit(give, [1, 2]), runner.submit(give, [1, 2, 3])
    with pytest.raises(exceptions.ArgumentError, match="x has 2, y has 3"):
        len(runner.map(add, xs, ys))
    with pytest.raises(exceptions.ArgumentError, match="x has 2, y has 1"):
        len(runner.map(add, xs, [1]))
    short = runner.map(add, xs, ys, task_args={"zip_shortest": True})
    assert short.results(timeout=PATIENCE) == [2, 4]
    # Those that are known by now are compared by now.
    with pytest.raises(exceptions.ArgumentError, match="argument 2 has 2, argument 3 has 1"):
        runner.map(lambda *parts: parts, xs, [1, 2], [1])


def test_what_failed_or_was_skipped_is_nothing_to_map_over(runner):
    with pytest.raises(exceptions.UpstreamFailed, match="root cause: fails: KeyError"):
        len(runner.map(add, runner.submit(fails)))
    with pytest.raises(exceptions.ArgumentError, match="add has nothing to map over: skips was"):
        len(runner.map(add, runner.submit(skips)))
    paused = runner.submit(give, [1], task_args={"trigger": triggers.manual_only})
    with pytest.raises(exceptions.NotFinished):
        len(runner.map(add, paused))


def test_what_is_wrong_with_the_call_is_told_in_its_line(runner):
    source = runner.submit(give, [1])
    with pytest.raises(exceptions.UnpicklableArgument, match="argument 'y' of 'add'"):
        runner.map(add, source, unmapped(threading.Lock()))
    with pytest.raises(exceptions.ArgumentError, match="missing"):
        runner.map(lambda x, y: x, source)


def test_a_map_that_is_cancelled_before_its_length_is_known_sends_no_child(runner):
    gate, held = gated("cancelled", [1, 2])
    source = runner.submit(held)
    gate.wait()
    futures = runner.map(add, source)
    futures.cancel()
    with pytest.raises(exceptions.TaskCancelled):
        len(futures)
    gate.open()
    assert source.result(PATIENCE) == [1, 2]
    known = runner.map(add, source)
    assert len(known) == 2
    known.cancel()
    assert not wait(known, PATIENCE).not_done


def test_futures_that_nobody_waits_for_run_and_leave_nothing(runner):
    gate, held = gated("dropped", [1, 2])
    source = runner.submit(held)
    futures = runner.map(add, source)
    futures.release()
    gate.open()
    assert eventually(lambda: sum(s.id[1] >= 0 for s in runner.channel.submitted) == 2)
    del futures, source

    def is_empty():
        gc.collect()
        return not runner.records

    assert eventually(is_empty)
    assert not runner.channel._held


def test_leaving_waits_for_maps_whose_length_is_not_known(runner):
    gate, held = gated("leaving", [1, 2])
    futures = runner.map(add, runner.submit(held))
    opener = threading.Timer(0.05, gate.open)
    opener.start()
    runner.leave()
    opener.join()
    assert [future.done() for future in futures] == [True, True]


def test_a_map_whose_runner_is_cancelled_has_no_length(make_runner):
    runner = make_runner()
    gate, held = gated("ended", [1, 2])
    futures = runner.map(add, runner.submit(held))
    gate.wait()
    runner.end()
    gate.open()
    with pytest.raises(exceptions.TaskRunnerError):
        len(futures)


def test_a_list_that_comes_again_with_another_length_fails_its_children(runner, backend):
    gate, held = gated("first", None)

    def child(x, i):
        return x, i

    def late(i):
        if i == 0:
            held()
        return i

    source = runner.submit(give, [LARGE, LARGE])
    futures = runner.map(child, source, runner.map(late, [0, 1]))
    assert futures[1].result(PATIENCE) == (LARGE, 1)
    id = next(r.id for r in runner.records.values() if r.plan.name == "elements")
    with runner.channel._changed:
        fake = runner.channel._task(id)
        fake.value.state.result.append("one more")
    gate.open()
    error = futures[0].exception(PATIENCE)
    assert "had 2 elements when child[0] was mapped over it, and was made again with 3" in str(
        error
    )


# --- what was mapped in a flow -------------------------------------------------------------------


def mapped_flow(values):
    with Flow("mapped") as flow:
        add.map(give(values), unmapped("!"))
    return flow


@pytest.mark.parametrize("values", [["a", LARGE], []], ids=len)
def test_a_mapped_task_run_is_passed_as_its_list(runner, finish, values):
    run = finish(mapped_flow(values))
    expected = [value + "!" for value in values]
    assert runner.submit(give, run["add"]).result(PATIENCE) == expected
    assert runner.submit(give, {"all": [run["add"]]}).result(PATIENCE) == {"all": [expected]}
    assert runner.map(add, run["add"], unmapped("?")).results(timeout=PATIENCE) == [
        value + "?" for value in expected
    ]
    lengths = runner.map(lambda x, xs: (x, len(xs)), [1, 2], unmapped(run["add"]))
    assert lengths.results(timeout=PATIENCE) == [(1, len(values)), (2, len(values))]
    # Once for all of them.
    assert len({future.task_run.record.plan.upstream for future in lengths}) == 1


def test_a_mapped_task_run_that_goes_on_is_followed_child_by_child(runner, start):
    gate, held = gated("flow", None)

    @task
    def child(x):
        if x == 1:
            held()
        return x * 10

    with Flow("goes on") as flow:
        child.map(give([0, 1, 2]))
    run = start(flow)
    futures = runner.map(add, run["child"], unmapped(1))
    total = runner.submit(sum, run["child"])
    assert futures[0].result(PATIENCE) == 1
    assert not total.done()
    gate.open()
    assert total.result(PATIENCE) == 30
    assert futures.results(timeout=PATIENCE) == [1, 11, 21]


def test_children_that_failed_are_upstream_runs_that_failed(runner, finish):
    @task
    def child(x):
        return 1 / x

    with Flow("fails") as flow:
        child.map([1, 0])
    run = finish(flow, keep="all")
    error = runner.submit(sum, run["child"]).exception(PATIENCE)
    assert isinstance(error, exceptions.UpstreamFailed)
    futures = runner.map(add, run["child"])
    assert futures.results("drop", PATIENCE) == [1.0]
    after = runner.submit(lambda: context.slug, upstream_tasks=[run["child"]])
    assert isinstance(after.exception(PATIENCE), exceptions.UpstreamFailed)


def test_a_mapped_task_run_that_has_no_children_is_one_upstream_run(runner, finish):
    with Flow("none") as flow:
        add.map(fails())
    run = finish(flow)
    assert isinstance(
        runner.submit(give, run["add"]).exception(PATIENCE), exceptions.UpstreamFailed
    )
    with pytest.raises(exceptions.UpstreamFailed):
        len(runner.map(add, run["add"]))
