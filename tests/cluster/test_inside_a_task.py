"""Flows, clients and collections inside tasks: on one worker process with one thread."""

from __future__ import annotations

import logging

import pytest
from distributed import Client, LocalCluster, worker_client
from marks import eventually
from watched import assert_nothing_left

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    FlowRunFailed,
    OptionError,
    Parameter,
    context,
    get_client,
    task,
    triggers,
)

# A task that waits for itself waits for ever.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def narrow():
    """A client of a cluster on which no two tasks can run at once."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": 0},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def runner(narrow):
    with DaskTaskRunner(client=narrow) as runner:
        yield runner
    assert_nothing_left(narrow)
    assert_no_subscriptions(narrow)


def assert_no_subscriptions(client):
    """Assert that nobody listens to a client's own topic any more."""

    def subscribed(dask_scheduler):
        topics = dask_scheduler._broker._topics
        return [name for name in dask_scheduler.clients if topics[name].subscribers]

    assert eventually(lambda: not client.run_on_scheduler(subscribed), 5)


def one(task, *args, **kwargs):
    """Return a flow of one task."""
    with Flow(task.name) as flow:
        task(*args, **kwargs)
    return flow


@task
def add_one(x):
    return x + 1


@task
def add_two(x):
    with Flow("add-two") as flow:
        add_one(add_one(x))
    return flow.run().result()


@task
def add_four(x):
    with Flow("add-four") as flow:
        add_two(add_two(x))
    return flow.run().result()


def test_flows_run_three_levels_deep_in_one_thread(runner):
    with Flow("add-many") as flow:
        add_four(add_four(0))
        add_four(100)
    for _ in range(3):
        assert runner.run(flow).result() == {"add_four-2": 8, "add_four-3": 104}


def test_a_flow_from_the_outside_takes_parameters_and_gives_large_results_inside(runner):
    @task
    def make(n):
        return b"x" * n

    with Flow("make") as inner:
        make(Parameter("n"))

    @task
    def outer():
        run = inner.run(n=300_000, run_name="inside")
        return run.run_name, len(run.result()), str(run)

    name, size, text = runner.run(one(outer)).result()
    assert (name, size) == ("inside", 300_000)
    assert text == "<FlowRun make 'inside' Success: 1 Success>"


def test_a_flow_runs_inside_of_anybodys_task(narrow):
    flow = one(add_two, 1)
    assert narrow.submit(lambda: flow.run().result(), pure=False).result(timeout=20) == 3
    assert_nothing_left(narrow)
    assert_no_subscriptions(narrow)


def test_a_flow_runs_inside_of_a_coroutine_and_of_a_retry(runner):
    @task(max_retries=1, retry_delay=0)
    async def outer(flow):
        if context.task_run_number == 1:
            flow.run(x=1)
            raise ValueError("not yet")
        return flow.run(x=2).result()

    with Flow("inner") as inner:
        add_one(Parameter("x"))
    run = runner.run(one(outer, inner))
    assert run.result() == 3
    assert [attempt.outcome for attempt in run["outer"].attempts] == ["retrying", "success"]


# -- the runner inside ------------------------------------------------------------------------


@task
def describe_runner(flow):
    with DaskTaskRunner() as runner:
        own = get_client()
        flow.run()
        return {
            "is_workers": runner.client is own,
            "used": runner.last_run is not None,
            "where": runner.where,
            "address": runner.address,
            "closed": own.status,
        }


def test_a_runner_inside_uses_the_workers_client_and_leaves_it_open(runner):
    address = runner.address
    assert runner.run(one(describe_runner, one(add_one, 1))).result() == {
        "is_workers": True,
        "used": True,
        "where": f"the task's own cluster {address}",
        "address": address,
        "closed": "running",
    }
    assert runner.run(one(add_two, 1)).result() == 3


def run_with_client(flow):
    return DaskTaskRunner(client=get_client())


def run_with_address(flow):
    return DaskTaskRunner(address=get_client().scheduler.address)


@pytest.mark.parametrize("make", [run_with_client, run_with_address])
def test_a_runner_that_is_told_its_own_cluster_does_not_wait_for_its_own_place(runner, make):
    @task
    def outer(flow):
        with make(flow) as own:
            return own.run(flow).result()

    assert runner.run(one(outer, one(add_one, 1))).result() == 2


def test_runners_inside_may_overlap_and_close_in_any_order(runner):
    @task
    def outer(flow):
        first, second = DaskTaskRunner(), DaskTaskRunner()
        results = [first.run(flow).result()]
        first.close()
        # The task has not asked for its place again yet.
        results.append(second.run(flow).result())
        second.close()
        with worker_client(), DaskTaskRunner() as third:
            results.append(third.run(flow).result())
        results.append(flow.run().result())
        return results

    assert runner.run(one(outer, one(add_one, 1))).result() == [2] * 4


def test_a_runner_that_nobody_closed_keeps_no_place_from_a_later_task(runner):
    kept = []

    @task
    def careless(flow):
        kept.append(DaskTaskRunner())
        return kept[-1].run(flow).result()

    flow = one(careless, one(add_one, 1))
    for _ in range(3):
        assert runner.run(flow).result() == 2
    assert runner.run(one(add_two, 1)).result() == 3

    @task
    def close_all():
        import gc

        from dask_taskrunner import runner as module

        for left in list(module._open):
            left.close()
        gc.collect()

    assert runner.run(one(close_all)).state.is_successful()


@pytest.mark.parametrize("option", ["cluster_kwargs", "adapt_kwargs", "client_kwargs"])
def test_no_cluster_is_started_inside_a_worker(runner, option):
    @task
    def outer():
        DaskTaskRunner(**{option: {}})

    with pytest.raises(OptionError, match="inside a task a runner uses the task's own cluster"):
        runner.run(one(outer)).result()


def test_nothing_is_printed_on_the_worker(runner):
    @task
    def outer(flow):
        import contextlib
        import io

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        out, err = Terminal(), Terminal()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            flow.run()
        return out.getvalue(), err.getvalue()

    assert runner.run(one(outer, one(add_one, 1))).result() == ("", "")


def test_what_is_wrong_with_an_inner_flow_is_told_before_anything_is_sent(runner):
    @task
    def outer():
        Flow("empty").run()

    run = runner.run(one(outer))
    assert run["outer"].state.message.startswith("EmptyFlow: flow 'empty'")


# -- failures ---------------------------------------------------------------------------------


@task
def fails():
    raise ValueError("negative price")


@task
def runs_what_fails():
    return one(fails).run(run_name="inner", raise_on_failure=True).result()


@task(trigger=triggers.all_finished)
def look_at(x):
    return str(x)


def test_an_inner_run_that_failed_fails_the_task_with_its_own_words(runner):
    with Flow("outer") as flow:
        look_at(runs_what_fails())
    run = runner.run(flow)
    state = run["runs_what_fails"].state
    assert state.message.splitlines()[0] == (
        "FlowRunFailed: fails 'inner' failed: 1 of 1 task run failed"
    )
    assert "  fails  ValueError: negative price" in state.message
    with pytest.raises(FlowRunFailed, match="1 of 1 task run failed") as caught:
        run["runs_what_fails"].result()
    (failure,) = caught.value.failures
    assert failure == '<TaskRun fails Failed("ValueError: negative price")>'
    # Whoever looks at the failure on a worker sees the same.
    assert run["look_at"].result().startswith("runs_what_fails has no result: Failed(")
    assert "runs_what_fails  FlowRunFailed: fails 'inner' failed: 1 of 1" in run.failure_text()


def test_an_inner_run_that_failed_may_be_looked_at(runner):
    @task
    def outer():
        run = one(fails).run()
        return type(run.state).__name__, run["fails"].state.message

    assert runner.run(one(outer)).result() == ("Failed", "ValueError: negative price")


# -- what Dask does when a task makes room ------------------------------------------------------


def test_a_task_sees_nothing_of_the_one_that_made_room_for_it(runner, narrow, marks):
    @task(priority=20)
    def gate():
        marks.wait("open")
        return one(peek)

    @task
    def peek():
        marks.add("peek began")
        marks.wait("go")
        return context.get("extra")

    @task(priority=10)
    def outer(flow):
        with context(extra=1):
            return flow.run().result(), context.extra

    with Flow("peeks") as flow:
        last = outer(gate())
        for _ in range(4):
            peek()
    run = runner.start(flow)
    # The first one has begun in the gate's place, and `outer` is the next: it has overtaken the
    # others, which then begin where it waits.
    marks.add("open")
    marks.wait("peek began")

    def is_ready(run_id, dask_worker):
        states = {str(key): ts.state for key, ts in dask_worker.state.tasks.items()}
        return any(f"outer-{run_id}" in k and state == "ready" for k, state in states.items())

    assert eventually(lambda: all(narrow.run(is_ready, run.run_id).values()))
    marks.add("go")
    run.wait()
    assert run.result(last) == (None, 1)
    assert [run[f"peek{n}"].result() for n in ("", "-2", "-3", "-4")] == [None] * 4


# -- other Dask code ----------------------------------------------------------------------------


def test_a_task_gets_a_client_of_its_own_cluster(runner):
    @task
    def outer():
        client = get_client()
        # The place of the waiting task is given up by Dask itself here.
        with worker_client() as same:
            return client is same, client.scheduler.address, same.submit(sum, [1, 2]).result()

    assert runner.run(one(outer)).result() == (True, runner.address, 3)


@pytest.mark.parametrize("where", ["alone", "beside a runner"])
def test_collections_are_computed_in_a_task(runner, where):
    @task
    def outer(where):
        import dask
        import dask.array
        import dask.bag

        def compute():
            return [
                int(dask.array.ones((40, 40), chunks=10).sum().compute()),
                dask.delayed(sum)([dask.delayed(int)("1"), 2]).compute(),
                dask.bag.from_sequence(range(10), npartitions=3).sum().compute(),
            ]

        if where == "alone":
            return compute()
        with DaskTaskRunner() as own:
            return [*compute(), own.run(one(add_one, 1)).result()]

    with Flow("two") as flow:
        outer(where)
        outer(where)
    for values in runner.run(flow).result().values():
        assert values[:3] == [1600, 3, 45]
        assert values[3:] in ([], [2])


def test_a_task_in_a_thread_of_the_client_has_a_runner_of_its_own():
    # The worker is started inside of the block, and so are its tasks, as far as Python can tell.
    threads = {"n_workers": 0, "threads_per_worker": 1, "processes": False}
    with DaskTaskRunner(cluster_kwargs=threads) as runner:
        runner.cluster.scale(1)
        assert runner.run(one(add_four, 0), progress=False).result() == 4
