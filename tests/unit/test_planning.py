"""From a flow to a plan: what machine and cluster are told, and what is wrong before that."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from dask_taskrunner import Flow, Parameter, exceptions, packing, task, triggers
from dask_taskrunner.graph.options import check_options
from dask_taskrunner.planning import FlowPlan, check_context, plan_flow
from dask_taskrunner.worker.placeholders import Placeholder


@task
def one():
    return 1


@task
def add(x, y=0, *, many=()):
    return x + y


@task(trigger=triggers.all_finished)
def watch(x):
    pass


def plan(flow: Flow, parameters: Any = None, **options: Any) -> FlowPlan:
    given = {
        "task_defaults": {}, "keep": "reference", "return_tasks": [], "packer": packing.Packer(),
    } | options  # fmt: skip
    return plan_flow(flow, parameters or {}, **given)


def arguments(plan: FlowPlan, slug: str) -> dict[str, Any]:
    """Return a task run's arguments, with the position of an upstream run for its result."""

    def shown(value):
        if isinstance(value, Placeholder):
            return f"<{value.position}>"
        if isinstance(value, dict):
            return {key: shown(part) for key, part in value.items()}
        return [shown(part) for part in value] if isinstance(value, list) else value

    return shown(pickle.loads(plan.specs[plan.ids[slug]].arguments))


# --- the plan ------------------------------------------------------------------------------------


def test_runs_stand_in_topological_order_whatever_the_order_of_binding():
    with Flow("etl") as flow:
        last = add.with_options(name="last")
        last_bound = last(0)
        first = one()
        flow.add_edge(first, last_bound, "y")
    made = plan(flow)
    assert [run.slug for run in made.machine.runs] == ["one", "last"]
    assert [run.id for run in made.machine.runs] == [(0, -1), (1, -1)]
    assert made.machine.runs[1].upstream == ((0, -1),)
    assert made.ids == {"one": (0, -1), "last": (1, -1)}


def test_upstream_runs_are_named_once_in_the_plans_order():
    with Flow("etl") as flow:
        a, b = one(), one()
        add(b, a, many=[a, b], upstream_tasks=[a])
    made = plan(flow)
    assert made.machine.runs[2].upstream == ((0, -1), (1, -1))
    assert made.specs[2, -1].upstream_slugs == ("one", "one-2")
    assert arguments(made, "add") == {"x": "<1>", "y": "<0>", "many": ["<0>", "<1>"]}


def test_a_state_edge_orders_and_hands_over_nothing():
    with Flow("etl") as flow:
        first = one()
        add(5, upstream_tasks=[first])
    made = plan(flow)
    assert made.machine.runs[1].upstream == ((0, -1),)
    assert arguments(made, "add") == {"x": 5}


def test_parameters_and_constants_are_no_task_runs_but_arguments():
    with Flow("etl") as flow:
        x = Parameter("x")
        add(x, 5, many=[{"deep": x}])
    made = plan(flow, {"x": 7})
    assert [run.slug for run in made.machine.runs] == ["add"]
    assert made.machine.runs[0].upstream == ()
    assert arguments(made, "add") == {"x": 7, "y": 5, "many": [{"deep": 7}]}


def test_one_definition_is_pickled_once_for_all_that_share_it():
    with Flow("etl") as flow:
        for _ in range(10):
            one()
        one(task_args={"max_retries": 1})
        add(1)
    made = plan(flow)
    assert len(made.definitions) == 3
    assert {made.specs[n, -1].definition for n in range(10)} == {0}
    assert [cloudpickle.loads(data).max_retries for data in made.definitions] == [0, 1, 0]


def test_the_nearest_option_wins():
    with Flow("etl", task_defaults={"max_retries": 2, "priority": 5}) as flow:
        one()
        one.with_options(max_retries=3)(task_args={"priority": 7})
    made = plan(flow, task_defaults={"max_retries": 1, "max_crash_retries": 9})
    assert [definition.max_retries for definition in made.resolved] == [2, 3]
    assert [definition.priority for definition in made.resolved] == [5, 7]
    assert [run.max_crash_retries for run in made.machine.runs] == [9, 9]


LEVELS = ("task_args", "with_options", "decorator", "flow", "runner", "library")


@pytest.mark.parametrize("nearest", range(len(LEVELS)))
def test_of_all_places_that_set_an_option_the_nearest_wins(nearest):
    # Each place is given its own rank as a value; those nearer than the nearest say nothing.
    given = {
        level: {"max_retries": 10 + rank} if rank >= nearest else {}
        for rank, level in enumerate(LEVELS)
    }

    @task(**given["decorator"])
    def work(): ...

    with Flow("etl", task_defaults=given["flow"]) as flow:
        # What is set elsewhere, about something else, hides nothing.
        work.with_options(priority=1, **given["with_options"])(task_args=given["task_args"])
    made = plan(flow, task_defaults=check_options(given["runner"], "DaskTaskRunner"))
    expected = 0 if LEVELS[nearest] == "library" else 10 + nearest
    assert [definition.max_retries for definition in made.resolved] == [expected]
    assert cloudpickle.loads(made.definitions[0]).max_retries == expected


def test_the_cluster_is_told_of_placement_and_the_machine_of_sizes_and_handlers():
    with Flow("etl", state_handlers=[print]) as flow:
        add("x" * 1000, task_args={"workers": "w1", "resources": {"GPU": 1}})
        one(task_args={"workers": ["w1", "w2"], "state_handlers": [print]})
    made = plan(flow)
    assert made.machine.has_handlers
    assert [run.has_handlers for run in made.machine.runs] == [False, True]
    assert made.machine.runs[0].nbytes == len(made.specs[0, -1].arguments) > 1000
    assert made.specs[0, -1].workers == ("w1",)
    assert made.specs[0, -1].resources == {"GPU": 1}
    assert made.specs[1, -1].workers == ("w1", "w2")
    assert made.specs[1, -1].resources is None


# --- priorities ----------------------------------------------------------------------------------


def test_downstream_goes_first_and_nobody_elses_tasks_are_delayed():
    with Flow("etl") as flow:
        first = one()
        second = add(first)
        add(second, first)
        add(5)
    priorities = [plan(flow).specs[n, -1].priority for n in range(4)]
    assert priorities == [-2 / 3, -1 / 3, 0, -2 / 3]


def test_ones_own_priority_comes_on_top():
    with Flow("etl") as flow:
        add(one(task_args={"priority": 10}))
    assert [plan(flow).specs[n, -1].priority for n in range(2)] == [9.5, 0]


# --- what is kept, and what decides --------------------------------------------------------------


def chain():
    with Flow("etl") as flow:
        watch(add(one()))
    return flow


def test_a_terminal_task_that_only_watches_does_not_decide():
    assert plan(chain()).machine.reference == {(1, -1)}


@pytest.mark.parametrize(
    ("keep", "kept"), [("reference", {(1, -1), (0, -1)}), ("none", {(0, -1)}), ("all", None)]
)
def test_return_tasks_are_kept_besides(keep, kept):
    flow = chain()
    wanted = [flow.resolve_task("one")]
    assert plan(flow, keep=keep, return_tasks=wanted).machine.kept == kept


def test_all_are_kept_where_all_are_to_be_returned():
    made = plan(chain(), return_tasks=None)
    assert made.machine.kept is None
    assert made.machine.keeps((0, -1))


# --- what is wrong -------------------------------------------------------------------------------


def test_an_empty_flow_is_refused():
    with pytest.raises(exceptions.EmptyFlow, match="'etl'"):
        plan(Flow("etl"))


def test_an_argument_that_cannot_be_pickled_is_named_with_its_task():
    with Flow("etl") as flow:
        one()
        add(1, many=[threading.Lock()])
    with pytest.raises(exceptions.UnpicklableArgument) as caught:
        plan(flow)
    assert (caught.value.task, caught.value.argument) == ("add", "many")
    assert str(caught.value).startswith(
        "argument 'many' of 'add' cannot be pickled: TypeError: cannot pickle '_thread.lock' object"
    )


def test_a_parameter_that_cannot_be_pickled_is_named_by_the_argument():
    with Flow("etl") as flow:
        add(Parameter("x"))
    with pytest.raises(exceptions.UnpicklableArgument, match="argument 'x' of 'add'"):
        plan(flow, {"x": threading.Lock()})


def test_a_task_that_cannot_be_pickled_is_named():
    lock = threading.Lock()

    @task
    def locks():
        with lock:
            pass

    with Flow("etl") as flow:
        locks()
    with pytest.raises(exceptions.UnpicklableArgument, match="task 'locks' cannot be pickled"):
        plan(flow)


def test_what_only_hangs_together_cannot_be_pickled_is_an_error_all_the_same(monkeypatch):
    dumps = packing.dumps

    # Whatever it was that failed for all arguments at once and for none alone.
    def fails_for_all(value):
        if set(value) == {"x", "y"}:
            raise RecursionError("too deep")
        return dumps(value)

    monkeypatch.setattr(
        packing,
        "dumps",
        lambda value: fails_for_all(value) if isinstance(value, dict) else dumps(value),
    )
    with Flow("etl") as flow:
        add(1, 2)
    with pytest.raises(RecursionError):
        plan(flow)


def test_what_pickle_refers_to_a_script_goes_by_value():
    namespace = {"__name__": "__main__"}
    exec("class Mine:\n    x = 5\ndef double(x): return 2 * x", namespace)
    with Flow("etl") as flow:
        add(namespace["Mine"], namespace["double"], many=[lambda: 1])
    again = arguments(plan(flow), "add")
    assert again["x"].x == 5
    assert again["y"](4) == 8
    assert again["many"][0]() == 1


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({"parameters": {"x": threading.Lock()}}, "parameter 'x' cannot be pickled"),
        ({"parameters": {}, "lock": threading.Lock()}, "the context's 'lock' cannot be pickled"),
    ],
)
def test_a_context_that_cannot_be_sent_is_found_before_anything_is(context, text):
    with pytest.raises(exceptions.UnpicklableArgument, match=text):
        check_context(context, context.pop("parameters"))


def test_what_a_script_defines_may_be_in_a_context():
    namespace = {"__name__": "__main__"}
    exec("class Mine: pass", namespace)
    check_context({"mine": namespace["Mine"]()}, {"double": lambda x: 2 * x})


def test_a_context_that_can_be_sent_is_fine():
    check_context({"region": "eu"}, {"x": 1})


def test_a_large_parameter_is_sent_once_and_stands_in_no_context():
    numbers = list(range(200_000))
    with Flow("etl") as flow:
        x, _ = Parameter("x"), Parameter("y")
        add(x)
        one()
    made = plan(flow, {"x": numbers, "y": 5})
    (constant,) = made.specs[0, -1].constants
    assert made.specs[1, -1].constants == (constant,)
    assert pickle.loads(constant.data) == numbers
    assert made.stand_ins.keys() == {"x"}
    assert [run.settles for run in made.machine.runs] == [True, True]


def test_a_very_large_definition_is_warned_of(monkeypatch):
    monkeypatch.setattr(packing, "VERY_LARGE", 50_000)
    data = "x" * 60_000

    @task
    def closes_over():
        return data

    with Flow("etl") as flow:
        closes_over()
        closes_over()
        one()
    (text,) = plan(flow).warnings
    assert text.startswith("the definition of task 'closes_over', of 6")


# --- large flows, by the work counted ------------------------------------------------------------


def test_planning_10000_runs_pickles_each_argument_list_once_and_the_task_once(monkeypatch):
    counts = {"values": 0, "tasks": 0}

    def counting(name, function):
        def call(value):
            counts[name] += 1
            return function(value)

        return call

    monkeypatch.setattr(packing, "dumps", counting("values", packing.dumps))
    monkeypatch.setattr(packing, "pickle_task", counting("tasks", packing.pickle_task))
    with Flow("large") as flow:
        runs = [add(n) for n in range(10_000)]
        add(0, many=runs)
    made = plan(flow)
    assert len(made.machine.runs) == 10_001
    assert counts == {"values": 10_001, "tasks": 1}
    assert len(made.machine.runs[-1].upstream) == 10_000
