"""What is wrong with a flow is found without a cluster, all of it at once."""

from __future__ import annotations

import threading

import pytest

from dask_taskrunner import Flow, Parameter, task
from dask_taskrunner.flow_checks import find_problems

lock = threading.Lock()


@task
def add(x, y=0):
    return x + y


@task
def hold(x):
    return lock


@task
def hold_too(x):
    return lock


def test_a_flow_that_can_run_has_no_problem():
    with Flow("sound") as flow:
        add(add(1, 2), Parameter("n", default=3))
    assert find_problems(flow, {}) == []
    assert find_problems(flow, {"n": 4}) == []


def test_all_that_cannot_be_sent_is_told_at_once():
    with Flow("locked") as flow:
        add(lock, y=lock)
        add(hold(1), y=lock)
        hold_too(2)
    problems = find_problems(flow, {})
    for text in ("'x' of 'add'", "'y' of 'add'", "'y' of 'add-2'", "'hold'", "'hold_too'"):
        assert len([problem for problem in problems if text in problem]) == 1, (text, problems)
    assert len(problems) == 5


def test_what_cannot_be_sent_of_a_mapped_task_is_told_by_child():
    with Flow("mapped") as flow:
        add.map([1, lock, 3, lock])
    problems = find_problems(flow, {})
    assert [problem.split(" cannot")[0] for problem in problems] == [
        "argument 'x' of 'add[1]'",
        "argument 'x' of 'add[3]'",
    ]


def test_a_value_that_is_missing_may_be_anything():
    with Flow("mapped") as flow:
        numbers = Parameter("numbers")
        add.map(numbers, y=Parameter("more"))
        hold(numbers)
    problems = find_problems(flow, {})
    assert problems[:2] == [
        "parameter 'numbers' has no value and no default",
        "parameter 'more' has no value and no default",
    ]
    (problem,) = problems[2:]
    assert "'hold'" in problem


def test_a_value_that_is_given_is_looked_at():
    with Flow("mapped") as flow:
        add.map(Parameter("numbers"))
    (problem,) = find_problems(flow, {"numbers": 3})
    assert "numbers" in problem or "add" in problem


def test_a_default_that_cannot_be_sent_is_told():
    with Flow("locked") as flow:
        add(Parameter("key", default=lock))
    problems = find_problems(flow, {})
    assert any("parameter 'key' cannot be pickled" in problem for problem in problems)


def test_what_is_large_is_told_with_the_rest():
    with Flow("large") as flow:
        add(bytes(100_000_001), y=lock)
    (locked, large) = find_problems(flow, {})
    assert "'y' of 'add'" in locked
    assert "100 MB" in large


def test_an_empty_flow_has_nothing_to_run():
    (problem,) = find_problems(Flow("empty"), {})
    assert "empty" in problem


@pytest.mark.parametrize("given", [{}, {"n": 1}])
def test_nothing_of_the_flow_is_run(given):
    calls = []

    @task
    def work(n):
        calls.append(n)

    with Flow("quiet") as flow:
        work(Parameter("n", default=0))
    find_problems(flow, given)
    assert calls == []
