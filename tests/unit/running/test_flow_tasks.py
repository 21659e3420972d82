"""Flows that are used as tasks of other flows, from end to end on a cluster in this process."""

from __future__ import annotations

import pytest

from dask_taskrunner import (
    ArgumentError,
    Flow,
    FlowError,
    OptionError,
    Parameter,
    ParameterError,
    UnknownTask,
    apply_map,
    case,
    states,
    task,
    unmapped,
)


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
    raise ValueError("broken")


def make_prep():
    with Flow("prep", task_defaults={"max_retries": 2}) as prep:
        path = Parameter("path")
        window = Parameter("window", default=7, type=int)
        rows = give(path)
        cleaned = inc.map(rows, by=unmapped(window))
        total(cleaned)
    return prep


PREP = make_prep()


def test_a_flow_is_a_task_whose_tasks_are_the_outer_flows(finish):
    sub = PREP.as_task()
    with Flow("outer") as flow:
        start = Parameter("start")
        first = sub(path=give([1, 2]), window=10)
        second = sub(path=start)
        inc(first, second)
    assert [getattr(t, "slug", None) for t in flow.tasks] == [
        "start", "give", "prep/give", "prep/inc", "prep/total", "prep-2/give", "prep-2/inc",
        "prep-2/total", "inc",
    ]  # fmt: skip
    run = finish(flow, parameters={"start": [5]})
    assert run.result() == 23 + 12
    assert run["prep/inc[1]"].result() == 12
    assert run["prep/give"].max_attempts == 3
    prep = run["prep"]
    assert (prep.state, prep.result()) == (states.Success(message="4 Success, 1 Mapped"), 23)
    assert [child.slug for child in prep.children] == [
        "prep/give", "prep/inc", "prep/inc[0]", "prep/inc[1]", "prep/total",
    ]  # fmt: skip
    assert set(run.names.values()) == {"give", "prep", "prep-2", "inc"}
    with pytest.raises(UnknownTask):
        run["prep-3"]


def test_a_decorated_task_means_its_use_outside(finish):
    with Flow("outer") as flow:
        give(PREP.as_task()(path=[1]))
    assert finish(flow)[give].result() == 8


def test_a_result_may_be_chosen_or_is_a_dict(finish):
    with Flow("two") as two:
        x = Parameter("x")
        inc(x)
        give(x)
    with Flow("outer") as flow:
        both = two.as_task()(x=1)
        one = two.as_task(result="give")(x=5)
        total([both["inc"], both["give"], one])
    run = finish(flow)
    assert run.result("total") == 2 + 1 + 5
    assert run["two"].result() == {"inc": 2, "give": 1}
    assert run["two-2"].result() == 5
    # What is of no use to others still decides about the flow.
    assert {t.slug for t in flow.reference_tasks()} == {"two-2/inc", "total"}


def test_flows_in_flows_in_flows(finish):
    with Flow("inner") as inner:
        inc(Parameter("x"))
    with Flow("middle") as middle:
        inc(inner.as_task()(x=Parameter("x")))
    with Flow("outer") as flow:
        inc(middle.as_task()(x=1))
    run = finish(flow)
    assert list(run) == ["middle/inner/inc", "middle/inc", "inc"]
    assert run.result() == 4
    assert run["middle/inner"].result() == 2
    assert run["middle"].result() == 3


def test_a_failure_inside_has_its_path(finish):
    with Flow("inner") as inner:
        inc(fail())
    with Flow("outer") as flow:
        give(inner.as_task()())
    run = finish(flow)
    assert isinstance(run["inner"].state, states.Failed)
    assert run["inner"].state.message == "inner/fail: ValueError: broken"
    assert "root cause: inner/fail: ValueError: broken" in run["give"].state.message
    assert [one.slug for one in run["inner"].failures] == ["inner/fail", "inner/inc"]
    assert "inner/fail  ValueError: broken" in run.failure_text()
    assert repr(run["inner"]).startswith("<GroupRun inner Failed")


def test_what_is_upstream_of_a_use_is_upstream_of_its_roots(finish):
    with Flow("outer") as flow:
        with case(give(1), 2):
            skipped = PREP.as_task()(path=[1])
        PREP.as_task()(path=[1], upstream_tasks=[fail()])
        PREP.as_task()(path=[1], upstream_tasks=skipped)
    run = finish(flow)
    assert isinstance(run["prep"].state, states.Skipped)
    assert isinstance(run["prep-2/give"].state, states.TriggerFailed)
    assert run["prep-2"].state.message.startswith("fail: ValueError")
    assert isinstance(run["prep-3/give"].state, states.Skipped)


def test_a_use_that_goes_on_says_how_far_it_is(start):
    with Flow("outer") as flow:
        PREP.as_task()(path=[1])
    run = start(flow)
    assert isinstance(run["prep"].state, (states.Pending, states.Running, states.Success))
    run.wait(5)
    assert run["prep"].state.is_successful()


def test_a_graph_per_element_may_use_flows(finish):
    with Flow("inner") as inner:
        inc(inc(Parameter("x")))
    with Flow("outer") as flow:
        total(apply_map(lambda x: inner.as_task()(x=x), [1, 2, 3]))
    assert finish(flow).result() == 12


def test_a_copy_has_the_same_uses(finish):
    with Flow("outer") as flow:
        PREP.as_task()(path=[1])
    assert [t.slug for t in flow.copy().tasks] == ["prep/give", "prep/inc", "prep/total"]
    assert finish(flow.copy())["prep"].result() == 8


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda: PREP.as_task()(), ArgumentError, "missing a required .*argument: 'path'"),
        (lambda: PREP.as_task()(path=1, depth=2), ArgumentError, "no parameter 'depth'"),
        (lambda: PREP.as_task()(path=1, window="x"), ParameterError, "takes an int|takes int"),
        (lambda: PREP.as_task("nobody"), UnknownTask, "no task 'nobody'"),
        (lambda: PREP.as_task().with_options(max_retries=1), OptionError, "has no 'max_retries'"),
        (lambda: PREP.as_task()(path=1, task_args={"tags": []}), OptionError, "has no 'tags'"),
        (lambda: PREP.as_task().map([1]), FlowError, "apply_map"),
        (lambda: PREP.as_task().run(), FlowError, "has no function of its own"),
        (lambda: PREP.as_task()(path=PREP.get_tasks("give")[0]), UnknownTask, "was bound in flow"),
    ],
)
def test_wrong_uses_are_told(use, error, text):
    with Flow("wrong") as flow, pytest.raises(error, match=text):
        use()
    assert flow.tasks == ()


def test_another_name(finish):
    with Flow("outer") as flow:
        PREP.as_task().with_options(name="other")(path=[1])
        PREP.as_task()(path=[2], task_args={"name": "third"})
    assert next(iter(finish(flow))) == "other/give"
    assert "third/give" in flow
