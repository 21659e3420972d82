"""What users do, and what their code does. The numbers are those of the table of faults."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time

import pytest
from distributed import Client, LocalCluster
from marks import PATIENCE, eventually
from traffic import Traffic
from watched import tasks_on

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    MissingResult,
    ResultNotSerializable,
    context,
    signals,
    states,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.dask_backend.hub import Hub
from dask_taskrunner.time_limits import is_traced


@task
def same(x):
    return x


# -- results and exceptions -----------------------------------------------------------------------


class Locked:
    """Does not pickle."""

    def __init__(self):
        self.lock = threading.Lock()


def refuse():
    raise ZeroDivisionError("cannot be rebuilt")


class Trap:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return refuse, ()


@pytest.mark.parametrize("kind", [Locked, Trap])
def test_07_a_bad_pickle_is_a_failure_of_the_right_task_wherever_it_is_read(runner, client, kind):
    here, there = sorted(client.nthreads())
    with Flow("bad") as flow:
        made = task(kind, name="make")(task_args={"workers": here})
        same(made, task_args={"workers": there})
        task(lambda x: "read", name="read")(made, task_args={"workers": here})
    begin = time.monotonic()
    run = runner.run(flow)
    assert time.monotonic() - begin < 10
    state = run["same"].state
    assert isinstance(state.exception, ResultNotSerializable)
    assert f"the result of make, a {kind.__name__}, cannot be" in state.message
    assert run["read"].state.is_successful()
    with pytest.raises(ResultNotSerializable):
        run.result("make")


def test_08_a_large_result_is_used_on_the_cluster_and_never_comes_here(runner, monkeypatch):
    @task
    def make():
        return bytes(50_000_000)

    with Flow("large") as flow:
        task(len, name="count")(same(make()))
    traffic = Traffic(monkeypatch)
    assert runner.run(flow).result() == 50_000_000
    assert traffic.bytes < 5_000_000


class Unpicklable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Unbuildable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def _huge():
    raise ValueError("x" * 5_000_000)


def _unpicklable():
    raise Unpicklable("has a lock")


def _unbuildable():
    raise Unbuildable("one", "two")


def _group():
    raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])


@pytest.mark.parametrize(
    ("fail", "name"),
    [
        (_huge, "ValueError: xxx"),
        (_unpicklable, "Unpicklable: has a lock"),
        (_unbuildable, "Unbuildable: one"),
        (_group, "ExceptionGroup: several (2 sub-exceptions)"),
    ],
)
def test_09_whatever_an_exception_is_its_type_text_and_traceback_arrive(
    runner, monkeypatch, fail, name
):
    with Flow("odd") as flow:
        task(fail, name="fail")()
    traffic = Traffic(monkeypatch)
    run = runner.run(flow)
    assert traffic.bytes < 1_000_000
    state = run["fail"].state
    assert state.message.startswith(name)
    assert f", in {fail.__name__}" in state.traceback
    assert run["fail"].exception() is not None


# -- interrupts and cancellation ------------------------------------------------------------------


def test_10_ctrl_c_ends_the_run_and_the_next_one_works(runner, marks):
    @task
    def slow(n):
        marks.add("began")
        time.sleep(0.5)

    with Flow("interrupted") as flow:
        for n in range(50):
            slow(n)
    main = threading.main_thread().ident

    def interrupt():
        eventually(lambda: marks.count("began") >= 2)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt) as interrupted:
        runner.run(flow)
    assert type(interrupted.value.run.state) is states.Cancelled
    time.sleep(1)
    assert marks.count("began") <= 4
    with Flow("next") as flow:
        same(1)
    assert runner.run(flow).result() == 1


def is_ready(dask_worker):
    return any(known.state == "ready" for known in dask_worker.state.tasks.values())


def test_16_of_what_is_queued_nothing_starts_and_what_runs_is_named(runner, client, marks):
    @task
    def hold(n):
        marks.add("hold")
        eventually(lambda: marks.count("go"))

    with Flow("cancelled") as flow:
        hold.map(range(20))
    run = runner.start(flow)
    assert eventually(lambda: len(run.still_running) == 2)
    run.cancel()
    assert type(run.wait(PATIENCE).state) is states.Cancelled
    assert len(run.still_running) == 2
    # A place that becomes free before the news is there is given to what lies ready at it.
    assert eventually(lambda: not tasks_on(client), 10)
    assert eventually(lambda: not any(client.run(is_ready).values()), 10)
    marks.add("go")
    run.cancel(wait=PATIENCE)
    assert not run.still_running
    assert marks.count("hold") == 2
    # Both places are free.
    assert runner.map(lambda i: i, range(4)).results() == [0, 1, 2, 3]


# -- retries, timeouts, hooks ---------------------------------------------------------------------


def test_11_what_waits_for_a_retry_runs_once_and_holds_no_place(runner, marks):
    @task(max_retries=2, retry_delay=0.3)
    def flaky(x):
        if context.task_run_number <= 2:
            raise ConnectionError(x)
        return x

    @task
    def join(a, b):
        marks.add("join")
        return a, b

    with Flow("diamond") as flow:
        root = same(1)
        join(flaky(root), same(root))
        total = task(sum, name="total")(flaky.with_options(name="each").map([1, 2, 3]))
        flow.set_reference_tasks([total])
    run = runner.run(flow)
    assert run.result(total) == 6
    assert run["join"].result() == (1, 1)
    assert marks.count("join") == 1
    assert [one.run_number for one in run["flaky"].attempts] == [1, 2, 3]
    assert len(run["total"].attempts) == 1


def _sleep():
    time.sleep(1.8)


def _spin():
    # Where coverage is measured, no thread can be stopped, and this one ends by itself.
    while not (is_traced() and context.cancelled):
        pass


def _in_c():
    ctypes.pythonapi.PyThread_get_thread_ident()
    ctypes.CDLL(None).sleep(3)


@pytest.mark.parametrize("isolate", [None, "process"])
@pytest.mark.parametrize("body", [_sleep, _spin, _in_c])
def test_14_at_its_deadline_a_body_has_timed_out_and_its_place_is_free(runner, body, isolate):
    with Flow("late") as flow:
        task(body, name="late", timeout=0.3, isolate=isolate)()
    run = runner.run(flow)
    state = run["late"].state
    assert type(state) is states.TimedOut
    assert state.stopped is (body is _spin or isolate is not None)
    if not state.stopped:
        assert "its code runs on in a thread" in state.message
    assert runner.map(lambda i: i, range(4)).results() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("signal_", "state"),
    [(signals.FAIL("no"), states.Failed), (signals.SKIP("no"), states.Skipped)],
)
def test_14_a_signal_under_a_timeout_is_heard(runner, signal_, state):
    @task(timeout=20)
    def choose():
        raise signal_

    with Flow("signals") as flow:
        choose()
    assert type(runner.run(flow)["choose"].state) is state


def _bad(*args):
    raise LookupError("of the hook")


@pytest.mark.parametrize(
    ("options", "hook"),
    [
        ({"trigger": _bad}, "trigger _bad"),
        ({"state_handlers": [_bad]}, "state handler _bad"),
        ({"max_retries": 1, "retry_delay": _bad}, "retry_delay"),
        ({"max_retries": 1, "retry_on": _bad}, "retry_on"),
        ({"task_run_name": _bad}, "task_run_name"),
    ],
)
def test_19_a_hook_that_raises_is_named_in_the_failure_of_its_task(runner, options, hook):
    @task(**options)
    def fragile():
        raise ValueError("of the body")

    with Flow("hooks") as flow:
        fragile()
        same(1)
    run = runner.run(flow)
    assert hook in run["fragile"].state.message
    assert "LookupError: of the hook" in run["fragile"].state.message
    assert run["same"].state.is_successful()


def test_19_a_slow_handler_on_the_client_delays_nobody_elses_tasks(runner):
    def slow(flow, old, new):
        time.sleep(2)

    with Flow("slow", state_handlers=[slow]) as flow:
        same(1)
    run = runner.start(flow)
    with Flow("quick") as other:
        same(same(2))
    begin = time.monotonic()
    assert runner.run(other).result() == 2
    assert time.monotonic() - begin < 1.5
    run.wait(PATIENCE)


def test_20_what_is_not_reported_is_found_out(runner, monkeypatch):
    """All start reports are lost, and every third header."""
    receive, count = Hub._receive, iter(range(10**6))

    def losing(hub, event):
        message = event[1]
        if isinstance(message, (list, tuple)) and message[0] == "dtr1-headers":
            kept = [line for line in message[1] if next(count) % 3]
            receive(hub, (event[0], [message[0], kept]))

    monkeypatch.setattr(Hub, "_receive", losing)
    with Flow("silent") as flow:
        task(sum, name="total")(same.map([same(n) for n in range(6)]))
    begin = time.monotonic()
    run = runner.run(flow)
    assert run.result() == 15
    assert {type(one.state).__name__ for one in run.task_runs} == {"Success", "Mapped"}
    assert time.monotonic() - begin < 30


# -- several at once, one in another, maps --------------------------------------------------------


def test_15_runs_of_two_clients_share_nothing(cluster, client, marks):
    def flow(word):
        @task
        def tell():
            marks.add(word)
            context.logger.info(word)
            time.sleep(0.3)
            return word

        with Flow("same name") as made:
            tell()
        return made

    with (
        DaskTaskRunner(client=client) as one,
        Client(cluster, set_as_default=False) as second,
        DaskTaskRunner(client=second) as two,
    ):
        runs = [one.start(flow("a")), two.start(flow("b"))]
        assert [run.wait(PATIENCE).result() for run in runs] == ["a", "b"]
        assert [str(run["tell"].logs) for run in runs] == ["a", "b"]
        cancelled, other = one.start(flow("c")), two.start(flow("d"))
        cancelled.cancel()
        assert other.wait(PATIENCE).result() == "d"
        # The code of now, under the name of before.
        assert one.run(flow("e")).result() == "e"


def test_17_flows_and_collections_in_a_task_of_one_worker_with_one_thread(marks):
    @task
    def inner():
        import dask

        return sum(dask.compute(*[dask.delayed(lambda n: n)(n) for n in range(3)]))

    @task
    def outer(depth):
        with Flow("inside") as flow:
            outer(depth - 1) if depth else inner()
        return flow.run(progress=False).result()

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as narrow,
        DaskTaskRunner(cluster=narrow) as runner,
    ):
        with Flow("outside") as flow:
            outer(2)
        assert runner.run(flow).result() == 3


@pytest.mark.parametrize(
    ("source", "state"),
    [
        (lambda: [1, 2], "Mapped"),
        (lambda: (n for n in (1, 2)), "Mapped"),
        (list, "Mapped"),
        (lambda: 5, "Failed"),
        (lambda: "text", "Failed"),
        (lambda: 1 / 0, "TriggerFailed"),
    ],
)
def test_21_what_a_map_makes_of_what_it_is_given(runner, source, state):
    with Flow("maps") as flow:
        same.map(task(source, name="source")())
    run = runner.run(flow)
    assert type(run["same"].state).__name__ == state


def test_21_a_skipped_source_skips_and_unequal_lengths_fail(runner):
    @task
    def skip():
        raise signals.SKIP("nothing")

    @task
    def add(x, y):
        return x + y

    @task(trigger=triggers.all_finished)
    def look(xs):
        return [type(x) is MissingResult for x in xs]

    @task
    def odd_fails(x, _):
        if x % 2:
            raise ValueError(x)
        return x

    with Flow("maps") as flow:
        same.map(skip())
        add.map(same.with_options(name="two")([1, 2]), same.with_options(name="three")([1, 2, 3]))
        look(odd_fails.map([1, 2], unmapped(0)))
    run = runner.run(flow)
    assert type(run["same"].state) is states.Skipped
    assert "two has 2, three has 3" in run["add"].state.message
    assert run["look"].result() == [True, False]


def test_the_worker_processes_are_those_of_the_beginning(runner, pids):
    """Nothing in here but what is said to kill one does."""
    before = pids()
    runner.map(lambda i: os.getpid(), range(4)).results()
    assert pids() == before
