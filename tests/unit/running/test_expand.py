"""Tasks that return graphs, from the body to the result."""

from __future__ import annotations

import pickle
from datetime import timedelta

import cloudpickle
import pytest
from fakes.fake_backend import FakeChannel
from fakes.gates import Gate, eventually
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    Parameter,
    context,
    exceptions,
    expand,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.graph.mapping import unmapped
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.session import Session
from dask_taskrunner.worker import expanding

LARGE = "x" * 10_000


@task
def one():
    return 1


@task
def inc(x, by=1):
    return x + by


@task
def add(x, y):
    return x + y


@task
def many(n):
    return list(range(n))


@task
def total(xs):
    return sum(xs)


@task
def large(x=0):
    return LARGE


@task
def length(text):
    return len(text)


@task
def show(x):
    return x


@task
def fails(x=0):
    raise ValueError("negative price")


def sums():
    """Return a flow with a mapped task in it."""
    with Flow("sums") as flow:
        n = Parameter("n", type=int)
        by = Parameter("by", default=1)
        total(inc.map(many(n), unmapped(by)))
    return flow


@task
def train(n):
    return expand(sums(), n=n, by=10)


def returning(make):
    """Return a task that expands to what a function builds, in a flow's block."""

    @task
    def grow(x=0):
        with Flow("inner") as flow:
            result = make(x)
        return expand(flow if result is None else result)

    return grow


def states_of(run):
    return {slug: type(state).__name__ for slug, state in run.states.items()}


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
    assert "cannot be mapped over x, the result of grow, a dict. Write x=unmapped" in (
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


# --- failures ------------------------------------------------------------------------------------


def test_a_failure_inside_is_a_failure_with_its_path(finish, caplog):
    @task
    def picky(x):
        if x == 2:
            raise ValueError("two")

    @task(trigger=triggers.all_finished)
    def report(x):
        return (type(x).__name__, type(x.exception).__name__)

    with Flow("outer") as flow:
        found = returning(lambda x: (picky.map(range(4)), None)[1])()
        inc(found)
        report(found)
    run = finish(flow)
    assert repr(run["grow"].state) == 'Failed("grow/picky[2]: ValueError: two")'
    assert run["grow"].state.root_cause == ("grow/picky[2]", "ValueError: two")
    with pytest.raises(ValueError, match="two") as caught:
        run["grow"].result()
    assert "grow/picky[2], attempt 1 of 1" in caught.value.__notes__[0]
    assert "root cause: grow/picky[2]: ValueError: two" in run["inc"].state.message
    assert run["report"].result() == ("MissingResult", "ValueError")
    with pytest.raises(exceptions.UpstreamFailed) as caught:
        run["inc"].result()
    assert isinstance(caught.value.__cause__, ValueError)
    assert [failure.slug for failure in run.failures] == ["grow/picky[2]"]
    assert "failed: 1 of 6 task runs failed, 1 did not run because of it" in run.failure_text()
    logged = [record.message for record in caplog.records if "failed:" in record.message]
    assert logged[0] == "nightly: grow/picky[2] failed: ValueError: two"
    assert "grow failed" not in "".join(logged)


def test_a_cleanup_inside_does_not_hide_a_failure(finish):
    @task(trigger=triggers.all_finished)
    def cleanup(x):
        return "cleaned"

    with Flow("outer") as flow:
        returning(lambda x: (cleanup(inc(fails())), None)[1])()
    run = finish(flow)
    assert run["grow"].state.message == "grow/fails: ValueError: negative price"
    assert run["grow/cleanup"].result() == "cleaned"


def test_a_skip_inside_is_a_skip(finish):
    @task
    def skip():
        raise signals.SKIP("nothing today", result=5)

    with Flow("outer") as flow:
        inc(returning(lambda x: skip())())
    run = finish(flow)
    assert repr(run["grow"].state) == 'Skipped("nothing today")'
    assert run["grow"].result() == 5
    assert type(run["inc"].state) is states.Skipped


def test_several_skips_inside_are_one(finish):
    @task
    def skip():
        raise signals.SKIP("nothing today")

    with Flow("outer") as flow:
        inc(returning(lambda x: (skip(), skip(), None)[-1])())
    run = finish(flow)
    assert type(run["grow"].state) is type(run["inc"].state) is states.Skipped
    assert run["grow"].result() is None


def test_what_stops_itself_inside_stops_it(finish):
    @task
    def stops():
        raise signals.CANCELLED("enough")

    with Flow("outer") as flow:
        returning(lambda x: stops())()
    run = finish(flow)
    assert repr(run["grow"].state) == 'Cancelled("grow/stops: enough")'


def test_a_pause_inside_is_a_pause(finish):
    @task
    def asks():
        raise signals.PAUSE("may I?")

    with Flow("outer") as flow:
        inc(returning(lambda x: asks())())
    run = finish(flow)
    assert repr(run["grow"].state) == 'Paused("grow/asks paused")'
    run.reject("grow/asks").wait(10)
    assert type(run["grow"].state) is type(run["inc"].state) is states.Skipped


def test_retries_inside_are_the_inner_tasks(finish):
    @task(max_retries=2, retry_delay=0)
    def third_time():
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return "at last"

    with Flow("outer") as flow:
        length(returning(lambda x: third_time())())
    run = finish(flow)
    assert run.result() == 7
    assert len(run["grow/third_time"].attempts) == 3
    assert len(run["grow"].attempts) == 1


def test_a_body_may_fail_before_it_grows(finish):
    @task(max_retries=2, retry_delay=0)
    def grow():
        if context.task_run_number < 3:
            raise ValueError("not yet")
        with Flow("inner") as flow:
            one()
        return expand(flow)

    with Flow("outer") as flow:
        inc(grow())
    run = finish(flow)
    assert run.result() == 2
    assert [attempt.outcome for attempt in run["grow"].attempts] == [
        "retrying", "retrying", "success",
    ]  # fmt: skip


def test_a_loop_may_end_with_a_graph(finish):
    @task
    def grow():
        if context.task_loop_count < 3:
            raise signals.LOOP(result=context.task_loop_count)
        with Flow("inner") as flow:
            inc(context.task_loop_result)
        return expand(flow)

    with Flow("outer") as flow:
        inc(grow())
    assert finish(flow).result() == 4


def test_a_cancelled_run_cancels_what_has_joined(start):
    gate = Gate("inside")

    @task
    def waits():
        gate.pass_through()

    with Flow("outer") as flow:
        inc(returning(lambda x: inc(waits()))())
    run = start(flow)
    gate.wait()
    run.cancel()
    gate.open()
    run.wait(10)
    assert set(states_of(run).values()) == {"Cancelled"}


def test_a_run_may_be_cancelled_while_a_graph_is_planned(start):
    gate = Gate("unpickled")

    class Slow:
        def __reduce__(self):
            return _pass, (gate,)

    @task
    def grow():
        with Flow("inner") as flow:
            show(Slow())
        return expand(flow)

    with Flow("outer") as flow:
        inc(grow())
    run = start(flow)
    gate.wait()
    assert repr(run["grow"].state) == 'Running("it grows")'
    run.cancel()
    run.wait(10)
    gate.open()
    assert states_of(run) == {"grow": "Cancelled", "inc": "Cancelled"}
    assert list(run) == ["grow", "inc"]


def _pass(gate):
    gate.pass_through()
    return gate


# --- what cannot be run --------------------------------------------------------------------------


def failing(make, **options):
    """Return a flow of one task that expands to what a function makes."""

    @task(**options)
    def grow():
        return make()

    with Flow("outer") as flow:
        inc(grow())
    return flow


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not me")


class Broken:
    def __reduce__(self):
        return _break, ()


def _break():
    raise ImportError("no module here")


def with_constant(value):
    with Flow("inner") as flow:
        show(value)
    return expand(flow)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: expand(sums()), "ParameterError: flow 'sums' was given no value for its"),
        (lambda: expand(sums(), n=1, m=2), "ParameterError: flow 'sums' has no parameter 'm'"),
        (lambda: expand(sums(), n="3"), "ParameterError: parameter 'n' takes int, not '3'"),
        (lambda: expand(Flow("empty")), "EmptyFlow: flow 'empty' has no tasks"),
        (lambda: expand(one), "OptionError: expand takes a flow, or a task that is bound in one"),
        (lambda: expand(5), "OptionError: expand takes a flow, or a task that is bound in one"),
        (lambda: with_constant(Unpicklable()), "UnpicklableArgument: grow returned expand(...), "),
        (lambda: with_constant("x" * 11_000_000), "LargeArgument: grow returned expand(...) with"),
        (lambda: with_constant(Broken()), "ImportError: no module here (in the graph that grow "),
    ],
    ids=["missing", "unknown", "type", "empty", "unbound", "five", "pickle", "size", "unpickle"],
)
def test_what_is_wrong_with_a_graph_is_the_tasks_failure(finish, make, text):
    run = finish(failing(make))
    assert type(run["grow"].state) is states.Failed
    assert run["grow"].state.message.startswith(text)
    assert type(run["inc"].state) is states.TriggerFailed
    with pytest.raises(Exception, match=r"."):
        run["grow"].result()


def test_a_graph_of_which_an_argument_cannot_be_mapped_over_fails(finish):
    @task
    def grow():
        with Flow("inner") as flow:
            inc.map(Parameter("xs"))
        return expand(flow, xs=5)

    with Flow("outer") as flow:
        grow()
    run = finish(flow)
    assert "ArgumentError: map: grow/inc cannot be mapped over x" in run["grow"].state.message
    assert run["grow"].state.message.endswith("(in the graph that grow returned)")


def test_a_graph_is_no_result_to_keep(finish):
    run = finish(failing(lambda: expand(sums(), n=1), cache_for=timedelta(hours=1)))
    assert "OptionError: grow has cache_for, and returned expand(...)" in run["grow"].state.message


def test_a_task_that_was_pickled_without_its_flow_cannot_be_expanded():
    with Flow("inner"):
        bound = one()
    with pytest.raises(exceptions.OptionError, match="pickled without its flow"):
        expand(pickle.loads(cloudpickle.dumps(bound)))


def test_a_fetch_that_fails_is_the_tasks_failure(finish, backend, monkeypatch):
    def fetch(self, id, timeout):
        raise OSError("the line is dead")

    monkeypatch.setattr(FakeChannel, "fetch", fetch)
    with Flow("outer") as flow:
        train(1)
    run = finish(flow)
    assert run["train"].state.message == (
        "OSError: the line is dead (in the graph that train returned)"
    )


def test_a_graph_that_is_lost_with_its_worker_is_made_again(start, backend, monkeypatch):
    fetch, seen = FakeChannel.fetch, []

    def lost_once(self, id, timeout):
        seen.append(id)
        if len(seen) == 1:
            self.lose(id, Loss("killed", "worker w died", "w"))
            raise exceptions.ResultLost("gone")
        return fetch(self, id, timeout)

    monkeypatch.setattr(FakeChannel, "fetch", lost_once)
    with Flow("outer") as flow:
        inc(train(2))
    run = start(flow).wait(10)
    assert run["train"].result() == 21
    assert len(seen) == 2
    assert run["train"].record.submission == 2


def test_the_bytes_of_a_graph_are_bounded():
    assert expanding.MAX_GRAPH_BYTES == 10_000_000


def test_a_single_call_cannot_grow(backend):
    session = Session(
        backend, "abcdef01", task_defaults={}, max_constant_bytes=10**9, warn=lambda texts: None
    )
    future = session.submit(train, (3,), {}, (), None)
    try:
        error = future.exception(10)
        assert "expand needs a flow run" in str(error)
    finally:
        session.close()
        future.release()
    assert eventually(lambda: session.driver.ended.is_set())
