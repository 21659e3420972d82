"""Branches and merges on worker processes, where what they go by is pickled by reference."""

from __future__ import annotations

import pytest

from dask_taskrunner import (
    Flow,
    Parameter,
    apply_map,
    case,
    drop_missing,
    filter_task,
    flatten,
    ifelse,
    merge,
    product,
    states,
    switch,
    task,
    unmapped,
)

pytestmark = pytest.mark.cluster


@task
def give(value):
    return value


@task
def inc(x):
    return x + 1


@task
def inverse(x):
    return 1 / x


@task
def pair(a, b):
    return (a, b)


@pytest.mark.parametrize(
    ("kind", "deep", "result"), [("a", True, [2, 3]), ("a", False, None), ("b", True, 20)]
)
def test_nested_branches_with_maps(runner, kind, deep, result):
    with Flow("branches") as flow:
        chosen, goes_deep = Parameter("kind"), Parameter("deep")
        outside = give([1, 2])
        with case(chosen, "a"), case(goes_deep, True):
            first = inc.map(drop_missing(outside))
        other = give(20)
        switch(chosen, {"b": other})
        merged = merge(first, other)
        with case(chosen, "c"):
            never = merge(drop_missing(inc.map(outside)), outside)
        after = give(never)
    run = runner.run(flow, kind=kind, deep=deep)
    assert run.result(merged) == result
    assert run[after].state.is_skipped()
    assert run.state.is_successful()


def test_a_merge_tells_the_root_cause_of_a_mapped_branch(runner):
    with Flow("cause") as flow:
        inverted = inverse.map([1, 0])
        merged = merge(inverted, give(5))
        kept = drop_missing(inverted)
    run = runner.run(flow)
    assert isinstance(run[merged].state, states.TriggerFailed)
    assert "root cause: inverse[1]: ZeroDivisionError" in run[merged].state.message
    assert run.result(kept) == [1.0]


def test_branches_and_lists_per_element(runner):
    def one(x, flag):
        small, large = give("small"), give("large")
        ifelse(x > 1, large, small)
        with case(flag, False):
            merge(x, small, task_args={"name": "never"})
        return merge(small, large)

    with Flow("elements") as flow:
        lists = give.map([[1], [2, 3]])
        flat = flatten(lists)
        sizes = apply_map(one, flat, unmapped(give(True)))
        odd = filter_task(lambda x: x % 2, "odd")(flat)
        pairs = pair.map(**product(a=odd, b=["x", "y"]))
    run = runner.run(flow)
    assert run.result(sizes) == ["small", "large", "large"]
    assert run["never"].state.is_skipped()
    assert run.result(pairs) == [(1, "x"), (1, "y"), (3, "x"), (3, "y")]
