"""Bodies that take too long, crash or are not wanted any more, on real workers."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from distributed import get_worker, secede
from marks import PATIENCE, eventually

from dask_taskrunner import (
    Flow,
    TaskCrashed,
    TaskRunnerError,
    TaskTimedOut,
    check_cancelled,
    context,
    get_client,
    signals,
    states,
    task,
)
from dask_taskrunner.time_limits import is_traced

pytestmark = pytest.mark.cluster


def isolated_processes():
    """Return the processes of isolated bodies."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "dask_taskrunner.worker.isolated_main" in process.cmdline():
                found.append(process.pid)
    return found


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert eventually(lambda: not isolated_processes())


def one_task(bound_to, *args):
    with Flow("limits") as flow:
        bound_to(*args)
    return flow


# -- timeouts -------------------------------------------------------------------------------------


@task(timeout=0.3)
def wait_for_long(marks):
    marks.add("began")
    # No exception reaches it before it is back from there.
    time.sleep(2)
    marks.add("ended")


@task(timeout=0.3)
def spin(marks):
    try:
        # Where coverage is measured, no thread can be stopped, and this one ends by itself.
        while not (is_traced() and context.cancelled):
            time.sleep(0.001)
    finally:
        marks.add("stopped")


@task
def which():
    return get_worker().address


def test_a_body_that_cannot_be_stopped_gives_its_place_back(runner, marks):
    run = runner.run(one_task(wait_for_long, marks))
    state = run["wait_for_long"].state
    assert type(state) is states.TimedOut
    assert not state.stopped
    assert "its code runs on in a thread, and a thread cannot be stopped" in state.message
    (attempt,) = run["wait_for_long"].attempts
    assert attempt.outcome == "timed-out"
    # Both places are free at once.
    begin = time.monotonic()
    assert len(set(runner.map(lambda _: get_worker().address, range(8)).results())) == 2
    assert time.monotonic() - begin < 1.0
    # What it does later is of no account.
    time.sleep(1.5)
    assert type(run["wait_for_long"].state) is states.TimedOut
    with pytest.raises(TaskTimedOut, match="longer than its timeout"):
        run.result("wait_for_long")


def test_code_of_python_is_stopped_and_the_state_says_where_it_was(runner, marks):
    run = runner.run(one_task(spin, marks))
    state = run["spin"].state
    assert state.stopped
    assert "its code was stopped" in state.message
    assert ", in spin" in state.traceback
    assert eventually(lambda: marks.count("stopped") == 1)


@task(timeout=0.3, max_retries=1, retry_delay=0)
def lucky_the_second_time(i):
    if context.task_run_number == 1 and i == 0:
        time.sleep(0.8)
    return context.task_run_number, i


def test_what_has_timed_out_is_tried_again_child_by_child(runner):
    with Flow("map") as flow:
        lucky_the_second_time.map([0, 1])
    run = runner.run(flow)
    assert run.result() == [(2, 0), (1, 1)]
    children = run["lucky_the_second_time"].children
    outcomes = [[one.outcome for one in child.attempts] for child in children]
    assert outcomes == [["retrying", "success"], ["success"]]


@task(timeout=PATIENCE)
def ask_the_cluster():
    with Flow("inner") as flow:
        which()
    # It makes room for the inner task, also where the worker has one thread.
    inner = [flow.run(progress=False).result() for _ in range(2)]
    return inner, get_client().submit(lambda: 3).key, threading.current_thread().name


def test_under_a_timeout_a_body_uses_the_cluster_as_without_one(runner):
    addresses, key, thread = runner.submit(ask_the_cluster).result(PATIENCE)
    assert len(addresses) == 2
    assert key
    assert thread == "dask-taskrunner-body"


@task(timeout=PATIENCE)
def leave_the_pool():
    secede()


def test_what_cannot_be_done_under_a_timeout_says_so(runner):
    with pytest.raises(TaskRunnerError, match="cannot be called by a task with a timeout"):
        runner.submit(leave_the_pool).result(PATIENCE)


# -- cancellation ---------------------------------------------------------------------------------


@task
def work_until_cancelled(marks):
    marks.add("began")
    try:
        while True:
            check_cancelled()
            time.sleep(0.01)
    except signals.CANCELLED:
        marks.add("cancelled", str(context.cancelled))
        raise


def test_a_body_sees_that_it_is_cancelled(runner, marks):
    run = runner.start(one_task(work_until_cancelled, marks))
    other = runner.start(one_task(work_until_cancelled.with_options(name="other"), marks))
    assert eventually(lambda: run.still_running and other.still_running)
    run.cancel(wait=PATIENCE)
    assert marks.texts("cancelled") == ["True"]
    assert not run.still_running
    # The other run's cancellation is its own.
    assert other["other"].state.is_running()
    other.cancel(wait=PATIENCE)
    assert marks.count("cancelled") == 2


# -- processes ------------------------------------------------------------------------------------


@task(isolate="process", log_prints=True)
def report(x):
    print("printed", len(x))
    logging.getLogger("some_library").info("logged")
    print("complained", file=sys.stderr)
    check_cancelled()
    return os.getpid(), os.getppid(), x, context.slug, context.parameters


def test_an_isolated_body_has_its_inputs_and_its_words_and_result_come_back(runner):
    big = b"x" * 3_000_000
    run = runner.run(one_task(report, big))
    pid, parent, echoed, slug, parameters = run.result("report")
    assert echoed == big
    assert (slug, parameters) == ("report", {})
    workers = runner.client.run(os.getpid)
    assert parent in workers.values()
    assert pid not in workers.values()
    texts = [line.text for line in run["report"].logs]
    assert texts == ["printed 3000000", "logged", "complained"]


@task(isolate="process", timeout=0.5)
def start_a_child_and_hang(marks):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    marks.add("child", str(child.pid))
    time.sleep(60)


def test_at_its_deadline_a_process_is_killed_with_what_it_has_started(runner, marks):
    begin = time.monotonic()
    run = runner.run(one_task(start_a_child_and_hang, marks))
    assert time.monotonic() - begin < PATIENCE
    state = run["start_a_child_and_hang"].state
    assert type(state) is states.TimedOut
    assert state.stopped
    (child,) = map(int, marks.texts("child"))
    assert eventually(lambda: not is_alive(child))


@task(isolate="process", timeout=0.5, log_prints=True)
def talk():
    while True:
        print("a line")


def test_a_process_that_never_stops_talking_is_killed_at_its_deadline(runner):
    begin = time.monotonic()
    run = runner.run(one_task(talk))
    assert time.monotonic() - begin < PATIENCE
    assert type(run["talk"].state) is states.TimedOut
    assert "a line" in [line.text for line in run["talk"].logs]


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@task(isolate="process")
def hang(marks):
    marks.add("hangs")
    time.sleep(60)


def test_a_cancelled_process_is_killed(runner, marks):
    run = runner.start(one_task(hang, marks))
    assert eventually(lambda: marks.count("hangs") and run.still_running)
    run.cancel(wait=PATIENCE)
    assert not run.still_running
    assert eventually(lambda: not isolated_processes(), 2)


@task(isolate="process", max_crash_retries=1)
def read_what_is_not_there(marks):
    if marks.add("began") == 1:
        ctypes.string_at(0)
    return "second time"


def test_a_crash_in_c_costs_the_process_and_not_the_worker(runner, marks):
    workers = set(runner.client.run(os.getpid).values())
    run = runner.run(one_task(read_what_is_not_there, marks))
    assert run.result() == "second time"
    first, second = run["read_what_is_not_there"].attempts
    assert (first.outcome, second.outcome) == ("crashed", "success")
    assert first.error == f"isolated process ended with signal {int(signal.SIGSEGV)} (SIGSEGV)"
    assert set(runner.client.run(os.getpid).values()) == workers


@task(isolate="process", max_crash_retries=1)
def leave():
    os._exit(3)


def test_a_process_that_ends_without_a_word_has_crashed(runner):
    with pytest.raises(TaskCrashed, match="isolated process ended with exit code 3"):
        runner.submit(leave).result(PATIENCE)


class OfThisModuleOnly(Exception):
    pass


@task(isolate="process")
def fail(how):
    if how == "signal":
        raise signals.SKIP("nothing to do")
    if how == "result":
        return threading.Lock()
    raise OfThisModuleOnly(how)


def test_what_an_isolated_body_raises_is_raised_here(runner):
    future = runner.submit(fail, "why")
    with pytest.raises(OfThisModuleOnly, match="why") as raised:
        future.result(PATIENCE)
    notes = "".join(raised.value.__notes__)
    assert ", in fail" in notes
    assert "isolated_main" not in notes
    with pytest.raises(TaskRunnerError, match="cannot leave the isolated process"):
        runner.submit(fail, "result").result(PATIENCE)


def test_a_signal_chooses_the_state_from_there_too(runner):
    run = runner.run(one_task(fail, "signal"))
    assert type(run["fail"].state) is states.Skipped
    assert run["fail"].state.message == "nothing to do"


@task(isolate="process", memory_limit="1 GiB")
def take(n):
    return len(bytearray(n))


def test_memory_is_limited(runner):
    assert runner.submit(take, 1000).result(PATIENCE) == 1000
    with pytest.raises(MemoryError):
        runner.submit(take, 2_000_000_000).result(PATIENCE)


@task(isolate="process")
def ask_from_outside():
    return get_client().submit(lambda: 7).result()


def test_an_isolated_body_may_ask_the_cluster(runner):
    assert runner.submit(ask_from_outside).result(PATIENCE) == 7
