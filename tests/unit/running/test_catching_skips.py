"""What runs whatever became of what is upstream: in branches that are not taken, behind maps."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE

from dask_taskrunner import (
    Flow,
    MissingResult,
    apply_map,
    case,
    drop_missing,
    filter_task,
    flatten,
    ifelse,
    merge,
    signals,
    states,
    switch,
    task,
    triggers,
    unmapped,
)


@task
def give(value):
    return value


@task
def inc(x):
    return x + 1


@task
def fail():
    raise ValueError("broken")


@task
def skip_with(value):
    raise signals.SKIP(result=value)


@task
def pair(a, b=None):
    return (a, b)


@task
def maybe(x):
    if x == 2:
        raise ValueError(x)
    if x == 3:
        raise signals.SKIP
    return x


def is_odd(x):
    return x % 2


def ran(run):
    return {slug for slug, state in run.states.items() if not state.is_skipped()}


@task
def odd_only(x):
    if x % 2 == 0:
        raise signals.SKIP
    return x


CATCHING = {
    "a merge of tasks outside": lambda a, b, xs: merge(a, b),
    "a merge with one task outside": lambda a, b, xs: merge(give(5), b),
    "a merge that has a trigger": lambda a, b, xs: merge(
        a, b, task_args={"trigger": triggers.any_successful}
    ),
    "what is missing of a list outside": lambda a, b, xs: drop_missing(xs),
    "what is missing of a map of a list outside": lambda a, b, xs: drop_missing(inc.map(xs)),
    "what is missing of a map of constants": lambda a, b, xs: drop_missing(inc.map([1, 2])),
    "what is missing of a map of a map": lambda a, b, xs: drop_missing(inc.map(maybe.map(xs))),
}


@pytest.mark.parametrize("catching", CATCHING.values(), ids=CATCHING)
@pytest.mark.parametrize("place", ["case", "outer case", "inner case", "switch", "ifelse"])
def test_what_catches_skips_is_skipped_with_its_branch(finish, catching, place):
    with Flow("untaken") as flow:
        a, b, xs, no = give(1), give(2), give([1, 2]), give(0)
        if place == "case":
            with case(no, 1):
                caught = catching(a, b, xs)
        elif place.endswith("case"):
            with case(no, int(place == "outer case")), case(no, int(place == "inner case")):
                caught = catching(a, b, xs)
        else:
            caught = catching(a, b, xs)
            if place == "switch":
                switch(no, {1: caught})
            else:
                ifelse(no, caught)
        after = pair(caught)
    run = finish(flow)
    assert run[caught].state.is_skipped()
    assert run[after].state.is_skipped()
    assert run.state.is_successful()


@pytest.mark.parametrize("catching", CATCHING.values(), ids=CATCHING)
def test_what_catches_skips_runs_where_its_branch_is_taken(finish, catching):
    with Flow("taken") as flow:
        a, b, xs = give(1), give(2), give([1, 3])
        with case(give(1), 1), case(give(2), 2):
            caught = catching(a, b, xs)
    run = finish(flow)
    assert type(run[caught].state) is states.Success
    assert run.result(caught) in (1, 5, [1, 3], [2, 4], [2, 3], [2])


@pytest.mark.parametrize("catching", CATCHING.values(), ids=CATCHING)
def test_what_catches_skips_fails_where_nobody_knows_its_branch(finish, catching):
    with Flow("unknown") as flow:
        a, b, xs = give(1), give(2), give([1])
        with case(fail(), 1):
            caught = catching(a, b, xs)
        switch(give(0), {1: caught})
    state = finish(flow)[caught].state
    assert isinstance(state, states.TriggerFailed)
    assert "root cause: fail: ValueError: broken" in state.message


def test_a_case_may_be_entered_again_inside_its_own_block(finish):
    with Flow("again") as flow:
        choice = case(give(1), 2)
        with choice:
            before = give("before")
            with choice:
                within = give("within")
            after = give("after")
    run = finish(flow)
    assert not ran(run) & {before.slug, within.slug, after.slug}


def test_what_catches_skips_does_so_for_each_element(finish):
    def one(x, other, flag):
        with case(x > 1, True):
            chosen = merge(other, give("never"))
        with case(flag, False):
            merge(other, x, task_args={"name": "not_at_all"})
        return chosen

    with Flow("each") as flow:
        others, flag = give(["a", "b"]), give(True)
        with case(give(1), 1):
            taken = apply_map(one, [1, 2], others, unmapped(flag))
        with case(give(1), 2):
            untaken = apply_map(merge, give.map([1, 2]), others)
    run = finish(flow)
    assert [type(child.state).__name__ for child in run[taken].children] == ["Skipped", "Success"]
    assert run[f"{taken.slug}[1]"].result() == "b"
    assert run["not_at_all"].state.is_skipped()
    assert run[untaken].state.is_skipped()


def test_what_catches_skips_keeps_its_branch_in_a_copy_of_the_flow(finish):
    with Flow("inner") as inner, case(give(1), 2):
        merge(give("a"), give("b"))
    with Flow("outer") as flow:
        inside = inner.as_task()
        with case(give(3), 3):
            copied = inside()
            outside = merge(copied, give("outside"))
    run = finish(flow)
    assert run["inner/merge"].state.is_skipped()
    assert run.result(outside) == "outside"


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: drop_missing(skip_with(None)), "Skipped", "skip_with was skipped"),
        (lambda: drop_missing(odd_only.map([2, 4])), "Skipped", "all were skipped"),
        (lambda: drop_missing(fail()), "TriggerFailed", "root cause: fail: ValueError: broken"),
        (lambda: drop_missing(give(5)), "Failed", r"is a int, not a list. Write [5]."),
        (lambda: flatten(give("ab")), "Failed", "what is given is a str, not a list"),
        (lambda: flatten(give([{1: 2}])), "Failed", "element 0 is a dict, not a list. Write list("),
        (lambda: filter_task(is_odd)(give(5)), "Failed", "is a int, not a list. Write [5]."),
    ],
)
def test_a_list_that_is_none(finish, make, kind, told):
    with Flow("none") as flow:
        made = make()
    state = finish(flow)[made].state
    assert type(state).__name__ == kind
    assert told in state.message


def test_of_an_empty_list_nothing_is_missing(finish):
    with Flow("empty") as flow:
        kept = drop_missing(inc.map(give([])))
    assert finish(flow).result(kept) == []


# --- merges of mapped tasks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "result"),
    [
        (lambda: inc.map([1]), [2]),
        (lambda: inc.map([]), []),
        (lambda: odd_only.map([1, 2]), None),
        (lambda: odd_only.map([2, 4]), "other"),
        (lambda: inc.map(skip_with([1])), "other"),
        (lambda: maybe.map([1, 2]), "root cause: maybe[1]: ValueError: 2"),
        (lambda: maybe.map([2, 3]), "root cause: maybe[0]: ValueError: 2"),
    ],
)
def test_a_mapped_task_is_one_branch_of_a_merge(finish, first, result):
    with Flow("mapped") as flow:
        merged = merge(first(), give("other"))
        lenient = merge(first(), give("other"), task_args={"trigger": triggers.any_successful})
    run = finish(flow)
    if isinstance(result, str) and result.startswith("root cause"):
        assert isinstance(run[merged].state, states.TriggerFailed)
        assert "maybe, the first that was not skipped, has children" in run[merged].state.message
        assert result in run[merged].state.message
        assert run.result(lenient) == "other"
    elif result is None:
        kept, gone = run.result(merged)
        assert (kept, type(gone)) == (1, MissingResult)
    else:
        assert run.result(merged) == run.result(lenient) == result


@pytest.mark.parametrize(("value", "result"), [(1, [2, 3]), (2, [4, 5]), (3, None)])
def test_branches_that_are_maps_are_merged(finish, value, result):
    with Flow("maps") as flow:
        kind = give(value)
        with case(kind, 1):
            small = inc.map([1, 2])
        with case(kind, 2):
            large = inc.map(inc.map(give([2, 3])))
        merged = merge(small, large)
    run = finish(flow)
    assert run.result(merged) == result
    assert run.state.is_successful()


# --- what somebody wants to run whatever its branch ----------------------------------------------


def in_a_branch(**options):
    with Flow("branch") as flow:
        one = give(1)
        with case(give("no"), "yes"):
            merged = merge(one, task_args=options)
            kept = drop_missing([one], task_args=options)
    return flow, merged, kept


def test_a_start_task_that_catches_skips_runs_in_a_branch_that_is_not_taken(finish):
    flow, merged, kept = in_a_branch()
    earlier = finish(flow, return_tasks="all")
    assert earlier[merged].state.is_skipped()
    again = finish(flow, start_tasks=[merged, kept], task_states=earlier.states)
    assert again.result() == {"merge": 1, "drop_missing": [1]}


def test_so_does_an_approved_one(finish):
    flow, merged, kept = in_a_branch(trigger=triggers.manual_only)
    run = finish(flow)
    run.approve(merged, kept)
    assert run.wait(PATIENCE).result() == {"merge": 1, "drop_missing": [1]}
