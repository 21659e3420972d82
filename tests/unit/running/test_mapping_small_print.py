"""Mapped tasks in the corners of the table: odd values, odd ends, and what is kept of them."""

from __future__ import annotations

import collections
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from fakes import ran
from fakes.gates import Gate, eventually

from dask_taskrunner import (
    Flow,
    LargeArgument,
    MappedFailed,
    MissingResult,
    NotAValue,
    ResultReleased,
    context,
    signals,
    states,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.machine.events import Loss

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


@task
def fail():
    raise ValueError("no list")


@task
def behind_a_failure(x):
    return x


def gated(name):
    """Return a gate, and a task that waits there and passes on what it gets."""
    gate = Gate(name)

    @task(name=name)
    def held(x):
        gate.pass_through()
        return x

    return gate, held


def kinds(runs):
    return [type(run.state).__name__ for run in runs]


# --- what is mapped over -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"trigger": triggers.all_finished}])
@pytest.mark.parametrize("state", ["TriggerFailed", "Crashed", "Cancelled", "TimedOut"])
def test_an_upstream_run_that_did_not_succeed_is_nothing_to_map_over(finish, state, options):
    with Flow("ends") as flow:
        source = behind_a_failure(fail())
        inc.map(source, task_args=options)
    given = {} if state == "TriggerFailed" else {source: getattr(states, state)(message="so")}
    parent = finish(flow, task_states=given or None)["inc"]
    if options:
        assert type(parent.state) is states.Failed
        assert f"nothing to map over: behind_a_failure is {state}" in parent.state.message
    else:
        assert type(parent.state) is states.TriggerFailed
        assert "1 of 1 upstream runs were not successful" in parent.state.message
    assert not parent.children
    assert not parent.attempts


def test_a_list_that_crashed_on_its_way_is_nothing_to_map_over(start, backend):
    gate, made = gated("made")
    with Flow("crashes") as flow:
        inc.map(made([1, 2]))
    run = start(flow)
    gate.wait()
    run._driver.channel.lose((0, -1), Loss("error", "the pickle was broken"))
    assert eventually(lambda: run["made"].state.is_failed())
    gate.open()
    run.wait(20)
    assert type(run["made"].state) is states.Crashed
    assert type(run["inc"].state) is states.TriggerFailed


def test_manual_only_does_not_keep_what_cannot_be_mapped_from_being_told(finish):
    with Flow("manual") as flow:
        inc.map(give("fast"), task_args={"trigger": triggers.manual_only})
        inc.map(give([]), task_args={"trigger": triggers.manual_only, "name": "empty"})
    run = finish(flow)
    assert "Write x=unmapped('fast')" in run["inc"].state.message
    assert run["empty"].state.message == "no elements"


class Hostile:
    """Has elements, and nothing else can be asked of it."""

    def __init__(self, *elements):
        self.elements = elements

    def __iter__(self):
        return iter(self.elements)

    def __repr__(self):
        raise RuntimeError("no repr")

    def __getattr__(self, name):
        if name == "elements":
            raise AttributeError(name)
        raise RuntimeError(f"no {name}")


class Mute:
    """Has no elements, and nothing can be asked of it."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __getattr__(self, name):
        raise RuntimeError(f"no {name}")


def breaking():
    yield 1
    raise LookupError("no more")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: np.arange(4).reshape(2, 2), [[1, 2], [3, 4]]),
        (lambda: pd.Index([1, 2]), [2, 3]),
        (lambda: collections.deque([1, 2]), [2, 3]),
        (lambda: {1: "a", 2: "b"}.keys(), [2, 3]),
        (lambda: zip([1], [2], strict=True), [(1, 2, 0)]),
        (lambda: Hostile(1, 2), [2, 3]),
    ],
    ids=["rows", "Index", "deque", "keys", "zip", "hostile"],
)
def test_other_things_with_elements_are_mapped_over(finish, make, expected):
    by = (0,) if isinstance(expected[0], tuple) else 1
    with Flow("others") as flow:
        inc.map(task(make, name="made")(), unmapped(by))
    found = [np.asarray(x).tolist() if by == 1 else x for x in finish(flow).result()]
    assert found == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "y" * 10_000_000, "yyy"),
        (lambda: b"y" * 10_000_000, "yyy"),
        (Mute, "inc cannot be mapped over x, the result of made, of type Mute"),
        (breaking, "LookupError: no more"),
    ],
    ids=["str", "bytes", "mute", "breaking"],
)
def test_what_is_huge_or_odd_is_told_in_a_short_line(finish, make, message):
    with Flow("odd") as flow:
        inc.map(task(make, name="made")())
    run = finish(flow)
    text = run.failures[0].state.message
    assert message in text
    assert len(text) < 300


@pytest.mark.parametrize("how", ["signal", "handler"])
def test_a_generator_that_comes_another_way_than_by_return_is_made_a_list_as_well(finish, how):
    if how == "signal":

        def made():
            raise signals.SUCCESS(result=iter([1, 2]))

        handlers = []
    else:

        def made():
            return None

        def replace(_, __, new):
            return states.Success(result=iter([1, 2])) if new.is_successful() else None

        handlers = [replace]
    with Flow("ways") as flow:
        total(inc.map(task(made, state_handlers=handlers)()))
    assert finish(flow).result() == 5


def test_such_a_generator_may_break_and_then_its_task_has_failed(finish):
    @task
    def made():
        raise signals.SUCCESS(result=breaking())

    with Flow("breaks") as flow:
        inc.map(made())
    run = finish(flow)
    assert type(run["made"].state) is states.Failed
    assert "LookupError: no more" in run["made"].state.message
    assert type(run["inc"].state) is states.TriggerFailed


def test_a_skip_that_has_a_list_is_a_skip(finish):
    @task
    def made():
        raise signals.SKIP(result=[1, 2])

    with Flow("skips") as flow:
        inc.map(made())
        inc.map(made(), task_args={"skip_on_upstream_skip": False, "name": "still"})
    run = finish(flow)
    assert type(run["inc"].state) is states.Skipped
    assert run["still"].result() == [2, 3]


# --- what a child is -----------------------------------------------------------------------------


def test_arguments_left_at_their_defaults_are_not_mapped(finish):
    @task
    def join(x, words=("a", "b"), *, last=None):
        return x, words, last

    with Flow("defaults") as flow:
        join.map([1, 2, 3])
    assert finish(flow).result() == [(x, ("a", "b"), None) for x in (1, 2, 3)]


def test_only_children_have_an_index(finish):
    @task
    def index(*_):
        return context.map_index

    with Flow("index") as flow:
        first = index.map([7, 7])
        give([index(), first, index(first)])
    assert finish(flow).result() == [-1, [0, 1], -1]


def test_a_chain_of_two_maps_and_what_both_are_reduced_by(finish):
    with Flow("chain") as flow:
        rows = inc.map(give([1, 2, 3]))
        double = inc.map(rows, rows)
        total([total(rows), total(double)])
    assert finish(flow).result() == 9 + 18


@task
def skip_at(x, where=1):
    if x == where:
        raise signals.SKIP("not this one")
    return x


@task(trigger=triggers.all_finished)
def names_of(xs):
    return [x.slug if isinstance(x, MissingResult) else x for x in xs]


def test_a_skipped_child_skips_the_child_behind_it_and_no_other(finish):
    with Flow("skips") as flow:
        names_of(inc.map(skip_at.map([1, 2, 3])))
    run = finish(flow)
    assert kinds(run["inc"].children) == ["Skipped", "Success", "Success"]
    assert run.result("names_of") == ["inc[0]", 3, 4]
    assert run["skip_at"].result() == [None, 2, 3]
    assert run["skip_at"].state.is_successful()
    assert not run["skip_at"].state.is_skipped()


@pytest.mark.parametrize("skips", [True, False])
def test_a_reduce_behind_only_skipped_children_is_skipped_unless_it_says_otherwise(finish, skips):
    with Flow("skips") as flow:
        names_of(skip_at.map([1, 1]), task_args={"skip_on_upstream_skip": skips})
    run = finish(flow)
    if skips:
        assert type(run["names_of"].state) is states.Skipped
    else:
        assert run.result("names_of") == ["skip_at[0]", "skip_at[1]"]


@pytest.mark.parametrize(
    ("trigger", "runs"),
    [
        (triggers.some_failed(at_least=2), True),
        (triggers.some_failed(at_least=3), False),
        (triggers.some_successful(at_least=0.5), True),
        (triggers.some_successful(at_least=0.6), False),
        (triggers.any_failed, True),
        (triggers.all_failed, False),
        (triggers.any_successful, True),
    ],
)
def test_a_trigger_counts_children(finish, trigger, runs):
    @task
    def odd(x):
        if x % 2:
            raise ValueError(x)
        return x

    with Flow("counts") as flow:
        names_of(odd.map(give([0, 1, 2, 3])), task_args={"trigger": trigger})
    run = finish(flow)
    assert (type(run["names_of"].state) is states.Success) == runs
    if runs:
        assert run["names_of"].result() == [0, "odd[1]", 2, "odd[3]"]


def test_a_retry_of_one_child_runs_no_other_again(finish):
    @task(max_retries=2, retry_delay=0)
    def flaky(x):
        if x == 2 and context.task_run_number < 3:
            raise ValueError(x)
        return x

    with Flow("retries") as flow:
        total(inc.map(flaky.map(give([1, 2, 3]))))
    run = finish(flow)
    assert run.result() == 9
    assert [len(child.attempts) for child in run["flaky"].children] == [1, 3, 1]
    assert [len(child.attempts) for child in run["inc"].children] == [1, 1, 1]


def test_handlers_see_the_parent_and_each_child(finish):
    seen = []

    @task(state_handlers=[lambda task, old, new: seen.append((task.slug, type(new).__name__))])
    def noted(x):
        return x

    with Flow("noted") as flow:
        noted.map([1, 2])
    finish(flow)
    # Handlers of children are called on workers: with the task's own copy of the list.
    assert [entry for entry in seen if entry[0] == "noted"] == [
        ("noted", "Running"), ("noted", "Mapped"),
    ]  # fmt: skip


def test_placement_and_priority_are_each_childs(finish):
    @task(resources=lambda attempt: {"memory": attempt}, priority=5, workers="fake://1")
    def placed(x):
        return x

    with Flow("placed") as flow:
        placed.map([1, 2])
    run = finish(flow)
    spec = run._plan.specs[0, -1]
    assert spec.resources(2) == {"memory": 2}
    assert spec.workers == ("fake://1",)
    assert spec.priority == 5


def test_a_child_that_is_lost_is_made_again_alone(start):
    gate, held = gated("held")
    with Flow("lost") as flow:
        total(held.map(give([1, 2])))
    run = start(flow)
    gate.wait()
    run._driver.channel.lose((1, 1), Loss("lost", "its worker died"))
    assert eventually(lambda: run["held[1]"].record.crashes)
    gate.open()
    run.wait(20)
    assert run.result() == 3
    assert run["held[0]"].record.crashes == 0


def test_a_list_that_comes_again_with_another_length_fails_the_children(start):
    gate = Gate("first")
    ran.RAN.clear()

    @task
    def made():
        ran.ran("made")
        return [1, 2, 3][: 4 - len(ran.RAN)]

    @task
    def hold_first(x):
        if x == 0:
            gate.pass_through()
        return x

    with Flow("shrinks") as flow:
        inc.map(made(), hold_first.map([0, 1, 2]))
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run["inc"].children and run["inc[2]"].state.is_successful())
    run._driver.channel.execute_again((0, -1))
    assert eventually(lambda: len(run["made"].attempts) == 2)
    gate.open()
    run.wait(20)
    assert kinds(run["inc"].children) == ["Failed", "Success", "Success"]
    text = "made had 3 elements when inc[0] was mapped over it, and was made again with 2"
    assert text in run["inc[0]"].state.message


def test_what_is_cancelled_in_the_middle_of_a_map_is_cancelled_as_a_whole(start):
    gate, held = gated("held")
    with Flow("cancelled") as flow:
        total(held.map(give([1, 2, 3, 4])))
    run = start(flow)
    gate.wait()
    run.cancel()
    gate.open()
    run.wait(20)
    assert type(run.state) is states.Cancelled
    assert kinds(run["held"].children) == ["Cancelled"] * 4
    assert run["held"].state.counts == {"Cancelled": 4}
    assert type(run["total"].state) is states.Cancelled


# --- what is found, and kept ---------------------------------------------------------------------


def test_the_failure_of_one_child_is_told_with_its_name(finish):
    @task
    def check(x):
        if x > 2:
            raise ValueError(f"{x} is too much")
        return x

    with Flow("told") as flow:
        total(check.map(give([1, 2, 3, 4, 5, 6])))
    run = finish(flow)
    with pytest.raises(MappedFailed) as caught:
        run.result("check")
    assert str(caught.value) == (
        "4 have no result: check[2]: ValueError: 3 is too much; check[3]: ValueError: 4 is too "
        "much; check[4]: ValueError: 5 is too much and 1 more"
    )
    assert "check[2]  ValueError: 3 is too much" in run.failure_text()
    assert [failed.slug for failed in run["check"].children.failed][-1] == "check[5]"
    assert isinstance(run["total"].exception().__cause__, ValueError)
    rows = run.table("check")
    assert [row["state"] for row in rows] == ["Mapped", *["Success"] * 2, *["Failed"] * 4]
    assert rows[3]["inputs"] == {"x": "3"}


def test_a_mapped_run_has_no_future_and_its_children_have(finish):
    with Flow("futures") as flow:
        inc.map(give([1, 2]))
    run = finish(flow)
    with pytest.raises(NotAValue, match=r"\[child.future for child in run\['inc'\].children\]"):
        run["inc"].future  # noqa: B018
    assert [child.future.value for child in run["inc"].children] == [2, 3]


@pytest.mark.parametrize("keep", ["reference", "all", "none"])
def test_children_are_kept_as_keep_says(finish, keep):
    with Flow("kept") as flow:
        first = give.map([LARGE, LARGE])
        task(len).map(first)
        give.map([LARGE], upstream_tasks=[first], task_args={"name": "last"})
    run = finish(flow, keep=keep)
    held = [run._driver.channel.holds(run[slug].record.id) for slug in ("give[0]", "last[0]")]
    assert held == {"reference": [False, True], "all": [True, True], "none": [False, False]}[keep]
    if keep == "none":
        with pytest.raises(ResultReleased, match=r"return_tasks=\['give\[0\]'\]"):
            run["give[0]"].result()


def test_an_element_that_is_too_large_names_its_child(start):
    with Flow("large") as flow:
        give.map(["a", LARGE])
    with pytest.raises(LargeArgument, match=r"'give\[1\]', a str of 300 kB") as caught:
        start(flow, max_constant_bytes=280_000)
    assert caught.value.task == "give[1]"


def test_cache_for_needs_nothing_of_a_map_that_has_no_children(finish):
    with Flow("cached") as flow:
        inc.map(give([]), task_args={"cache_for": timedelta(hours=1)})
    assert finish(flow).result() == []
