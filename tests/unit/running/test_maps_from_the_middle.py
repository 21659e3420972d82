"""Flows with mapped tasks that start in their middle: a given parent brings its children."""

from __future__ import annotations

import collections
import pickle

import pytest
from fakes import ran

from dask_taskrunner import (
    Flow,
    MissingResult,
    context,
    signals,
    states,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.exceptions import MissingTaskState, OptionError, ResultReleased
from dask_taskrunner.states import Success

LARGE = "x" * 2_000


@task
def rows(value):
    ran.ran("rows")
    return value


@task
def clean(x):
    ran.ran(f"clean {context.map_index}")
    if x == "bad":
        raise ValueError(x)
    if x == "none":
        raise signals.SKIP
    return x * 2


@task
def again(x):
    ran.ran(f"again {context.map_index}")
    return x + x


@task(trigger=triggers.all_finished)
def gather(xs):
    return [x.slug if isinstance(x, MissingResult) else x for x in xs]


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.RAN.clear()


def etl(values):
    with Flow("etl") as flow:
        cleaned = clean.map(rows(values))
        gather(again.map(cleaned), task_args={"name": "mapped"})
        gather(cleaned)
        flow.set_reference_tasks(["mapped", "gather"])
    return flow


@pytest.mark.parametrize(
    "values", [[1, 2], [LARGE, LARGE + "y"], ["bad", "a", "none"], []], ids=len
)
def test_a_given_parent_brings_its_children(finish, values):
    flow = etl(values)
    first = finish(flow, keep="all")
    ran.RAN.clear()
    run = finish(flow, task_states={"rows": first["rows"].state, "clean": first["clean"].state})
    assert run.result() == first.result()
    assert {name.partition(" ")[0] for name in ran.RAN} <= {"again"}
    assert run["clean"].state.counts == first["clean"].state.counts
    assert [child.slug for child in run["clean"].children] == [
        child.slug for child in first["clean"].children
    ]
    for mine, theirs in zip(run["clean"].children, first["clean"].children, strict=True):
        assert type(mine.state) is type(theirs.state)
        assert not mine.attempts
    assert run.counts == first.counts


def test_what_starts_behind_a_given_map_runs_alone(finish):
    flow = etl([1, 2, 3])
    first = finish(flow, keep="all")
    ran.RAN.clear()
    run = finish(flow, start_tasks=["gather"], task_states={"clean": first["clean"].state})
    assert run.result("gather") == [2, 4, 6]
    assert ran.RAN == []
    assert type(run["again"].state) is states.Pending
    with pytest.raises(MissingTaskState, match="needs a finished state of 'clean'"):
        finish(flow, start_tasks=["gather"])


def test_a_mapped_task_itself_is_where_a_run_starts(finish):
    flow = etl(["bad", "a"])
    first = finish(flow, keep="all")
    ran.RAN.clear()
    run = finish(flow, start_tasks=["clean"], task_states={"rows": first["rows"].state})
    assert sorted(ran.RAN) == ["again 1", "clean 0", "clean 1"]
    assert run.result("gather") == ["clean[0]", "aa"]
    # The start tasks ignore their triggers, and their children do.
    ran.RAN.clear()
    run = finish(flow, start_tasks=["again"], task_states={"clean": first["clean"].state})
    assert sorted(ran.RAN) == ["again 0", "again 1"]


@pytest.mark.parametrize(
    "value", [[5, 6], (5, 6), range(5, 7), collections.deque([5, 6])], ids=repr
)
def test_a_list_of_a_users_own_is_mapped_over(finish, value):
    run = finish(etl([1]), task_states={"rows": Success(value)})
    assert run.result("gather") == [10, 12]
    assert sorted(ran.RAN) == ["again 0", "again 1", "clean 0", "clean 1"]


def test_what_a_user_gives_and_can_be_read_only_once_is_read_once(finish):
    run = finish(etl([1]), task_states={"rows": Success(x for x in (5, 6))})
    assert run.result("gather") == [10, 12]


def test_what_a_user_gives_and_cannot_be_mapped_over_is_told_by_the_parent(finish):
    run = finish(etl([1]), task_states={"rows": Success("fast")})
    assert (
        "clean cannot be mapped over x, the result of rows, of type str"
        in run["clean"].state.message
    )


def test_a_list_given_to_a_mapped_task_is_its_childrens_results(finish):
    given = [7, LARGE]
    run = finish(etl([1]), task_states={"clean": Success(given), "rows": Success([1])})
    assert run.result("gather") == given
    assert run.result("mapped") == [14, LARGE * 2]
    assert run["clean"].result() == given
    assert run["clean"].state.counts == {"Success": 2}
    assert ran.RAN.count("again 1") == 1
    empty = finish(etl([1]), task_states={"clean": Success([])})
    assert empty.result() == {"mapped": [], "gather": []}


@pytest.mark.parametrize("state", [states.Failed("so"), states.Skipped(message="so")], ids=repr)
def test_a_mapped_task_may_have_ended_without_children(finish, state):
    run = finish(etl([1]), task_states={"clean": state})
    assert type(run["clean"].state) is type(state)
    assert not run["clean"].children
    expected = states.Skipped if isinstance(state, states.Skipped) else states.TriggerFailed
    assert type(run["again"].state) is expected


@pytest.mark.parametrize("state", [states.Pending(), states.Paused(), states.Running()], ids=repr)
def test_a_mapped_task_that_has_not_ended_begins_from_the_beginning(finish, state):
    run = finish(etl([1]), task_states={"clean": state})
    assert run.result("gather") == [2]


def test_children_have_the_names_of_the_flow_that_they_are_given_to(finish):
    first = finish(etl([LARGE, "bad"]), keep="all")

    @task(trigger=triggers.all_finished)
    def names(xs):
        return sorted(x.slug for x in xs if isinstance(x, MissingResult))

    @task(trigger=triggers.all_finished)
    def name_of(x, xs):
        return (x.slug if isinstance(x, MissingResult) else len(x)), len(xs)

    with Flow("other") as flow:
        new = again.map([1], task_args={"name": "new"})
        names(new)
        name_of.map(new, unmapped(new))
    run = finish(flow, task_states={"new": first["clean"].state})
    assert run.result("names") == ["new[1]"]
    assert run.result("name_of") == [(4_000, 2), ("new[1]", 2)]


def test_what_cannot_be_given_to_a_mapped_task_says_what_can(start, finish):
    first = finish(etl([1, 2]), keep="all")
    flow = etl([1])
    for given, text in [
        (states.Scheduled(), "its children begin by themselves"),
        (states.Mapped(counts={"Success": 2}), "its children are not known here"),
        (pickle.loads(pickle.dumps(first["clean"].state)), "its children are not known here"),
        (Success("fast"), "is mapped, so its result is a list with one for each child, not a str"),
    ]:
        with pytest.raises(OptionError, match=text):
            start(flow, task_states={"clean": given})
    with pytest.raises(OptionError, match="is Mapped, and 'rows' is not mapped in this flow"):
        start(flow, task_states={"rows": first["clean"].state})


def test_a_list_of_an_earlier_run_that_nothing_was_mapped_over_has_no_known_length(start, finish):
    with Flow("first") as first:
        rows([LARGE])
    earlier = finish(first)
    with pytest.raises(OptionError, match=r"Success\(result=run\['rows'\].result\(\)\)"):
        start(etl([1]), task_states={"rows": earlier["rows"].state})
    # What is small says all of itself.
    with Flow("second") as second:
        rows([3, 4])
    run = finish(etl([1]), task_states={"rows": finish(second)["rows"].state})
    assert run.result("gather") == [6, 8]


def test_what_was_let_go_of_a_child_is_told_with_its_name(start, finish):
    first = finish(etl([LARGE, LARGE]), keep="none")
    with pytest.raises(ResultReleased, match=r"the state given for 'clean\[0\]' is a header"):
        start(etl([1]), task_states={"clean": first["clean"].state})


def test_the_results_of_a_mapped_state_are_not_in_it(finish):
    run = finish(etl([1]))
    with pytest.raises(Exception, match=r"run\['clean'\].result\(\) fetches them"):
        run["clean"].state.result  # noqa: B018
