"""Workers that are really killed, futures that others cancel, tasks that kill their worker."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys

import psutil
import pytest
from marks import PATIENCE, eventually, is_whole
from watched import kill, tasks_on, worker_pids

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    MissingResult,
    TaskCancelled,
    TaskCrashed,
    UpstreamFailed,
    states,
    task,
    triggers,
)

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster():
    """A cluster of the test's own.

    On one that many tests had used before, Dask's nannies were seen to start a killed worker not
    again, and every later test would wait for it.
    """
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={"allowed_failures": 0},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        yield client


@task
def short(marks, *upstream):
    return marks.add("short")


@task
def die(marks, *upstream):
    marks.add("die")
    os._exit(1)


def describe(x):
    return f"missing {x.slug}: {x.state!r}" if isinstance(x, MissingResult) else f"got {x!r}"


# -- executions that are lost ---------------------------------------------------------------


def test_a_worker_killed_mid_task_costs_an_attempt_and_no_retry(runner, marks):
    @task
    def long():
        if marks.add("long") == 1:
            marks.wait("never")
        return "done"

    with Flow("killed") as flow:
        done = long()
        for _ in range(5):
            short(marks)
        short(marks, done)
    run = runner.start(flow)
    # "Running" is what the worker reported: a death after that is this task's.
    assert eventually(lambda: run["long"].state.is_running())
    kill(marks.pids("long")[0])
    assert run.wait().state.is_successful()
    lost, won = run["long"].attempts
    assert (lost.number, lost.run_number, lost.outcome) == (1, 1, "worker-lost")
    assert lost.worker != won.worker
    assert lost.started is not None
    assert (won.number, won.run_number, won.outcome) == (2, 1, "success")
    assert run["long"].result() == "done"
    assert marks.count("short") == 6
    siblings = [r for r in run.task_runs if r.slug.startswith("short")]
    assert [len(sibling.attempts) for sibling in siblings] == [1] * 6


def test_what_always_kills_its_worker_crashes_and_the_rest_of_the_flow_goes_on(runner, marks):
    @task(trigger=triggers.any_failed)
    def alarm(x):
        return describe(x)

    @task(trigger=triggers.all_finished)
    def clean_up(x):
        return describe(x)

    with Flow("crashes") as flow:
        dead = die(marks, task_args={"max_crash_retries": 1})
        alarm(dead)
        clean_up(dead)
        short(marks, dead)
        independent = short(marks, short(marks))
        flow.set_reference_tasks([independent])
    run = runner.run(flow)
    assert run.state.is_successful()
    assert "1 of 6" in run.state.message or "2 of 6" in run.state.message
    state = run["die"].state
    assert type(state) is states.Crashed
    times = marks.count("die")
    # Its budget pays for two; a body that dies at once cannot be told from an innocent twice.
    assert 2 <= times <= 4
    assert f"its worker died {times} times, last tcp://127.0.0.1:" in state.message
    outcomes = [a.outcome for a in run["die"].attempts]
    assert outcomes[-2:] == ["worker-lost"] * 2
    assert run["alarm"].result().startswith("missing die: Crashed(")
    assert run["clean_up"].result().startswith("missing die: Crashed(")
    assert type(run["short"].state) is states.TriggerFailed
    assert run["short-3"].state.is_successful()
    with pytest.raises(TaskCrashed, match="its worker died"):
        run["die"].result()
    with pytest.raises(UpstreamFailed):
        run["short"].result()
    assert run.failures[0].slug == "die"


def test_user_retries_do_not_pay_for_crashes(runner, marks):
    @task(max_retries=1, retry_delay=0.02, max_crash_retries=5)
    def both():
        number = marks.add("both")
        if number == 1:
            raise ValueError("first")
        if number == 2:
            os._exit(1)
        return number

    with Flow("both") as flow:
        both()
    run = runner.run(flow)
    assert run.result() == 3
    assert [a.run_number for a in run["both"].attempts if a.outcome != "worker-lost"] == [1, 2]


# -- values that are lost -------------------------------------------------------------------


@task
def payload(marks):
    marks.add("payload")
    return b"p" * 200_000


@task
def hold(marks, *upstream):
    marks.add("hold")
    marks.wait("go")
    return len(upstream[0]) if upstream else 0


def test_a_value_lost_with_its_worker_is_made_again_for_a_pending_reader(
    runner, cluster, client, marks
):
    @task
    def made():
        # Not before the other worker is busy, so that the value lies here alone.
        marks.wait("hold")
        marks.add("made")
        return b"p" * 200_000

    @task
    def read(data, gate):
        return len(data)

    with Flow("lost") as flow:
        read(made(), hold(marks))
    run = runner.start(flow)
    assert eventually(lambda: run["made"].state.is_finished())
    where = run["made"].attempts[0].worker
    kill(worker_pids(client)[where])
    assert eventually(lambda: where not in cluster.scheduler.workers)
    marks.add("go")
    run.wait()
    assert run.result() == 200_000
    assert marks.count("made") == 2
    assert marks.count("hold") == 1
    attempts = run["made"].attempts
    assert [a.outcome for a in attempts] == ["success", "re-executed"]
    assert attempts[1].worker != where
    assert any("made" in note.text for note in run.notes)


def test_with_nothing_pending_a_dead_worker_costs_nothing(runner, client, cluster, marks):
    with Flow("nothing") as flow:
        for _ in range(5):
            short(marks, payload(marks))
    run = runner.run(flow)
    pid_of = worker_pids(client)
    assert eventually(lambda: not tasks_on(client))
    # One after the other: of two that die at once, Dask's nannies may start only one again.
    for worker, pid in pid_of.items():
        kill(pid)
        assert eventually(lambda gone=worker: gone not in client.nthreads() and is_whole(cluster))
    assert marks.count("payload") == 5
    assert marks.count("short") == 5
    assert run.state.is_successful()


def test_a_kept_result_that_is_lost_is_made_again_and_counted(runner, client, marks):
    with Flow("kept") as flow:
        payload(marks)
    run = runner.run(flow)
    worker = run["payload"].attempts[0].worker
    kill(worker_pids(client)[worker])
    assert eventually(lambda: marks.count("payload") == 2)
    assert len(run.result(timeout=20)) == 200_000
    assert eventually(lambda: len(run["payload"].attempts) == 2)
    assert run["payload"].attempts[1].outcome == "re-executed"
    assert run["payload"].state.is_successful()


# -- others ----------------------------------------------------------------------------------


def test_what_another_client_cancels_is_cancelled_and_triggers_see_it(runner, cluster, marks):
    from distributed import Client, Future

    @task(trigger=triggers.all_finished)
    def after(x):
        return describe(x)

    with Flow("others") as flow:
        held = hold(marks)
        after(held)
        short(marks, held)
    run = runner.start(flow)
    marks.wait("hold")
    with Client(cluster, set_as_default=False) as other:
        key = (f"hold-{run.run_id}-0", -1, 1)
        other.cancel([Future(key, client=other)], force=True)
        assert eventually(lambda: run["hold"].state.is_cancelled())
    # Dask believes that the slot is free: what comes next may stand behind the body.
    marks.add("go")
    run.wait()
    state = run["hold"].state
    assert type(state) is states.Cancelled
    assert state.message.startswith("by another client: ")
    assert run["after"].result().startswith("missing hold: Cancelled(")
    assert type(run["short"].state) is states.TriggerFailed
    with pytest.raises(TaskCancelled):
        run["hold"].result()


def test_a_retired_worker_is_no_loss(marks):
    with DaskTaskRunner(
        cluster_kwargs={"n_workers": 2, "threads_per_worker": 1},
        task_defaults={"max_crash_retries": 0},
    ) as runner:
        with Flow("retired") as flow:
            short(marks, hold(marks, payload(marks)))
        run = runner.start(flow)
        assert eventually(lambda: run["hold"].state.is_running())
        runner.client.retire_workers([run["hold"]._record.running.worker])
        marks.add("go")
        run.wait()
        assert run.state.is_successful()
        # What the retired worker held went to the other one; its body may run once more.
        assert marks.count("payload") == 1
        assert [a.run_number for a in run["hold"].attempts] in ([1], [1, 1])


# -- what must not run twice ----------------------------------------------------------------------


@task(rerun_on_loss=False)
def pay(marks, *upstream):
    marks.add("paid")
    eventually(lambda: marks.count("go"))
    return b"x" * 1000


@task
def book(paid, marks):
    marks.add("booked")
    eventually(lambda: marks.count("read"))
    return len(paid)


def test_a_body_that_must_not_run_twice_does_not_where_its_worker_dies(runner, marks):
    with Flow("payments") as flow:
        book(pay(marks), marks)
    run = runner.start(flow)
    assert eventually(lambda: run.still_running)
    kill(marks.pids("paid")[0])
    run.wait(PATIENCE)
    assert type(run["pay"].state) is states.Crashed
    assert type(run["book"].state) is states.TriggerFailed
    assert marks.count("paid") == 1
    assert [one.outcome for one in run["pay"].attempts] == ["worker-lost"]


def test_a_death_before_anybody_knew_that_it_had_begun_is_found_out(runner, marks):
    """A submission that is not known to have begun is sent again, uncounted."""
    with Flow("payments") as flow:
        pay.with_options(name="quick")(marks)
    run = runner.start(flow)
    assert eventually(lambda: marks.count("paid"))
    kill(marks.pids("paid")[0])
    marks.add("go")
    run.wait(PATIENCE)
    assert run["quick"].state.is_failed()
    assert marks.count("paid") == 1


def test_a_lost_result_of_what_must_not_run_twice_is_not_made_again(runner, marks):
    marks.add("go")
    with Flow("payments") as flow:
        book(pay(marks), marks)
    run = runner.start(flow)
    # The reader holds the result on its worker; both go.
    assert eventually(lambda: run["book"].state.is_running())
    kill(marks.pids("booked")[0])
    run.wait(PATIENCE)
    assert run["pay"].state.is_successful()
    assert run["book"].state.is_failed()
    assert marks.count("paid") == 1


def test_a_retry_is_another_attempt(runner, marks):
    @task(rerun_on_loss=False, max_retries=1, retry_delay=0)
    def pay_at_last(marks):
        if marks.add("tried") == 1:
            raise ConnectionError("no route")
        return "paid"

    with Flow("payments") as flow:
        pay_at_last(marks)
    assert runner.run(flow).result() == "paid"


def test_the_scheduler_keeps_no_claim(runner, marks):
    marks.add("go")
    with Flow("payments") as flow:
        pay(marks)
    assert runner.run(flow).state.is_successful()

    def claims(dask_scheduler):
        return list(dask_scheduler.extensions["events"]._events)

    assert eventually(lambda: not runner.client.run_on_scheduler(claims))


# -- processes of a body's own --------------------------------------------------------------------


@task(isolate="process", max_crash_retries=0)
def hang(marks):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    marks.add("child", str(child.pid))
    marks.add("hangs")
    # No thread of Python's gets a turn meanwhile.
    ctypes.PyDLL(None).sleep(60)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_worker_leaves_no_process_behind(runner, marks):
    with Flow("isolated") as flow:
        hang(marks)
    run = runner.start(flow)
    assert eventually(lambda: marks.count("hangs"))
    (worker,) = {psutil.Process(pid).ppid() for pid in marks.pids("hangs")}
    kill(worker)
    for pid in [*marks.pids("hangs"), *map(int, marks.texts("child"))]:
        assert eventually(lambda: not is_alive(pid), 5)  # noqa: B023
    run.wait(PATIENCE)
    assert type(run["hang"].state) is states.Crashed
