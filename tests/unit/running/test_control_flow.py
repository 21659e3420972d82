"""Branches by skipping, merges, and lists of lists, on a cluster in this process."""

from __future__ import annotations

import pytest

from dask_taskrunner import (
    ArgumentError,
    Flow,
    FlowError,
    MissingResult,
    OptionError,
    OutsideFlow,
    Parameter,
    apply_map,
    case,
    drop_missing,
    filter_task,
    flatten,
    ifelse,
    merge,
    product,
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


# --- branches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "result", "runs"),
    [("a", 11, {"a"}), ("b", 21, {"b", "b-2"}), (None, 31, {"none"}), ("z", None, set())],
)
def test_a_switch_runs_the_branch_of_the_value_and_skips_the_others(finish, value, result, runs):
    with Flow("switch") as flow:
        condition = give(value)
        a, none = (give(v, task_args={"name": n}) for v, n in ((10, "a"), (30, "none")))
        b = [give(20, task_args={"name": "b"}), give(0, task_args={"name": "b"})]
        switch(condition, {"a": a, "b": b, None: none})
        merged = merge(inc(a), inc(b[0]), inc(none))
    run = finish(flow)
    assert ran(run) & {"a", "b", "b-2", "none"} == runs
    assert run.result(merged) == result
    assert run.state.is_successful()
    if value == "z":
        assert run[merged].state == states.Skipped(message="all branches were skipped")
        assert run["a"].state.message == "case was skipped"
        assert run["case"].state.message == "'z' is not 'a'"


def test_a_switch_may_have_a_default(finish):
    def flow(value):
        with Flow("default") as flow:
            one, other = give(1), give(2)
            switch(give(value), {"a": one}, default=other)
            merge(one, other)
        return flow

    assert finish(flow("a")).result() == 1
    assert finish(flow("b")).result() == 2


@pytest.mark.parametrize(("value", "result"), [([1], "yes"), ([], "no"), (0, "no"), ("x", "yes")])
def test_ifelse_goes_by_truth(finish, value, result):
    with Flow("ifelse") as flow:
        yes, no = give("yes"), give("no")
        ifelse(give(value), yes, no)
        merge(yes, no)
    run = finish(flow)
    assert run.result() == result


def test_ifelse_may_have_one_branch(finish):
    with Flow("one") as flow:
        only = give(1)
        ifelse(give(True), None, only)
    assert isinstance(finish(flow)[only].state, states.Skipped)


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 2), (2, 1)])
def test_nested_cases(finish, outer, inner):
    with Flow("nested") as flow:
        first, second = Parameter("first"), Parameter("second")
        outside = give("outside")
        with case(first, 1):
            begun = give("begun")
            with case(second, 1):
                deep = pair(begun, outside)
            alone = give(outside)
            mapped = inc.map([1, 2])
    run = finish(flow, parameters={"first": outer, "second": inner})
    expected = {outside}
    if outer == 1:
        expected |= {begun, alone, mapped} | ({deep} if inner == 1 else set())
    assert ran(run) & {b.slug for b in (outside, begun, deep, alone, mapped)} == {
        b.slug for b in expected
    }


def test_a_case_by_a_task_inside_waits_for_no_case_of_its_own(finish):
    with Flow("chain") as flow, case(give(1), 1):
        a = give(5)
        b = inc(a)
    assert {e.upstream_task.slug for e in flow.edges if e.downstream_task is b} == {"give-2"}
    assert finish(flow).result() == 6


def test_a_case_that_was_left_by_an_error_adds_nothing():
    def build(flow):
        with flow, case(give(1), 1):
            give(2)
            raise KeyError

    flow = Flow("error")
    with pytest.raises(KeyError):
        build(flow)
    assert len(flow.edges) == 1


# --- merges --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branches", "state", "result"),
    [
        ([(give, 1), (give, 2)], "Success", 1),
        ([(skip_with, None), (give, None)], "Success", None),
        ([(skip_with, 7), (give, 2)], "Success", 2),
        ([(skip_with, 7), (skip_with, 8)], "Skipped", None),
        ([(give, 1), (fail, None)], "Success", 1),
        ([(fail, None), (give, 1)], "TriggerFailed", "root cause: fail: ValueError: broken"),
        ([(skip_with, 1), (fail, None)], "TriggerFailed", "root cause: fail: ValueError: broken"),
    ],
)
def test_a_merge_is_the_first_that_was_not_skipped(finish, branches, state, result):
    with Flow("merge") as flow:
        merged = merge(*(make() if make is fail else make(value) for make, value in branches))
    run = finish(flow)
    assert type(run[merged].state).__name__ == state
    if state == "TriggerFailed":
        assert result in run[merged].state.message
    else:
        assert run.result(merged) == result


def test_a_trigger_of_its_own_decides_about_failures(finish):
    with Flow("merge") as flow:
        merged = merge(fail(), give(1), task_args={"trigger": triggers.any_successful})
        strict = merge(give(1), fail(), task_args={"trigger": triggers.all_successful})
    run = finish(flow)
    assert run.result(merged) == 1
    assert isinstance(run[strict].state, states.TriggerFailed)


def test_a_merge_that_failed_decides_the_flow(finish):
    with Flow("merge") as flow:
        merge(fail(), give(1))
    assert finish(flow).state.is_failed()


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda: switch(5, {1: None}), OptionError, "takes a bound task or a parameter first"),
        (lambda: case(give, 1), OptionError, r"call it: give\(...\)"),
        (lambda: switch(give(1), {}), OptionError, "switch takes a dict of tasks by value"),
        (lambda: switch(give(1), [1]), OptionError, "switch takes a dict of tasks by value"),
        (lambda: switch(give(1), {1: inc}), FlowError, r"call it: inc\(...\)"),
        (lambda: ifelse(give(1), 5), FlowError, "5 is no task that is bound in flow"),
        (lambda: ifelse(give(1), OTHER), FlowError, "no task that is bound in flow 'wrong'"),
        (lambda: merge(), OptionError, "merge takes the tasks of which one runs"),
        (lambda: merge([give(1), give(2)]), OptionError, "one by one, not in a list"),
        (lambda: switch(give(1), dict.fromkeys("ab", give(2))), FlowError, "is in two branches"),
        (lambda: ifelse(give(1), *[give(2)] * 2), FlowError, r"once for each: give\(...\)"),
        (lambda: product(lr=0.1), ArgumentError, r"column 'lr' is a float.* lr=\[0.1\]"),
        (lambda: product(a=give([1]), b="xy"), ArgumentError, r"'b' is a str.* b=\['xy'\]"),
        (lambda: product(a={1: 2}), ArgumentError, r"Write a=list\(...\)"),
        (lambda: product(), OptionError, "product takes columns by name"),
        (lambda: filter_task(5), OptionError, "filter_task takes a function"),
    ],
)
def test_wrong_uses_are_told(use, error, text):
    with Flow("wrong"), pytest.raises(error, match=text):
        use()


with Flow("other"):
    OTHER = give(1)


@pytest.mark.parametrize("use", [lambda: merge(1), lambda: flatten([]), lambda: drop_missing([])])
def test_a_flow_must_be_there(use):
    with pytest.raises(OutsideFlow):
        use()


# --- lists ---------------------------------------------------------------------------------------


def test_what_is_missing_can_be_dropped(finish):
    with Flow("drop") as flow:
        kept = drop_missing(maybe.map([1, 2, 3, 4]))
    run = finish(flow)
    assert run.result(kept) == [1, 4]
    assert run.state.is_successful()
    assert "1 of 5 task runs failed: maybe[1]" in run.state.message


def test_a_list_can_be_filtered(finish):
    odd = filter_task(is_odd)
    assert odd.name == "is_odd"
    assert filter_task(lambda x: x).name == "filter"
    with Flow("filter") as flow:
        small = filter_task(lambda x: x < 4, "small", trigger=triggers.all_finished)
        total = pair(odd(give([1, 2, 3])), small(maybe.map([1, 2, 3, 4])))
    assert finish(flow).result(total) == ([1, 3], [1])


def test_a_list_of_lists_can_be_flattened(finish):
    with Flow("flatten") as flow:
        numbers = flatten(give.map([[1], [], (2, 3)]))
        mapped = inc.map(numbers)
        lines = flatten(give(["ab", "c"]))
        missing = flatten(maybe.map([[1]]), task_args={"name": "missing"})
    run = finish(flow)
    assert run.result(mapped) == [2, 3, 4]
    assert "element 0 is a str, not a list" in run[lines].state.message
    assert run.result(missing) == [1]


def test_what_is_missing_stays_one_element_of_a_flat_list():
    from dask_taskrunner.graph.lists import _flatten

    gone = MissingResult("a", states.Skipped())
    assert _flatten([[1, 2], gone]) == [1, 2, gone]


def test_a_product_has_an_entry_for_each_combination(finish):
    assert product(lr=[1, 2], depth=(3, 4)) == {"lr": [1, 1, 2, 2], "depth": [3, 4, 3, 4]}
    with Flow("product") as flow:
        depths = give([3, 4])
        pair.map(a=unmapped(0), b=product(b=depths)["b"])
        combined = product(a=[1, 2], b=depths)
        pairs = pair.map(**combined)
        read_once = pair.map(**product(a=iter([1]), b=depths))
    run = finish(flow)
    assert run.result(pairs) == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert run.result(read_once) == [(1, 3), (1, 4)]


# --- a graph per element -------------------------------------------------------------------------


def test_a_small_graph_is_built_for_each_element(finish):
    calls = []

    def one(x, y, offset):
        calls.append(x)
        shared = give("once")
        doubled = pair(x, [offset, inc(y)])
        with case(x > 1, True):
            large = give("large", task_args={"name": "large"})
        with case(x > 1, False):
            small = give("small", task_args={"name": "small"})
        return {"pair": doubled, "size": merge(large, small), "shared": shared}

    with Flow("each") as flow:
        built = apply_map(one, [1, 2, 3], give([10, 20, 30]), offset=unmapped(give(100)))
        done = pair(built["pair"], built["size"])
    run = finish(flow)
    assert len(calls) == 1
    assert run.result(done) == (
        [(1, [100, 11]), (2, [100, 21]), (3, [100, 31])],
        ["small", "large", "large"],
    )
    assert not built["shared"].is_mapped
    assert run["large"].state.counts == {"Skipped": 1, "Success": 2}


def test_a_graph_per_element_may_be_a_chain_with_failures_of_its_own(finish):
    with Flow("chain") as flow:
        done = apply_map(lambda x: pair(maybe(x)), give([1, 2, 4]))
        kept = drop_missing(done)
    run = finish(flow)
    assert run.result(kept) == [(1, None), (4, None)]
    assert isinstance(run[f"{done.slug}[1]"].state, states.TriggerFailed)


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda: apply_map(5, [1]), OptionError, "takes a function that binds tasks"),
        (lambda: apply_map(give, unmapped(1)), ArgumentError, "nothing to map over"),
        (lambda: apply_map(give, inc), ArgumentError, r"call it: inc\(...\)"),
        (lambda: apply_map(give, 5), ArgumentError, "Write value=unmapped"),
        (lambda: apply_map(lambda x: inc.map(x), [[1]]), FlowError, "is mapped in the function"),
        (lambda: apply_map(lambda x: give(Parameter("p")), [1]), FlowError, "parameter 'p' was"),
    ],
)
def test_wrong_graphs_per_element_are_told(use, error, text):
    with Flow("wrong"), pytest.raises(error, match=text):
        use()
