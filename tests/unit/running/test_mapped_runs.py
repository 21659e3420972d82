"""Mapped tasks from end to end on a cluster in this process: the table of what is mapped over."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest

from dask_taskrunner import (
    Flow,
    MappedFailed,
    MissingResult,
    Parameter,
    UnknownTask,
    UnpicklableArgument,
    case,
    context,
    signals,
    states,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.exceptions import ArgumentError

LARGE = "x" * 300_000


@task
def give(value):
    return value


@task
def inc(x, by=1):
    return x + by


@task
def total(xs):
    return sum(xs)


@task(trigger=triggers.all_finished)
def look(xs):
    return [type(x).__name__ if isinstance(x, MissingResult) else x for x in xs]


@task
def fail_at(x, where=2):
    if x == where:
        raise ValueError(f"at {x}")
    return x


@task
def fail():
    raise ValueError("no list")


@task
def skip():
    raise signals.SKIP("nothing today")


@task
def cancelled():
    raise signals.CANCELLED("not now")


def mapped_over(make, **options):
    """Return a flow that maps over what a bound task gives, and reduces it."""
    with Flow("table") as flow:
        total(inc.map(make(), task_args=options))
    return flow


# --- what is mapped over -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        np.array([1, 2, 3]),
        pd.Series([1, 2, 3], index=[7, 8, 9]),
        {"a": 1, "b": 2, "c": 3}.values(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_with_elements_is_mapped_over_at_build_time(finish, value):
    with Flow("constants") as flow:
        total(inc.map(value))
    run = finish(flow)
    assert run.result() == 9
    assert run["inc"].state.counts == {"Success": 3}


def numbers():
    yield from (1, 2, 3)


async def numbers_later():
    for n in (1, 2, 3):
        yield n


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, 2, 3],
        lambda: (1, 2, 3),
        lambda: range(1, 4),
        lambda: np.array([1, 2, 3]),
        lambda: pd.Series([1, 2, 3], index=[7, 8, 9]),
        lambda: map(int, "123"),
        lambda: {"a": 1, "b": 2, "c": 3}.values(),
        numbers,
        numbers_later,
    ],
    ids=["list", "tuple", "range", "array", "Series", "map", "values", "generator", "async"],
)
def test_anything_with_elements_that_a_task_returns_is_mapped_over(finish, make):
    run = finish(mapped_over(task(make, name="made")))
    assert run.result() == 9
    assert [child.slug for child in run["inc"].children] == ["inc[0]", "inc[1]", "inc[2]"]


def test_an_empty_one_has_no_children_and_a_reduce_gets_an_empty_list(finish):
    run = finish(mapped_over(lambda: give([])))
    assert run.result() == 0
    assert run["inc"].state.message == "no elements"
    assert run["inc"].result() == []
    assert run["inc"].state.is_successful()
    assert not run["inc"].state.is_skipped()


@pytest.mark.parametrize(
    ("make", "options", "state", "message"),
    [
        (fail, {}, "TriggerFailed", "1 of 1 upstream runs were not successful"),
        (fail, {"trigger": triggers.all_finished}, "Failed", "nothing to map over: fail is Failed"),
        (fail, {"trigger": triggers.any_failed}, "Failed", "nothing to map over: fail is Failed"),
        (cancelled, {}, "TriggerFailed", "(1 Cancelled)"),
        (cancelled, {"trigger": triggers.all_finished}, "Failed", "cancelled is Cancelled"),
        (skip, {}, "Skipped", "skip was skipped"),
        (skip, {"skip_on_upstream_skip": False}, "Failed", "nothing to map over: skip is Skipped"),
        (lambda: give("fast"), {}, "Failed", "Write x=unmapped('fast') to pass the same to each"),
        (lambda: give(b"fast"), {}, "Failed", "of type bytes. Write x=unmapped(b'fast')"),
        (lambda: give({"a": 1}), {}, "Failed", "or list(...) to map over it"),
        (lambda: give({1}), {}, "Failed", "or list(...) to map over it"),
        (lambda: give(pd.DataFrame({"k": [1]})), {}, "Failed", "df.to_dict('records')"),
        (lambda: give(None), {}, "Failed", "of type NoneType. Write x=unmapped(None)"),
        (
            lambda: give(5),
            {},
            "Failed",
            "inc cannot be mapped over x, the result of give, of type int",
        ),
        (lambda: give(np.array(5)), {}, "Failed", "Write x=unmapped(array(5))"),
    ],
)
def test_what_cannot_be_mapped_over_ends_the_parent_alone(finish, make, options, state, message):
    run = finish(mapped_over(make, **options))
    parent = run["inc"]
    assert type(parent.state).__name__ == state
    assert message in parent.state.message
    assert list(parent.children) == []
    assert len(run) == 3
    # Whoever reduces it has one upstream run.
    assert type(run["total"].state).__name__ == (
        "Skipped" if state == "Skipped" else "TriggerFailed"
    )


def test_unequal_lengths_name_both_tasks_and_both_lengths(finish):
    with Flow("unequal") as flow:
        inc.map(give([1, 2]), by=give([1, 2, 3]))
        inc.map(give([1, 2]), by=give([1, 2, 3]), task_args={"zip_shortest": True, "name": "short"})
        inc.map(inc.map(give([1])), by=[1, 2], task_args={"name": "mixed"})
    run = finish(flow)
    assert "give has 2, give-2 has 3" in run["inc"].state.message
    assert run["short"].result() == [2, 4]
    assert "by has 2, inc-2 has 1" in run["mixed"].state.message


def test_manual_only_pauses_each_child(finish):
    for over in ([1, 2], None):
        with Flow("manual") as flow:
            inc.map(over or give([1, 2]), task_args={"trigger": triggers.manual_only})
        run = finish(flow)
        assert run.state == states.Paused(
            message="inc[0], inc[1] wait for run.approve('inc[0]', 'inc[1]')"
        )
        assert isinstance(run["inc"].state, states.Paused)
        assert [type(child.state).__name__ for child in run["inc"].children] == ["Paused"] * 2


# --- what a child sees ---------------------------------------------------------------------------


def test_a_child_of_a_mapped_task_sees_its_own_index_and_everything_else_as_a_whole(finish):
    @task
    def join(x, y, z, *more, **named):
        return [context.map_index, x, y, z, more, named]

    with Flow("sees") as flow:
        first = inc.map(give([1, 2]))
        whole = inc.map([10, 20, 30])
        join.map(
            first, unmapped(whole), unmapped(give("all")), first, unmapped(7), w=[8, 9],
            v=unmapped(first),
        )  # fmt: skip
    run = finish(flow)
    assert run.result() == [
        [0, 2, [11, 21, 31], "all", (2, 7), {"w": 8, "v": [2, 3]}],
        [1, 3, [11, 21, 31], "all", (3, 7), {"w": 9, "v": [2, 3]}],
    ]


def test_a_parameter_and_a_list_of_tasks_are_mapped_over(finish):
    with Flow("others") as flow:
        days = Parameter("days", default=[1, 2])
        by_day = inc.map(days)
        by_task = inc.map([give(1), give(2), 3], by=unmapped(10))
        nested = total.map([[give(1), give(2)], inc.map([1, 2]), [5]])
        give([by_day, by_task, nested])
    assert finish(flow).result() == [[2, 3], [11, 12, 13], [3, 5, 5]]
    assert finish(flow, parameters={"days": (5,)}).result("inc") == [6]
    with pytest.raises(ArgumentError, match="inc cannot be mapped over x, of type str"):
        finish(flow, parameters={"days": "monday"})


def test_of_a_list_of_tasks_a_child_waits_for_its_own(finish):
    with Flow("own") as flow:
        inc.map([give(1), fail(), give(3)])
    run = finish(flow)
    assert [type(child.state).__name__ for child in run["inc"].children] == [
        "Success", "TriggerFailed", "Success",
    ]  # fmt: skip
    assert "root cause: fail: ValueError: no list" in run["inc[1]"].state.message


def test_what_a_map_waits_for_is_waited_for_as_a_whole(finish):
    with Flow("waits") as flow:
        failed = fail()
        over_constants = inc.map([1, 2], upstream_tasks=[failed])
        over_a_task = inc.map(give([1, 2]), upstream_tasks=[failed])
        after_a_map = inc.map([1, 2], upstream_tasks=[fail_at.map([1, 2, 3])])
    run = finish(flow)
    assert run[over_constants].state.counts == {"TriggerFailed": 2}
    # Its list is there, but none of its children could be run.
    assert isinstance(run[over_a_task].state, states.TriggerFailed)
    assert "1 of 3 upstream runs were not successful (1 Failed)" in run["inc-3[0]"].state.message
    assert "root cause: fail_at[1]: ValueError: at 2" in run["inc-3[0]"].state.message
    assert isinstance(run[after_a_map].children[1].state, states.TriggerFailed)


# --- what comes of children ----------------------------------------------------------------------


def reduced(reduce, **options):
    with Flow("reduced") as flow:
        reduce(fail_at.map(give([1, 2, 3]), task_args=options))
    return flow


def test_a_reduce_sees_the_children_by_its_trigger(finish):
    run = finish(reduced(total))
    assert run["fail_at"].state.counts == {"Success": 2, "Failed": 1}
    assert run["fail_at"].state.message == "2 Success, 1 Failed"
    assert "1 of 3 upstream runs were not successful (1 Failed)" in run["total"].state.message
    assert "root cause: fail_at[1]: ValueError: at 2" in run["total"].state.message
    assert [failed.slug for failed in run.failures] == ["fail_at[1]"]
    assert run.failure_text().startswith("reduced 'nightly' failed: 1 of 5 task runs failed, 1 did")
    with pytest.raises(
        MappedFailed, match=r"1 have no result: fail_at\[1\]: ValueError: at 2"
    ) as e:
        run["fail_at"].result()
    assert isinstance(e.value.__cause__, ValueError)
    assert [child.slug for child in run["fail_at"].children.failed] == ["fail_at[1]"]


def test_a_reduce_that_may_run_gets_what_is_missing_as_such(finish):
    assert finish(reduced(look)).result("look") == [1, "MissingResult", 3]


@pytest.mark.parametrize("which", [(), (1,), (1, 2, 3)])
def test_a_reduce_is_skipped_where_all_children_were(finish, which):
    @task
    def maybe(x):
        if x in which:
            raise signals.SKIP
        return x

    with Flow("skips") as flow:
        look(maybe.map([1, 2, 3]))
    run = finish(flow)
    if len(which) == 3:
        assert isinstance(run["look"].state, states.Skipped)
    else:
        assert run["look"].result() == ["MissingResult" if x in which else x for x in (1, 2, 3)]


def test_a_chain_goes_on_where_a_child_has_not_failed(finish):
    with Flow("chain") as flow:
        look(inc.map(fail_at.map(give([1, 2, 3]))))
    run = finish(flow)
    assert run["look"].result() == [2, "MissingResult", 4]
    assert run["inc"].state.counts == {"Success": 2, "TriggerFailed": 1}


def test_each_child_has_its_own_retries_and_handlers(finish):
    told = []

    @task(
        max_retries=1, retry_delay=0, task_run_name="{x}-{map_index}",
        state_handlers=[lambda _, old, new: told.append((type(old), type(new)))],
    )  # fmt: skip
    def flaky(x):
        if x == 2 and context.task_run_number == 1:
            raise ValueError
        return x * 10

    with Flow("retries") as flow:
        total(flaky.map(give([1, 2, 3])))
    run = finish(flow)
    assert run.result() == 60
    assert [len(child.attempts) for child in run["flaky"].children] == [1, 2, 1]
    assert run["flaky[1]"].name == "2-1"
    assert (states.Running, states.Mapped) in told


def test_a_mapped_run_is_found_told_and_tabled_with_its_children(finish):
    run = finish(reduced(look))
    assert list(run) == ["give", "fail_at", "fail_at[0]", "fail_at[1]", "fail_at[2]", "look"]
    assert set(run.states) == set(run)
    assert run["fail_at[2]"].result() == 3
    assert [row["map_index"] for row in run.table("fail_at")] == [-1, 0, 1, 2]
    assert run.counts == {"Success": 4, "Failed": 1}
    with pytest.raises(UnknownTask, match=r"has no task run 'fail_at\[7\]'.*'fail_at' is 3"):
        run["fail_at[7]"]
    with pytest.raises(UnknownTask, match="has no task 'nobody"):
        run["nobody[7]"]
    assert repr(run["fail_at"].children) == "<Children fail_at[0], fail_at[1], fail_at[2]>"


def test_results_of_children_are_kept_as_the_mapped_tasks_are(finish):
    with Flow("kept") as flow:
        made = give.map([LARGE, LARGE])
        total.map([[1]], upstream_tasks=[made])
    assert finish(flow, return_tasks=[made]).result(made) == [LARGE, LARGE]
    run = finish(flow)
    assert not run._driver.channel.holds(run["give[0]"].record.id)


# --- what is sent --------------------------------------------------------------------------------


def test_what_is_large_is_sent_once_and_an_elements_own_constant_with_its_child(finish):
    @task
    def sizes(x, y):
        return (len(x), len(y))

    whole = "y" * 400_000
    with Flow("large") as flow:
        sizes.map([LARGE, "b", LARGE + "c"], unmapped(whole))
    run = finish(flow)
    assert run.result() == [(300_000, 400_000), (1, 400_000), (300_001, 400_000)]
    spec = run._plan.specs[0, -1]
    assert len(spec.constants) == 1
    assert sorted(spec.maps.own_constants) == [0, 2]


def test_many_bytes_for_every_child_are_shared_and_each_may_change_what_it_got(finish):
    @task
    def change(x, options):
        options.append(x)
        return len(options)

    with Flow("shared") as flow:
        change.map([1, 2, 3], unmapped(["option"] * 500))
    run = finish(flow)
    assert run.result() == [501] * 3
    assert run._plan.specs[0, -1].arguments == b""


def test_an_element_that_cannot_be_sent_is_told_by_its_child(start):
    with Flow("open") as flow:
        give.map([1, threading.Lock()])
    with pytest.raises(UnpicklableArgument, match=r"argument .* of 'give\[1\]'"):
        start(flow)


def test_a_reduce_goes_out_once_and_behind_all_children(finish, backend):
    run = finish(mapped_over(lambda: give(list(range(20)))))
    sent = [s for s in run._driver.channel.submitted if s.id[0] == 2]
    assert len(sent) == 1
    assert sent[0].widths == {0: 20}
    expansions = [s for s in run._driver.channel.submitted if s.expands]
    assert len(expansions) == 1


def test_only_the_children_are_counted_once_they_are_there(finish):
    run = finish(mapped_over(lambda: give([1, 2, 3])))
    assert run.counts == {"Success": 5}
    entries = [e for e in run.history if e.slug == "inc"]
    assert [(e.old, e.new) for e in entries] == [("Pending", "Running"), ("Running", "Mapped")]
    assert "Mapped" not in run.counts


@pytest.mark.parametrize("over", ["constant", "children"])
@pytest.mark.parametrize(
    ("condition", "ends"),
    [("untaken", "Skipped"), ("failed", "TriggerFailed"), ("taken", "Success")],
)
def test_an_empty_map_in_a_branch_obeys_it(finish, over, condition, ends):
    value = 2 if condition == "untaken" else 1
    with Flow("branch") as flow:
        none = inc.map(give([]))
        with case(fail() if condition == "failed" else give(1), value):
            saved = give(inc.map([] if over == "constant" else none))
    assert type(finish(flow)[saved].state).__name__ == ends
