"""Tasks that return graphs, from the body to the result."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes.gates import Gate, eventually
from fakes.graphs import (
    LARGE,
    add,
    fails,
    inc,
    large,
    length,
    many,
    one,
    returning,
    show,
    sums,
    total,
    train,
)
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    Parameter,
    context,
    exceptions,
    expand,
    merge,
    signals,
    task,
)
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.session import Session
from dask_taskrunner.view.tally import Tally

# --- what joins ----------------------------------------------------------------------------------


def test_a_graph_joins_the_run_and_its_result_is_the_tasks(finish):
    with Flow("outer") as flow:
        inc(train(add(1, 2)), 1000)
    run = finish(flow)
    assert run.result() == 33 + 1000
    assert run["train"].result() == 33
    assert list(run) == [
        "add", "train", "train/many", "train/inc", "train/inc[0]", "train/inc[1]", "train/inc[2]",
        "train/total", "inc",
    ]  # fmt: skip
    assert run["train/inc[2]"].result() == 12
    assert [child.slug for child in run["train"].children] == [
        "train/many", "train/inc", "train/total",
    ]  # fmt: skip
    assert run.counts == {"Success": 2 + 2 + 3}
    assert len(run) == 9


def test_who_reads_it_stands_behind_what_has_the_result(finish, backend):
    with Flow("outer") as flow:
        length(returning(lambda _: large())())
    run = finish(flow)
    assert run.result() == 10_000
    (channel,) = backend.channels.values()
    sent = next(s for s in reversed(channel.submitted) if s.id == run["length"].record.id)
    assert sent.upstream_ids == (run["grow/large"].record.id,)


def test_the_run_says_how_far_it_is(start):
    gate = Gate("inside")

    @task
    def waits():
        gate.pass_through()
        return 1

    with Flow("outer") as flow:
        returning(lambda _: (one(), waits(), None)[-1])()
    run = start(flow)
    gate.wait()
    run["grow/one"].result(10)
    assert repr(run["grow"].state) == 'Running("grown: 1 of 2 finished")'
    gate.open()
    run.wait(10)
    assert run["grow"].result() == {"one": 1, "waits": 1}
    id = run["grow"].record.id
    assert [(e.old, e.new) for e in run.history if e.task_run == id] == [
        ("Pending", "Running"),
        ("Running", "Running"),
        ("Running", "Success"),
    ]
    assert [attempt.outcome for attempt in run["grow"].attempts] == ["success"]


def test_a_task_of_a_flow_has_the_result(finish):
    def make(x):
        start = inc(x)
        found = add(start, 10)
        add(found, 100)
        return found

    with Flow("outer") as flow:
        show(returning(make)(1))
    run = finish(flow)
    assert run.result() == run["grow"].result() == 12
    assert run["grow/add-2"].result() == 112


def test_a_flow_as_a_task_has_the_result_that_it_was_given(finish):
    with Flow("sums") as inner:
        first = inc(Parameter("x"))
        inc(first, 100)

    @task
    def grow():
        return expand(inner.as_task(result="inc"), x=5)

    with Flow("outer") as flow:
        show(grow())
    assert finish(flow).result() == 6


def test_of_several_reference_tasks_the_results_are_a_dict(finish):
    with Flow("outer") as flow:
        found = returning(lambda x: (inc(x), large(), None)[-1])(1)
        show(found["inc"])
        length(found["large"])
        show(found)
    run = finish(flow, return_tasks=[found])
    assert run["show"].result() == 2
    assert run["length"].result() == 10_000
    assert run["show-2"].result() == run["grow"].result() == {"inc": 2, "large": LARGE}
    with pytest.raises(exceptions.NotAValue, match=r"run\['grow/inc'\].future"):
        run["grow"].future  # noqa: B018


def test_a_mapped_task_of_the_graph_gives_a_list(finish):
    @task
    def grow(n):
        with Flow("inner") as flow:
            inc.map(range(n))
        return expand(flow)

    with Flow("outer") as flow:
        found = grow(3)
        total(found)
        total(inc.map(found))
    run = finish(flow)
    assert run["grow"].result() == [1, 2, 3]
    assert run["total"].result() == 6
    assert run["total-2"].result() == 9
    # A child reads its element where that lies, and no list is made.
    assert run["inc[1]"].state.is_successful()


def test_each_child_of_a_mapped_task_may_grow(finish):
    with Flow("outer") as flow:
        found = train.map([1, 2, 3])
        total(found)
        total(inc.map(found))
    run = finish(flow)
    assert run["train"].result() == [10, 21, 33]
    assert run["total"].result() == 64
    assert run["total-2"].result() == 67
    assert run["train[2]/inc[1]"].result() == 11
    assert run["train[2]"].result() == 33
    assert [run.slug for run in run["train[1]"].children] == [
        "train[1]/many", "train[1]/inc", "train[1]/total",
    ]  # fmt: skip
    assert repr(run["train"].state) == 'Mapped("3 Success")'


def test_children_that_grow_to_dicts_and_lists_are_read_as_such(finish):
    @task
    def grow(x):
        with Flow("inner") as flow:
            if x == 1:
                inc(x)
                inc(x, 10)
            elif x == 2:
                inc.map([1, 2])
        return expand(flow) if x else "none"

    with Flow("outer") as flow:
        show(grow.map([0, 1, 2]))
    assert finish(flow).result() == ["none", {"inc": 2, "inc-2": 11}, [2, 3]]


def test_it_may_be_mapped_over(finish):
    with Flow("outer") as flow:
        found = returning(lambda x: many(3))()
        total(inc.map(found))
    run = finish(flow)
    assert run.result() == 6
    assert run["inc"].record.length == 3


def test_a_dict_of_results_is_not_mapped_over(finish):
    with Flow("outer") as flow:
        inc.map(returning(lambda x: (one(), many(3), None)[-1])())
    run = finish(flow)
    assert "cannot be mapped over x, the result of grow, of type dict. Write x=unmapped" in (
        run["inc"].state.message
    )


def test_a_task_of_the_graph_may_grow_itself(finish):
    @task
    def factorial(n):
        if n == 0:
            return 1
        with Flow("inner") as flow:
            times(n, factorial(n - 1))
        return expand(flow)

    @task
    def times(x, y):
        return x * y

    with Flow("outer") as flow:
        show(factorial(3))
    run = finish(flow)
    assert run.result() == 6
    assert run["factorial"].result() == 6
    deep = "factorial/factorial/factorial"
    assert run[f"{deep}/times"].result() == 1
    assert run[f"{deep}/factorial"].result() == 1
    assert list(run) == [
        "factorial", "factorial/factorial", "factorial/factorial/factorial",
        f"{deep}/factorial", f"{deep}/times", "factorial/factorial/times", "factorial/times",
        "show",
    ]  # fmt: skip


def test_a_graph_may_use_flows_as_tasks(finish):
    @task
    def grow():
        with Flow("inner") as flow:
            inc(sums().as_task()(n=3))
        return expand(flow)

    with Flow("outer") as flow:
        grow()
    run = finish(flow)
    assert run.result() == 7
    assert run["grow/sums/inc[2]"].result() == 3
    assert run["grow/sums"].result() == 6


def test_defaults_are_those_of_the_nearest(finish):
    def make(x):
        fails(x)

    with Flow("outer", task_defaults={"max_retries": 1, "retry_delay": 0}) as flow:
        returning(make)(task_args={"max_retries": 0})
    assert len(finish(flow)["grow/fails"].attempts) == 2


def test_the_context_is_the_flow_runs(finish):
    @task
    def tell():
        return (context.parameters["name"], context.flow_name, context.slug, context.task_name)

    with Flow("outer") as flow:
        Parameter("name")
        returning(lambda x: tell())()
    found = finish(flow, parameters={"name": "n" * 300_000}).result()
    assert found == ("n" * 300_000, "outer", "grow/tell", "tell")


def test_a_large_constant_in_a_graph_is_sent_once(finish, backend):
    @task
    def grow():
        text = "y" * 300_000
        with Flow("inner") as flow:
            length.map([text[:n] for n in (1, 2)])
            add(length(text), length(text))
        return expand(flow)

    with Flow("outer") as flow:
        found = grow()
        show(found["add"])
    assert finish(flow).result() == 600_000


def test_results_of_a_graph_may_be_cached(start, backend):
    @task(cache_for=timedelta(hours=1))
    def costly(x):
        ran("costly")
        return LARGE

    RAN.clear()
    cache = ResultCache(backend)
    with Flow("outer") as flow:
        length(returning(lambda x: costly(3))())
    for _ in range(2):
        assert start(flow, cache=cache).wait(10).result() == 10_000
    assert RAN == ["costly"]


# --- what is kept --------------------------------------------------------------------------------


def test_what_has_the_result_is_kept_where_the_task_is(finish):
    with Flow("outer") as flow:
        found = returning(lambda x: large())()
        length(found)
    run = finish(flow)
    with pytest.raises(exceptions.ResultReleased):
        run["grow"].result()
    kept = finish(flow, return_tasks=[found])
    assert kept["grow"].result() == LARGE
    assert kept["grow"].future.value == LARGE


def test_what_nobody_reads_is_let_go(finish):
    def make(x):
        length(large())

    with Flow("outer") as flow:
        returning(make)()
    run = finish(flow)
    assert run.result() == 10_000
    assert not run["grow/large"].record.future


def test_a_later_run_may_begin_with_the_result(finish):
    with Flow("outer") as flow:
        returning(lambda x: large())()
    earlier = finish(flow)
    with Flow("later") as later:
        length(large())
    assert finish(later, task_states={"large": earlier["grow"].state}).result() == 10_000


# --- beside other parts --------------------------------------------------------------------------


def test_a_graph_of_which_all_was_skipped_is_a_skipped_branch(finish):
    @task
    def skip():
        raise signals.SKIP("nothing today")

    with Flow("outer") as flow:
        merge(returning(lambda x: (skip(), skip(), None)[-1])(), inc(1))
    assert finish(flow).result() == 2


@pytest.fixture
def session(backend):
    session = Session(
        backend, "abcdef02", task_defaults={}, max_constant_bytes=10**9, warn=lambda texts: None
    )
    yield session
    session.close()
    assert eventually(session.driver.ended.is_set)


def sent(session, f, *args):
    """Return the result of a single call."""
    future = session.submit(f, args, {}, (), None)
    try:
        return future.result(10)
    finally:
        future.release()


def test_single_calls_go_on_from_what_a_task_has_grown_to(finish, session):
    @task
    def shape(found):
        if isinstance(found, dict):
            return {name: shape.run(value) for name, value in found.items()}
        return len(found) if isinstance(found, str) else found

    with Flow("outer") as flow:
        found = [
            returning(lambda x: large())(),
            returning(lambda x: (one(), large(), None)[-1])(),
            train.map([1, 2]),
            returning(lambda x: fails())(),
        ]
    run = finish(flow, return_tasks=found)
    assert sent(session, shape, run["grow"]) == 10_000
    assert sent(session, shape, run["grow-2"]) == {"one": 1, "large": 10_000}
    assert sent(session, shape, run["train"]) == [10, 21]
    with pytest.raises(exceptions.UpstreamFailed):
        sent(session, shape, run["grow-3"])


def test_single_calls_wait_for_what_is_still_growing(start, session):
    gate = Gate("still")

    @task
    def waits():
        gate.pass_through()
        return LARGE

    with Flow("outer") as flow:
        found = returning(lambda x: waits())()
    run = start(flow, return_tasks=[found])
    future = session.submit(length, (run["grow"],), {}, (), None)
    gate.wait()
    gate.open()
    assert future.result(10) == 10_000
    future.release()


def test_a_row_for_each_task_run_of_a_graph(finish):
    with Flow("outer") as flow:
        train(2)
        one()
    run = finish(flow)
    slugs = ["train", "train/many", "train/inc", "train/inc[0]", "train/inc[1]", "train/total"]
    assert [row["slug"] for row in run.table("train")] == slugs
    assert [row["slug"] for row in run.table()] == [*slugs, "one"]
    assert {row["slug"]: row["task"] for row in run.table()}["train/inc[1]"] == "inc"


def test_views_count_a_graph_under_the_name_of_its_task(finish):
    with Flow("outer") as flow:
        inc(train(2))
    run = finish(flow)
    tally = Tally(run.names)
    tally.feed(run.history)
    counts = {name: (dict(+group.counts), group.total) for name, group in tally.groups.items()}
    assert counts == {"train": ({"Success": 4}, 4), "inc": ({"Success": 1}, 1)}
