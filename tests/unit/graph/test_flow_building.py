import contextvars
import copy
import itertools
import pickle
import threading
import time
from dataclasses import dataclass

import cloudpickle
import pytest

from dask_taskrunner import (
    ArgumentError,
    CycleError,
    Edge,
    Flow,
    FlowError,
    OptionError,
    OutsideFlow,
    Parameter,
    ParameterError,
    UnknownTask,
    hooks,
    task,
)


@task
def extract(url="x"): ...


@task
def clean(rows, threshold=5, **more): ...


@task
def load(*tables): ...


@dataclass
class Job:
    rows: object


def edges(flow):
    return [(e.upstream_task.slug, e.downstream_task.slug, e.key) for e in flow.edges]


# --- blocks --------------------------------------------------------------------------------------


def test_a_block_can_be_entered_again_later():
    with Flow("etl") as flow:
        rows = extract()
    with flow:
        clean(rows)
    assert edges(flow) == [("extract", "clean", "rows")]


def test_the_innermost_block_gets_the_task():
    with Flow("outer") as outer:
        extract()
        with Flow("inner") as inner, inner:
            extract()
        extract()
    assert [len(flow.tasks) for flow in (outer, inner)] == [2, 1]


def test_a_block_left_by_an_exception_is_left():
    with pytest.raises(ZeroDivisionError), Flow("etl"):
        1 / 0  # noqa: B018
    with pytest.raises(OutsideFlow):
        extract()


def test_blocks_belong_to_their_thread():
    caught = []

    def other():
        try:
            extract()
        except OutsideFlow as error:
            caught.append(error)

    with Flow("etl") as flow:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert caught
    assert flow.tasks == ()


def test_leaving_a_block_in_a_copied_context_leaves_it_there_only():
    with Flow("etl") as flow:
        contextvars.copy_context().run(flow.__exit__)
        extract()
    assert len(flow.tasks) == 1


@pytest.mark.parametrize("name", ["", None, 5, "a/b"])
def test_the_name_of_a_flow_is_checked(name):
    with pytest.raises(OptionError, match="Flow: name must be a text"):
        Flow(name)


def test_the_options_of_a_flow_are_checked():
    with pytest.raises(OptionError, match=r"Flow\('etl'\), task_defaults: there is no option"):
        Flow("etl", task_defaults={"max_retry": 1})
    with pytest.raises(OptionError, match=r"Flow\('etl'\): state_handlers must be a list of"):
        Flow("etl", state_handlers=print)
    assert Flow("etl", state_handlers=[print]).state_handlers == (print,)


# --- edges of calls --------------------------------------------------------------------------


def test_an_argument_that_holds_tasks_makes_an_edge_for_each():
    with Flow("etl") as flow:
        a, b, c = extract(), extract(), extract()
        clean({"x": [a, (b, Job(c))], "y": a})
    assert edges(flow) == [
        ("extract", "clean", "rows"),
        ("extract-2", "clean", "rows"),
        ("extract-3", "clean", "rows"),
    ]


def test_an_edge_names_the_argument():
    with Flow("etl") as flow:
        a = extract()
        clean(a, threshold=a, x=a)
        load(a, [a])
    assert edges(flow) == [
        ("extract", "clean", "rows"),
        ("extract", "clean", "threshold"),
        ("extract", "clean", "x"),
        ("extract", "load", "tables"),
    ]


def test_upstream_tasks_order_without_data():
    with Flow("etl") as flow:
        a, b = extract(), extract()
        clean(a, upstream_tasks=[a, b, "extract-2"])
    assert edges(flow) == [
        ("extract", "clean", "rows"),
        ("extract", "clean", None),
        ("extract-2", "clean", None),
    ]


@pytest.mark.parametrize("upstream", ["extract", ["extract"], extract, [extract], None])
def test_upstream_tasks_are_named_like_anywhere(upstream):
    with Flow("etl") as flow:
        rows = extract()
        bound = clean([], upstream_tasks=upstream)
    assert flow.upstream_tasks(bound) == (() if upstream is None else (rows,))


@pytest.mark.parametrize("upstream", [5, [None], "claen", clean])
def test_what_is_no_task_of_the_flow_cannot_be_upstream(upstream):
    with Flow("etl") as flow:
        extract()
        with pytest.raises(UnknownTask):
            clean([], upstream_tasks=upstream)
    assert len(flow.tasks) == 1


def test_a_task_of_another_flow_is_an_error_that_says_so():
    with Flow("one"):
        rows, url = extract(), Parameter("url")
    with Flow("two") as two:
        for misuse in (lambda: clean([rows]), lambda: clean(1, upstream_tasks=rows)):
            with pytest.raises(FlowError) as caught:
                misuse()
            assert str(caught.value).startswith(
                "'extract' was bound in flow 'one' and cannot be used in flow 'two'; call the task "
            )
        with pytest.raises(FlowError, match="'url' was bound in flow 'one'"):
            clean(url)
    assert two.tasks == ()


def test_a_task_that_lost_its_flow_in_a_pickle_says_so():
    with Flow("one"):
        rows = pickle.loads(cloudpickle.dumps(extract()))
    with Flow("two"), pytest.raises(FlowError, match="bound in a flow that it was pickled without"):
        clean(rows)


@pytest.fixture
def no_search(monkeypatch):
    def search(*args):
        raise AssertionError("what grows with the flow is not done for each of its tasks")

    monkeypatch.setattr("dask_taskrunner.graph.dag.Dag._path", search)


def test_ten_thousand_tasks_are_built_without_a_search_for_cycles(no_search):
    with Flow("large") as flow:
        first = extract()
        middle = [clean(first, threshold=n) for n in range(9_998)]
        load(middle)
    flow.validate()
    assert (len(flow.sorted_tasks()), len(flow.edges)) == (10_000, 19_996)


# --- edges by hand ---------------------------------------------------------------------------


@pytest.fixture
def flow():
    return Flow("etl")


@pytest.fixture
def abc(flow):
    return [flow.add_task(clean) for _ in range(3)]


def test_a_task_can_be_added_without_arguments(flow):
    bound = flow.add_task(clean)
    assert (bound.slug, bound.arguments, bound.flow) == ("clean", {}, flow)
    assert flow.add_task(bound) is bound
    assert flow.tasks == (bound,)


def test_a_task_of_another_flow_cannot_be_added(flow):
    with pytest.raises(UnknownTask, match="was bound in flow 'other'"):
        flow.add_task(Flow("other").add_task(clean))


def test_a_task_can_be_bound_without_a_block(flow):
    rows = flow.bind(extract)
    flow.bind(clean, [rows], {"threshold": 2}, task_args={"name": "scrub"})
    assert edges(flow) == [("extract", "scrub", "rows")]


def test_an_edge_orders(flow, abc):
    a, b, _ = abc
    edge = flow.add_edge(a, b)
    assert edge == Edge(a, b) == flow.edges[0]
    assert b.arguments == {}
    assert repr(edge) == "<Edge clean -> clean-2>"


def test_an_edge_with_a_key_passes_the_result(flow, abc):
    a, b, _ = abc
    edge = flow.add_edge(a, "clean-2", key="rows")
    assert edge == Edge(a, b, "rows")
    assert b.arguments == {"rows": a}
    assert repr(edge) == "<Edge clean -> clean-2 as 'rows'>"


def test_an_edge_is_there_once(flow, abc):
    a, b, _ = abc
    for _ in range(2):
        flow.add_edge(a, b)
    assert len(flow.edges) == 1


def test_an_argument_is_passed_once(flow, abc):
    a, b, c = abc
    flow.add_edge(a, b, key="rows")
    with pytest.raises(ArgumentError, match=r"clean-2\(rows, .*: 'rows' has its argument already"):
        flow.add_edge(c, b, key="rows")
    assert b.arguments == {"rows": a}


def test_a_parameter_waits_for_nothing(flow, abc):
    with flow:
        url = Parameter("url")
    flow.add_edge(url, abc[0])
    with pytest.raises(FlowError, match="'url' is a parameter: it waits for nothing"):
        flow.add_edge(abc[0], url)


def test_dependencies_are_set_all_at_once(flow, abc):
    a, b, c = abc
    rows = flow.add_task(extract)
    assert (
        flow.set_dependencies(
            "clean-2",
            upstream_tasks=[a],
            downstream_tasks=c,
            keyword_tasks={"rows": [rows], "threshold": 7, "x": extract},
        )
        is b
    )
    assert edges(flow) == [
        ("clean", "clean-2", None),
        ("clean-2", "clean-3", None),
        ("extract", "clean-2", "rows"),
        ("extract", "clean-2", "x"),
    ]
    assert b.arguments == {"rows": [rows], "threshold": 7, "more": {"x": rows}}


def test_setting_no_dependencies_changes_nothing(flow, abc):
    flow.set_dependencies(abc[0])
    assert flow.edges == ()


def test_a_chain_orders_each_behind_the_one_before(flow, abc):
    assert flow.chain(*abc) == tuple(abc)
    assert edges(flow) == [("clean", "clean-2", None), ("clean-2", "clean-3", None)]


# --- cycles --------------------------------------------------------------------------------------


def test_a_cycle_is_refused_and_printed(flow, abc):
    flow.chain(*abc)
    with pytest.raises(CycleError) as caught:
        flow.add_edge("clean-3", "clean")
    assert caught.value.cycle == ("clean", "clean-2", "clean-3", "clean")
    assert str(caught.value) == (
        "clean -> clean-2 -> clean-3 -> clean. A task cannot wait for itself; "
        "drop one of these edges."
    )
    assert len(flow.edges) == 2


def test_a_task_cannot_wait_for_itself(flow, abc):
    with pytest.raises(CycleError, match=r"clean -> clean\. A task"):
        flow.add_edge(abc[0], abc[0], key="rows")
    assert abc[0].arguments == {}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_ring_is_refused_in_whatever_order_its_edges_come(flow, order):
    nodes = [flow.add_task(clean) for _ in range(4)]
    ring = [(nodes[n], nodes[(n + 1) % 4]) for n in order]
    for upstream, downstream in ring[:3]:
        flow.add_edge(upstream, downstream)
    with pytest.raises(CycleError):
        flow.add_edge(*ring[3])
    assert len(flow.edges) == 3


def test_a_detour_is_no_cycle(flow, abc):
    a, b, c = abc
    flow.chain(c, b, a)
    flow.add_edge(c, a)
    d, e = flow.add_task(load), flow.add_task(load)
    flow.chain(d, e, c)
    assert flow.sorted_tasks() == (d, e, c, b, a)
    with pytest.raises(CycleError):
        flow.add_edge(a, d)


def test_edges_in_the_order_of_binding_need_no_search_for_cycles(flow, no_search):
    nodes = [flow.add_task(clean) for _ in range(10)]
    flow.chain(*nodes)
    flow.add_edge(nodes[0], nodes[9])
    assert list(flow.sorted_tasks()) == nodes


def test_a_chain_against_the_order_of_binding_is_no_matter_of_seconds(flow):
    nodes = [flow.add_task(clean) for _ in range(10_000)][::-1]
    started = time.process_time()
    flow.chain(*nodes)
    assert list(flow.sorted_tasks()) == nodes
    # It takes 0.1 s; with a search along the chain for each edge it would take a minute.
    assert time.process_time() - started < 5


# --- copies --------------------------------------------------------------------------------------


@pytest.fixture
def etl():
    flow = Flow("etl", task_defaults={"max_retries": 1}, state_handlers=[print])
    with flow:
        url = Parameter("url", default="x")
        rows = extract(url)
        clean(rows, task_args={"nout": 2})
        done = load([clean(rows), clean(rows, upstream_tasks=[url])])
    flow.set_reference_tasks([done])
    return flow


def same(one, other):
    return (
        [repr(node) for node in one.tasks] == [repr(node) for node in other.tasks]
        and edges(one) == edges(other)
        and [t.slug for t in one.reference_tasks()] == [t.slug for t in other.reference_tasks()]
        and one.task_defaults == other.task_defaults
        and one.state_handlers == other.state_handlers
        and [repr(vars(node).get("arguments")) for node in one.tasks]
        == [repr(vars(node).get("arguments")) for node in other.tasks]
    )


@pytest.mark.parametrize("make", [Flow.copy, copy.copy, copy.deepcopy])
def test_a_copy_is_the_same_flow_and_changes_apart(etl, make):
    again = make(etl)
    assert same(again, etl)
    assert not set(again.tasks) & set(etl.tasks)
    assert {node.flow for node in again.tasks} == {again}
    assert again.resolve_task("clean").definition is etl.resolve_task("clean").definition
    assert again.resolve_task(extract).arguments["url"] is again.parameters()["url"]
    with again:
        extract()
    assert extract in etl
    assert len(again.tasks) == len(etl.tasks) + 1


def test_a_copy_has_the_default_reference_tasks_of_its_own():
    with Flow("etl") as flow:
        extract()
    again = flow.copy()
    with again:
        extract()
    assert len(again.reference_tasks()) == 2


def test_a_copy_keeps_edges_that_lead_backwards(flow, abc):
    flow.add_edge(abc[2], abc[0], key="rows")
    again = flow.copy()
    assert edges(again) == [("clean-3", "clean", "rows")]
    assert again.resolve_task("clean").arguments == {"rows": again.resolve_task("clean-3")}


@pytest.mark.parametrize("dumps", [cloudpickle.dumps, pickle.dumps])
def test_a_flow_survives_a_pickle(dumps):
    etl = Flow("etl", task_defaults={"max_retries": 1})
    with etl:
        rows = task(len)(Parameter("url", default="x"))
        done = rows + 1
    etl.set_reference_tasks(done)
    again = pickle.loads(dumps(etl))
    assert same(again, etl)
    assert {node.flow for node in again.tasks} == {again}
    with again:
        assert (again.resolve_task("add") + 1).slug == "add-2"
    assert len(again.tasks) == len(etl.tasks) + 1


def test_a_long_chain_survives_a_pickle():
    with Flow("etl") as flow:
        rows = extract()
        for _ in range(3_000):
            rows = clean(rows)
    again = pickle.loads(cloudpickle.dumps(flow))
    assert again.sorted_tasks()[-1].arguments == {"rows": again.sorted_tasks()[-2]}


def test_update_adds_another_flow_under_new_slugs(etl):
    with Flow("other", task_defaults={"max_retries": 7, "nout": 3}) as other:
        url = Parameter("url", default="x")
        Parameter("day")
        rows = extract(url)
        scrubbed = clean(rows, task_args={"max_retries": 0})
    before = etl.reference_tasks()
    copies = etl.update(other)
    assert (copies[rows].slug, copies[scrubbed].slug) == ("extract-2", "clean-4")
    assert list(etl.parameters()) == ["url", "day"]
    assert copies[url] is etl.parameters()["url"]
    assert etl.upstream_tasks(copies[rows]) == (etl.parameters()["url"],)
    assert copies[scrubbed].arguments == {"rows": copies[rows]}
    assert etl.reference_tasks() == before
    assert len(other.tasks) == 4


def test_update_keeps_the_options_that_the_tasks_had_at_home(etl):
    with Flow("other", task_defaults={"max_retries": 7}) as other:
        one, two, three = extract(), extract(), extract(task_args={"max_retries": 0})
    copies = etl.update(other)
    resolved = [
        copies[task].definition.with_defaults(etl.task_defaults, {}).max_retries
        for task in (one, two, three)
    ]
    assert resolved == [7, 7, 0]
    assert copies[one].definition is copies[two].definition


def test_update_refuses_two_parameters_of_one_name(etl):
    with Flow("other") as other:
        Parameter("url", default="y")
    with pytest.raises(ParameterError, match="flows 'etl' and 'other' both have a parameter 'url'"):
        etl.update(other)
    with Flow("third") as third:
        Parameter("url", default="x", type=str)
    with pytest.raises(ParameterError, match="with different types or defaults"):
        etl.update(third)


def test_a_flow_can_be_added_to_itself(flow):
    with flow:
        clean(extract())
    flow.update(flow)
    assert edges(flow) == [("extract", "clean", "rows"), ("extract-2", "clean-2", "rows")]


# --- running -------------------------------------------------------------------------------------


def test_run_asks_whoever_registered_for_it(flow, monkeypatch):
    monkeypatch.setitem(hooks._functions, "Flow.run", lambda *args, **kwargs: (args, kwargs))
    assert flow.run(url="x", self=1) == ((flow,), {"url": "x", "self": 1})
