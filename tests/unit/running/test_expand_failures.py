"""Tasks that return graphs in which something fails, and graphs that cannot be run."""

from __future__ import annotations

import pickle
from datetime import timedelta

import cloudpickle
import pytest
from fakes.fake_backend import FakeChannel
from fakes.gates import Gate, eventually
from fakes.graphs import (
    fails,
    inc,
    length,
    one,
    returning,
    show,
    states_of,
    sums,
    train,
)

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
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.session import Session
from dask_taskrunner.worker import expanding

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
