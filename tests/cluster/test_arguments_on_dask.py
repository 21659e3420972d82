"""Large arguments, and what is Dask's own among the arguments, on worker processes."""

from __future__ import annotations

import gc
import operator
import os
import pickle
import threading
import time
import warnings

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
from dask.delayed import delayed
from distributed import Client, Future
from marks import eventually
from watched import assert_nothing_left, kill, tasks_on, worker_pids

from dask_taskrunner import (
    ArgumentError,
    DaskTaskRunner,
    Flow,
    LargeArgumentWarning,
    MissingResult,
    Parameter,
    UnpicklableArgument,
    context,
    packing,
    states,
    task,
    triggers,
)
from dask_taskrunner.backend import Constant
from dask_taskrunner.dask_backend.shared import SharedFutures

pytestmark = pytest.mark.cluster

#: Larger than what goes along with a task run.
MANY = 40_000


@pytest.fixture
def runner(runner):
    """The shared one, without its last flow in the end: that has the futures of the test."""
    yield runner
    runner.last_run = None

    def is_clean():
        # A flow and its tasks refer to each other, as an error and its frames do.
        gc.collect()
        return not runner.client.futures

    assert eventually(is_clean)


@task
def total(numbers, *more):
    return float(np.sum(numbers))


@task
def block(marks, name="go"):
    marks.add(f"waits-for-{name}")
    marks.wait(name)


@task
def say(x):
    return f"{type(x).__name__} {x!r}"


@task(trigger=triggers.any_failed)
def alarm(x):
    return f"{type(x.exception).__name__}: {x.exception}"


def constants_on(client):
    return {key for key in tasks_on(client) if str(key[0]).startswith("constant-")}


def bytes_sent(client):
    """Return how many bytes a client has written to its scheduler."""
    return client.scheduler_comm.comm.stream._total_write_index


# -- large ones ----------------------------------------------------------------------------


def test_what_many_share_is_sent_once_and_is_gone_before_the_run_ends(runner, client, marks):
    blob = os.urandom(5_000_000)

    @task
    def length(holder):
        return len(holder["blob"])

    with Flow("shared") as flow:
        for n in range(200):
            length({"blob": blob, "n": n})
        block(marks)
    before = bytes_sent(client)
    run = runner.start(flow)
    assert eventually(lambda: run.counts.get("Success", 0) == 200)
    assert 5_000_000 < bytes_sent(client) - before < 6_000_000
    # The flow run still goes on, and nobody in it needs the argument any more. The scheduler
    # remembers how what is held is made, so what is held goes first.
    run._driver.channel.release([r.id for r in run._driver.machine.records.values() if r.header])
    assert eventually(lambda: not constants_on(client))
    marks.add("go")
    assert run.wait().state.is_successful()


def test_the_value_is_that_of_the_moment_of_the_start(runner, marks):
    array, numbers, frame = np.ones(MANY), list(range(100_000)), pd.DataFrame({"a": [1, 2]})
    with Flow("snapshot") as flow:
        gate = block(marks)
        for value in (array, numbers, frame):
            total(value, gate)
    run = runner.start(flow, return_tasks="all")
    array[:] = 5
    numbers.clear()
    frame.loc[:, "a"] = 7
    marks.add("go")
    run.wait()
    results = [run[slug].result() for slug in ("total", "total-2", "total-3")]
    assert results == [MANY, 4999950000, 3]


def test_a_retry_and_a_lost_execution_find_the_argument_again(runner, marks):
    @task(max_retries=1, retry_delay=0.05)
    def twice(numbers):
        number = marks.add("twice")
        if number == 1:
            raise ValueError("not yet")
        if number == 2:
            os._exit(1)
        return float(numbers.sum())

    with Flow("again") as flow:
        twice(np.ones(MANY))
    run = runner.run(flow)
    assert run.result() == MANY
    assert marks.count("twice") == 3


@pytest.mark.parametrize("large", ["argument", "definition"])
def test_it_survives_the_worker_that_alone_holds_it(runner, cluster, client, marks, large):
    numbers = np.ones(MANY)

    @task
    def by_argument(numbers, gate):
        return float(numbers.sum())

    @task
    def by_definition(gate):
        return float(numbers.sum())

    with Flow("killed") as flow:
        gate = block(marks)
        for _ in range(4):
            _ = by_argument(numbers, gate) if large == "argument" else by_definition(gate)
    run = runner.start(flow, return_tasks="all")
    marks.wait("waits-for-go")
    kind = "constant" if large == "argument" else "definition"

    def holders(kind, dask_scheduler):
        return [
            (ts.nbytes, [ws.address for ws in ts.who_has or ()])
            for key, ts in dask_scheduler.tasks.items()
            if isinstance(key, tuple) and key[0].startswith(kind)
        ]

    ((_, where),) = eventually(
        lambda: [found for found in client.run_on_scheduler(holders, kind) if found[1]]
    )
    pids = worker_pids(client)
    for address in where:
        kill(pids[address])
    assert eventually(lambda: not set(where) & set(cluster.scheduler.workers))
    marks.add("go")
    assert run.wait().state.is_successful(), run.failure_text()
    assert {run[slug].result() for slug in run if slug.startswith("by")} == {MANY}


def test_what_ended_badly_is_sent_again_under_another_key(cluster, client):
    constant = Constant(pickle.dumps("x" * 300_000))
    shared = SharedFutures(client, "0" * 8, None, forgets=False)
    key = shared.key_for(constant, (0, -1))
    assert shared.key_for(constant, (1, -1)) == key
    assert shared.users_of_bad() == {}
    with Client(cluster, set_as_default=False) as other:
        other.cancel([Future(key, client=other)], force=True)
    assert eventually(shared.users_of_bad).keys() == {(0, -1), (1, -1)}
    again = shared.key_for(constant, (0, -1))
    assert again != key
    assert shared.users_of_bad() == {}
    assert len(Future(again, client).result(timeout=10)) == 1
    shared.release_all()
    assert_nothing_left(client)


def test_large_parameters_are_in_every_context_and_sent_once(runner, client):
    @task
    def look():
        return float(context.parameters["numbers"].sum()), context.parameters["small"]

    @task
    def read(numbers):
        return numbers is context.parameters["numbers"]

    numbers = np.ones(MANY * 10)
    with Flow("parameters") as flow:
        given = Parameter("numbers")
        Parameter("small")
        for _ in range(20):
            look()
        read(given)
    before = bytes_sent(client)
    run = runner.run(flow, numbers=numbers, small=5)
    assert numbers.nbytes < bytes_sent(client) - before < 2 * numbers.nbytes
    assert run["look-20"].result() == (MANY * 10.0, 5)
    assert run["read"].result() is True


def test_what_a_script_defines_may_be_a_parameter_and_a_constant(runner):
    namespace = {"__name__": "__main__"}
    exec("class Mine:\n    def __init__(self, x): self.x = x", namespace)
    mine = namespace["Mine"]

    @task
    def look(given):
        return given.x[0], context.parameters["given"].x[0], context.parameters["double"](4)

    for value in ("a", "b" * 300_000):
        with Flow("script") as flow:
            given, _ = Parameter("given"), Parameter("double")
            look(given)
        run = runner.run(flow, given=mine(value), double=lambda x: 2 * x)
        assert run.result() == (value[0], value[0], 8)


def test_dasks_own_word_about_sizes_is_never_heard(runner, monkeypatch):
    monkeypatch.setattr(packing, "VERY_LARGE", 1_000_000)
    data = np.ones(200_000)

    @task
    def closes_over(n):
        return float(data.sum())

    @task
    def fit(numbers, n):
        return len(numbers)

    with Flow("sizes") as flow:
        for n in range(40):
            fit("x" * 200_000 + str(n), n)
            fit(data, n)
            closes_over(n)
        fit(delayed(np.ones)(300_000), 1)
        fit(delayed(data), 1)
    with (
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "50kB"}),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        run = runner.run(flow)
    assert run.state.is_successful(), run.failure_text()
    said = sorted(str(warning.message).split(", ")[0] for warning in caught)
    assert said == [
        "argument 'numbers' of 'fit-2'",
        "the definition of task 'closes_over'",
    ]
    assert {warning.category for warning in caught} == {LargeArgumentWarning}
    assert {warning.filename for warning in caught} == {__file__}


def test_the_setting_is_as_before_after_two_runs_at_a_time(runner):
    def many():
        with Flow("many") as flow:
            for _ in range(10):
                total(np.ones(MANY))
        runner.run(flow)

    before = dask.config.get("distributed.admin.large-graph-warning-threshold")
    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dask.config.get("distributed.admin.large-graph-warning-threshold") == before


# -- futures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, [1, 2], (), {"a": 1}, "x" * 1_000_000], ids=lambda v: type(v).__name__
)
def test_a_future_is_its_value_whatever_that_is(runner, client, value):
    future = client.submit(lambda: value, pure=False)
    again = client.submit(lambda: 5, key="one-key")
    twin = client.submit(lambda: 5, key="one-key")

    @task
    def look(x, many, **more):
        return x == value and many == {"a": [value, 5, (5,)]}

    with Flow("futures") as flow:
        look(future, {"a": [future, again, (twin,)]})
        look(future, {"a": [future, again, (twin,)]})
    run = runner.run(flow)
    assert run.result() == {"look": True, "look-2": True}
    # One task run for each object, however many tasks take it.
    assert [slug for slug in run if slug.startswith("dask")] == [
        "dask_future", "dask_future-2", "dask_future-3",
    ]  # fmt: skip
    assert run["dask_future"].state.is_successful()


def test_a_future_is_waited_for_and_may_be_dropped_at_once(runner, client, marks):
    def slow():
        marks.wait("go")
        return 7

    with Flow("pending") as flow:
        say([client.submit(slow, pure=False)])
    run = runner.start(flow)
    del flow
    time.sleep(0.1)  # long enough for a release to arrive
    assert not run.state.is_finished()
    marks.add("go")
    assert run.wait(20).result() == "list [7]"


@pytest.mark.parametrize("when", ["before", "later"])
@pytest.mark.parametrize("make", [Client.submit, lambda _, f: delayed(f)()], ids=["f", "delayed"])
def test_a_future_that_fails_is_a_failure_that_triggers_see(runner, client, marks, make, when):
    def fails():
        if when == "later":
            marks.wait("go")
        raise KeyError("no")

    future = make(client, fails)
    if when == "before" and not hasattr(future, "dask"):
        assert eventually(lambda: future.status == "error")
    with Flow("fails") as flow:
        for _ in range(3):
            say(say(future))
            alarm(future)
    run = runner.start(flow, return_tasks="all")
    marks.add("go")
    run.wait(20)
    assert repr(run["dask_future"].state) == """Failed("KeyError: 'no'")"""
    assert run["alarm-3"].result() == "KeyError: 'no'"
    assert type(run["say-6"].state) is states.TriggerFailed
    assert [failed.slug for failed in run.failures] == ["dask_future"]


@pytest.mark.parametrize("when", ["before", "later"])
def test_a_future_that_is_cancelled_is_named(runner, client, marks, when):
    future = client.submit(operator.add, 1, client.submit(marks.wait, "never", pure=False))
    if when == "before":
        future.cancel()
        # Dask takes a thread for free whose task is cancelled, and would put others behind it.
        marks.add("never")

    @task(trigger=triggers.all_finished)
    def after(x):
        return isinstance(x, MissingResult)

    with Flow("cancelled") as flow:
        after(future)
        block(marks)
    run = runner.start(flow, return_tasks="all")
    marks.wait("waits-for-go") if when == "before" else time.sleep(0.2)
    future.cancel()
    marks.add("never")
    marks.add("go")
    run.wait(20)
    assert run["after"].result() is True
    state = run["dask_future"].state
    assert type(state) is states.Crashed
    assert future.key in state.message


def test_a_future_of_another_client_is_refused_before_anything_is_sent(runner, cluster, client):
    with Client(cluster, set_as_default=False) as other:
        with Flow("theirs") as flow:
            say({"deep": [other.submit(operator.add, 1, 2)]})
        with pytest.raises(ArgumentError, match="argument 'x' of 'say' is a future of another"):
            runner.run(flow)
        assert not [key for key in tasks_on(client) if "say" in str(key)]


def test_a_task_that_takes_a_future_is_retried(runner, client, marks):
    @task(max_retries=2, retry_delay=0.02)
    def picky(x):
        if marks.add("picky") < 3:
            raise ValueError("not yet")
        return x

    with Flow("retried") as flow:
        picky(client.submit(operator.add, 1, 2))
    assert runner.run(flow).result() == 3
    assert marks.count("picky") == 3


def test_defaults_are_for_the_users_tasks(client):
    with (
        DaskTaskRunner(client=client, task_defaults={"resources": {"GPU": 1}}) as runner,
        Flow("defaults", task_defaults={"trigger": triggers.all_failed}) as flow,
    ):
        say.with_options(resources={}, trigger=triggers.all_finished)(
            client.submit(operator.add, 1, 2)
        )
        run = runner.run(flow)
    assert run.result() == "int 3"


def test_lazy_values_and_futures_may_be_parameters(runner, client):
    @task
    def look(x, y):
        return x, y, [type(v).__name__ for v in context.parameters.values()]

    with Flow("parameters") as flow:
        x, y, z = (Parameter(name) for name in "xyz")
        look(x, y)
        say(z)
    run = runner.run(
        flow, x=[delayed(operator.add)(1, 2)], y=client.submit(operator.add, 3, 4), z=np.ones(MANY)
    )
    assert run["look"].result() == ([3], 7, ["MissingResult", "MissingResult", "ndarray"])


def test_a_lazy_value_that_cannot_be_sent_is_refused(runner):
    with Flow("lock") as flow:
        say(delayed(len)([threading.Lock()]))
    with pytest.raises(UnpicklableArgument, match="argument 'x' of 'say' cannot be pickled"):
        runner.run(flow)


class Fickle:
    """Can be pickled once."""

    times = 0

    def __reduce__(self):
        Fickle.times += 1
        if Fickle.times > 1:
            raise TypeError("not again")
        return int, ()


def test_a_lazy_value_that_cannot_be_sent_after_all_is_a_failure(runner, caplog):
    Fickle.times = 0
    with Flow("fickle") as flow:
        say(say(delayed(str)(Fickle())))
        alarm(say(1))
    run = runner.run(flow)
    assert type(run["dask_future"].state) is states.Failed
    assert "Could not serialize" in run["dask_future"].state.message
    assert type(run["say-2"].state) is states.TriggerFailed
    assert run["say-3"].state.is_successful()
    # Dask's own record of the error has the frames, and these have its futures.
    caplog.clear()


# -- collections ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lazy", "persisted", "parameter"])
def test_a_collection_arrives_as_one_and_is_computed_where_it_is_needed(kind, marks):
    kwargs = {"n_workers": 1, "threads_per_worker": 1}
    with DaskTaskRunner(cluster_kwargs=kwargs) as runner:
        array = dask.array.ones(100, chunks=50) + 1
        if kind != "lazy":
            array = runner.client.persist(array)

        @task
        def compute(x, gate=None):
            assert isinstance(x, dask.array.Array)
            x = context.parameters.get("x", x)
            assert isinstance(x, dask.array.Array)
            assert float(x.sum().compute()) == 200.0

        with Flow("collection") as flow:
            gate = block(marks)
            given = Parameter("x") if kind == "parameter" else array
            compute(given, gate)
            compute({"deep": given}["deep"], gate)
        parameters = {"x": array} if kind == "parameter" else {}
        run = runner.start(flow, parameters=parameters, return_tasks="all")
        driver = run._driver
        # The run alone must hold what the collection needs.
        del run, flow, array, given, parameters
        marks.wait("waits-for-go")
        time.sleep(0.1)  # long enough for a release to arrive
        marks.add("go")
        assert driver.ended.wait(20)
        assert driver.final.state == "Success"
