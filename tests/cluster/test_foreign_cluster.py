"""A cluster that others started: a scheduler and workers of their own, and clients beside ours."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from distributed import Client
from marks import eventually
from processes import ForeignCluster
from watched import tasks_on

import dask_taskrunner
from dask_taskrunner import DaskTaskRunner, Flow, exceptions, states, task, triggers
from dask_taskrunner.exceptions import TaskRunnerWarning

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path_factory.mktemp("foreign"), processes)
        cluster.start_scheduler()
        cluster.start_worker("w0")
        cluster.start_worker("w1")
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(2)
        yield cluster


@pytest.fixture
def observer(foreign):
    """A client that only looks, and finds nothing of ours when the test is over."""
    with Client(foreign.address, set_as_default=False) as observer:
        yield observer
        assert eventually(lambda: not tasks_on(observer), 5), tasks_on(observer)
        assert eventually(lambda: left_by_others(observer) == [], 5), left_by_others(observer)


def left_by_others(observer):
    """Return what the scheduler keeps of clients that have gone."""

    def look(own, dask_scheduler):
        clients = [c for c in dask_scheduler.clients if c not in ("fire-and-forget", own)]
        ours = [t for t in dask_scheduler._broker._topics if "taskrunner" in str(t)]
        subscribed = [
            str(name)
            for name, topic in dask_scheduler._broker._topics.items()
            if str(name).startswith("Client-") and str(name) != own and topic.subscribers
        ]
        return clients + ours + subscribed

    return [name for name in observer.run_on_scheduler(look, observer.id) if "worker" not in name]


@task
def add(x, y):
    return x + y


@task
def total(numbers):
    return sum(numbers)


def make_flow(name="sums", count=30):
    with Flow(name) as flow:
        total([add(n, 1) for n in range(count)])
    return flow


def test_a_flow_runs_at_an_address_and_leaves_nothing(foreign, observer):
    with DaskTaskRunner(address=foreign.address) as runner:
        assert runner.address == foreign.address
        assert runner.run(make_flow()).result() == sum(range(1, 31))
        assert runner.client.status == "running"
    assert runner.client.status == "closed"


def test_a_runner_on_anothers_client_ends_its_subscription(foreign, observer):
    with Client(foreign.address, set_as_default=False) as client:
        with DaskTaskRunner(client=client) as runner:
            runner.run(make_flow())
            topics = client.run_on_scheduler(
                lambda dask_scheduler: list(map(str, dask_scheduler._broker._topics))
            )
            assert client.id in topics
        assert client.status == "running"

        def subscribers(name, dask_scheduler):
            topic = dask_scheduler._broker._topics.get(name)
            return len(topic.subscribers) if topic is not None else 0

        assert eventually(lambda: not client.run_on_scheduler(subscribers, client.id), 1)
        # Runs come and go, and no topic of theirs stays.
        assert topics == client.run_on_scheduler(
            lambda dask_scheduler: list(map(str, dask_scheduler._broker._topics))
        )
        assert not client.futures


def test_a_client_that_its_user_closes_first_leaves_no_subscription(foreign, observer):
    # The observer's fixture looks for one: the scheduler keeps those of clients that have gone.
    with Client(foreign.address, set_as_default=False) as client:
        runner = DaskTaskRunner(client=client)
        run = runner.run(make_flow(), progress=False)
    assert run.state.is_successful()
    runner.close()


def test_two_clients_run_one_flow_at_once(foreign, observer):
    flow = make_flow()
    with (
        DaskTaskRunner(address=foreign.address) as first,
        DaskTaskRunner(address=foreign.address) as second,
    ):
        runs = [first.start(flow), second.start(flow)]
        assert [run.wait().result() for run in runs] == [sum(range(1, 31))] * 2
        for run in runs:
            assert run.counts == {"Success": 31}
            assert all(len(task_run.attempts) == 1 for task_run in run.task_runs)


def test_two_threads_run_two_flows_at_once_with_one_runner(foreign, observer):
    flows = [make_flow("first", 20), make_flow("second", 40)]
    with DaskTaskRunner(address=foreign.address) as runner, ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(runner.run, flows))
        assert [run.result() for run in runs] == [sum(range(1, 21)), sum(range(1, 41))]
        assert [len(run) for run in runs] == [21, 41]


def test_two_runners_share_one_client(foreign, observer):
    with (
        Client(foreign.address, set_as_default=False) as client,
        DaskTaskRunner(client=client) as first,
        DaskTaskRunner(client=client) as second,
    ):
        one = first.start(make_flow("first"))
        two = second.start(make_flow("second"))
        assert one.wait().result() == two.wait().result()
        first.close()
        # The one that goes on still hears of its runs.
        began = time.monotonic()
        assert second.run(make_flow("third", 3)).result() == 6
        assert time.monotonic() - began < 2


# -- processes that have Dask only ----------------------------------------------------------


@task(trigger=triggers.all_finished)
def after(x):
    return "ran"


def test_a_worker_without_the_package_fails_its_tasks_and_no_others(tmp_path):
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        # The scheduler lacks it as well.
        cluster.start_scheduler(has_package=False)
        cluster.start_worker("with")
        cluster.start_worker("without", has_package=False)
        cluster.wait_for(2)
        with pytest.warns(TaskRunnerWarning, match="is not installed on worker tcp://"):
            runner = processes.enter_context(DaskTaskRunner(address=cluster.address))
        payload = b"x" * 10_000
        with Flow("mixed") as flow:
            here = add(payload, b"1", task_args={"workers": "with"})
            add(here, b"2", task_args={"workers": "with"})
            there = add(here, b"3", task_args={"workers": "without"})
            add(there, b"4", task_args={"workers": "with"})
            after(there, task_args={"workers": "with"})
        began = time.monotonic()
        run = runner.run(flow)
        assert time.monotonic() - began < 10
        workers = runner.client.scheduler_info()["workers"]
        without = next(address for address, info in workers.items() if info["name"] == "without")
        state = run["add-3"].state
        assert type(state) is states.Failed
        assert state.message.startswith(f"dask_taskrunner is not installed on worker {without}")
        assert run["add-2"].state.is_successful()
        assert type(run["add-4"].state) is states.TriggerFailed
        assert run["after"].result() == "ran"
        assert run["add-3"].attempts == []


def test_a_worker_without_the_package_that_joins_a_run_hangs_nothing(tmp_path, marks):
    @task
    def slowly(n):
        marks.add("slowly")
        if n == 0:
            marks.wait("joined")
        return n

    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        cluster.start_worker("with")
        runner = processes.enter_context(DaskTaskRunner(address=cluster.address))
        with Flow("joined") as flow:
            numbers = [slowly(n) for n in range(30)]
            total([add(n, 1) for n in numbers])
        run = runner.start(flow)
        marks.wait("slowly")
        cluster.start_worker("without", has_package=False)
        runner.client.wait_for_workers(2)
        marks.add("joined")
        run.wait(timeout=20)
        assert set(run.counts) <= {"Success", "Failed", "TriggerFailed"}
        for task_run in run.failures:
            assert "dask_taskrunner is not installed on worker" in task_run.state.message


# -- what is not there is sent along --------------------------------------------------------------


@pytest.fixture
def bare(tmp_path):
    """A scheduler and two workers that have Dask, and nothing of ours."""
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler(has_package=False)
        cluster.start_worker("w0", has_package=False)
        cluster.start_worker("w1", has_package=False)
        cluster.wait_for(2)
        yield cluster


def test_workers_without_the_package_are_one_clear_error_at_connect(bare):
    with pytest.raises(exceptions.ConnectFailed, match="is not installed on workers tcp") as failed:
        DaskTaskRunner(address=bare.address)
    assert "pip install dask-taskrunner==" in str(failed.value)
    assert "ship=[dask_taskrunner]" in str(failed.value)


def test_with_ship_workers_need_only_dask(bare, marks):
    with DaskTaskRunner(address=bare.address, ship=[dask_taskrunner]) as runner:
        run = runner.run(make_flow())
        assert run.result() == sum(range(1, 31))
        # One that joins later gets it as well.
        bare.start_worker("w2", has_package=False)
        bare.wait_for(3)
        there = add.with_options(workers="w2", max_retries=1, retry_delay=0)
        assert runner.submit(there, 1, 2).result(20) == 3
        numbers = runner.map(add, [1, 2], [3, 4])
        assert numbers.results() == [4, 6]


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    """A package that only the client has; `edit` has its `f` return something else."""
    package = tmp_path / "here" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from my_package.parts import f\n")

    def edit(text):
        (package / "parts.py").write_text(f"def f():\n    return {text!r}\n")

    edit("first")
    monkeypatch.syspath_prepend(tmp_path / "here")
    module = importlib.import_module("my_package")
    module.edit = edit
    yield module
    for name in ("my_package", "my_package.parts"):
        del sys.modules[name]


def test_modules_that_were_edited_arrive_as_they_are_now(bare, my_package):
    ship = [dask_taskrunner, my_package]
    with DaskTaskRunner(address=bare.address, ship=ship) as runner:
        with Flow("edited") as flow:
            task(my_package.f)()
        for text in ("first", "other", "third"):
            my_package.edit(text)
            assert runner.submit(my_package.f).result(20) == text
            assert runner.run(flow).result() == text
        isolated = task(my_package.f, isolate="process")
        assert runner.submit(isolated).result(20) == "third"


def shipped_here(dask_worker):
    """What of it a worker has: files, places on the path, modules."""
    ours = ("my_package", "dask_taskrunner")
    return (
        [name for name in os.listdir(dask_worker.local_directory) if "shipped" in name],
        [place for place in sys.path if "shipped" in place],
        [name for name in sys.modules if name.startswith(ours)],
    )


def test_what_was_sent_along_leaves_with_whom_it_belongs_to(bare, my_package, marks):
    ship = [dask_taskrunner, my_package]

    def hold(marks):
        marks.add("holds")
        assert eventually(lambda: marks.count("go"))
        return my_package.f()

    with Client(bare.address, set_as_default=False) as client:

        def there():
            return client.run(shipped_here).values()

        runner = DaskTaskRunner(client=client, ship=ship)
        with DaskTaskRunner(address=bare.address, ship=ship) as other:
            both = [task(my_package.f, workers=name) for name in ("w0", "w1")]
            assert [other.submit(f).result(20) for f in both] == ["first", "first"]
            assert all(map(all, there()))
            runner.submit(hold, marks)
            assert eventually(lambda: marks.count("holds"))
        # Where its body runs.
        assert eventually(lambda: sorted(map(any, there())) == [False, True]), there()
        runner.close()
        assert sorted(map(any, there())) == [False, True]
        marks.add("go")
        assert eventually(lambda: not any(map(any, there()))), there()


def test_a_worker_that_does_not_answer_keeps_nobody_from_connecting(foreign, marks, observer):
    def hold(marks):
        marks.add("holds")
        # Holds Python's lock meanwhile, as some code in C does.
        ctypes.PyDLL(None).sleep(5)

    held = observer.submit(hold, marks, workers="w0")
    assert eventually(lambda: marks.count("holds"))
    began = time.monotonic()
    with DaskTaskRunner(address=foreign.address, ship=[dask_taskrunner]) as runner:
        assert time.monotonic() - began < 2.5
        assert runner.submit(add.with_options(workers="w1"), 1, 2).result(20) == 3
    assert not held.done()
    held.result(20)


def test_workers_that_come_after_the_connect_are_asked_before_the_first_run(tmp_path):
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        with DaskTaskRunner(address=cluster.address) as runner:
            cluster.start_worker("w0", has_package=False)
            cluster.wait_for(1)
            with pytest.raises(exceptions.ConnectFailed, match="is not installed on worker tcp"):
                runner.run(make_flow())
