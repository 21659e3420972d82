"""The cluster's own futures among the arguments: what becomes a task run, and what is refused."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from fakes.fake_backend import FakeBackend, FakeFuture, launched

from dask_taskrunner import (
    ArgumentError,
    Flow,
    MissingResult,
    Parameter,
    UnpicklableArgument,
    context,
    packing,
    task,
    triggers,
)
from dask_taskrunner.backend import NOTHING_FOREIGN, Foreign
from dask_taskrunner.planning import FlowPlan, plan_flow


class Kept:
    """Is sent as it is."""


@task
def take(x, *more):
    return x


@task
def look():
    return {name: type(value).__name__ for name, value in context.parameters.items()}


def plan(flow: Flow, foreign: Foreign, **parameters: Any) -> FlowPlan:
    return plan_flow(
        flow, parameters, task_defaults={}, keep="reference", return_tasks=[],
        packer=packing.Packer(), foreign=foreign,
    )  # fmt: skip


FUTURES = Foreign((FakeFuture,), (Kept,))


def test_each_future_is_one_run_before_all_others_however_many_tasks_take_it():
    one, other = FakeFuture(1), FakeFuture(2)
    with Flow("etl") as flow:
        take(take(5), [one, {"deep": (other,)}])
        take(one)
    made = plan(flow, FUTURES)
    assert list(made.ids) == ["dask_future", "dask_future-2", "take", "take-2", "take-3"]
    assert [run.upstream for run in made.machine.runs[2:]] == [
        (), ((0, -1), (1, -1), (2, -1)), ((0, -1),),
    ]  # fmt: skip
    assert [made.specs[n, -1].foreign for n in range(3)] == [one, other, None]
    assert [run.settles for run in made.machine.runs] == [True, True, False, False, False]


def test_a_task_of_the_same_name_keeps_its_slug():
    with Flow("etl") as flow:
        take.with_options(name="dask_future")(FakeFuture(1))
    assert list(plan(flow, FUTURES).ids) == ["dask_future-2", "dask_future"]


def test_a_future_is_an_object_like_others_where_the_cluster_has_none():
    with Flow("etl") as flow:
        take(FakeFuture(1))
    assert list(plan(flow, NOTHING_FOREIGN).ids) == ["take"]


def test_a_future_in_a_parameter_is_a_run_where_the_parameter_is_taken():
    future = FakeFuture(7)
    with Flow("etl") as flow:
        x, _ = Parameter("x"), Parameter("unused")
        take(x)
    made = plan(flow, FUTURES, x=[future], unused=FakeFuture(8))
    assert list(made.ids) == ["dask_future", "take"]
    assert made.specs[0, -1].foreign is future
    assert made.stand_ins.keys() == {"x", "unused"}
    assert isinstance(made.stand_ins["x"], MissingResult)
    assert "only a task that takes the parameter gets its value" in str(made.stand_ins["x"])


def test_the_defaults_of_a_flow_are_not_for_futures():
    with Flow("etl", task_defaults={"max_retries": 3, "trigger": triggers.all_failed}) as flow:
        take(FakeFuture(1))
    first, second = plan(flow, FUTURES).resolved
    assert (first.max_retries, second.max_retries) == (0, 3)
    assert first.trigger is triggers.all_successful


def test_what_cannot_be_used_is_refused_with_the_arguments_name():
    kinds = FUTURES._replace(problem=lambda found: "is stale" if found.value == 2 else None)
    with Flow("etl") as flow:
        take(FakeFuture(1))
        take(5, {"deep": FakeFuture(2)})
    with pytest.raises(ArgumentError, match=r"^argument 'more' of 'take-2' is stale$"):
        plan(flow, kinds)


def test_a_lazy_value_that_cannot_be_pickled_is_refused_with_the_arguments_name():
    with Flow("etl") as flow:
        take(FakeFuture(threading.Lock()))
    with pytest.raises(UnpicklableArgument, match="argument 'x' of 'take' cannot be pickled"):
        plan(flow, FUTURES)


def test_what_must_live_is_kept_for_the_runs_that_get_it_and_parameters_for_all():
    mine, given = Kept(), Kept()
    with Flow("etl") as flow:
        Parameter("p")
        take([mine])
        take(FakeFuture(1))
    made = plan(flow, FUTURES, p=given)
    keeps = {spec.slug: spec.keeps for spec in made.specs.values()}
    assert keeps["take"] == (mine, given)
    assert keeps["take-2"] == (given,)


def test_values_of_futures_arrive_beside_large_parameters(monkeypatch):
    backend = FakeBackend()
    backend.install(monkeypatch)
    with Flow("etl") as flow:
        x, large = Parameter("x"), Parameter("large")
        take(x)
        take(FakeFuture(None))
        take(large)
        look()
    try:
        run = launched(
            backend, flow, parameters={"x": [FakeFuture([1])], "large": "y" * 300_000}
        ).wait(20)
        assert run["take"].result() == [[1]]
        assert run["take-2"].result() is None
        assert len(run["take-3"].result()) == 300_000
        assert run["look"].result() == {"x": "MissingResult", "large": "str"}
        assert run["dask_future"].state.is_successful()
        assert [run[slug].slug for slug in run] == list(run)
    finally:
        backend.close()


def test_a_large_container_is_walked_once_for_all_tasks(monkeypatch):
    walked = []
    from dask_taskrunner.graph import arguments

    items_of = arguments.items_of
    rows = [(n, n) for n in range(5000)]
    monkeypatch.setattr(
        arguments, "items_of", lambda value: walked.append(value is rows) or items_of(value)
    )
    with Flow("etl") as flow:
        for n in range(50):
            take(rows, n)
    built = sum(walked)
    made = plan(flow, NOTHING_FOREIGN)
    assert sum(walked) - built < 10
    assert len(pickle.loads(made.specs[0, -1].arguments)["x"]) == 5000
