"""Workers that die, go, or lack something. The numbers are those of the table of faults."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

import pytest
from distributed import Client
from marks import PATIENCE, eventually
from processes import ForeignCluster
from watched import kill

from dask_taskrunner import (
    ClusterLost,
    DaskTaskRunner,
    Flow,
    MissingResult,
    UpstreamFailed,
    states,
    task,
    triggers,
    watchdog,
)


@task
def short(marks, *upstream):
    return marks.add("short")


def test_01_a_worker_killed_mid_task_costs_an_execution_and_no_retry(runner, marks):
    @task
    def long():
        if marks.add("long") == 1:
            time.sleep(60)
        return "done"

    with Flow("killed") as flow:
        long()
        for _ in range(4):
            short(marks)
    run = runner.start(flow)
    assert eventually(lambda: run["long"].state.is_running())
    kill(marks.pids("long")[0])
    assert run.wait(PATIENCE).state.is_successful()
    assert [one.outcome for one in run["long"].attempts] == ["worker-lost", "success"]
    assert [one.run_number for one in run["long"].attempts] == [1, 1]
    assert marks.count("short") == 4


def test_02_what_always_kills_its_worker_crashes_and_others_go_on(runner, marks):
    @task(max_crash_retries=1)
    def die():
        os._exit(1)

    @task(trigger=triggers.any_failed)
    def clean_up(x):
        return type(x) is MissingResult

    with Flow("deadly") as flow:
        dead = die()
        clean_up(dead)
        short(marks, dead)
        short(marks)
    run = runner.run(flow)
    state = run["die"].state
    assert type(state) is states.Crashed
    assert "memory limit, os._exit or a crash in C code" in state.message
    assert "last tcp://" in state.message
    assert run["clean_up"].result() is True
    assert type(run["short"].state) is states.TriggerFailed
    assert run["short-2"].state.is_successful()


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (Odd("odd"), "Odd: odd"),
    ],
)
def test_03_whatever_a_body_raises_is_its_failure_and_the_worker_lives(runner, pids, error, text):
    before = pids()

    @task
    def leave():
        raise error

    with Flow("leaves") as flow:
        leave()
    run = runner.run(flow)
    assert type(run["leave"].state) is states.Failed
    assert run["leave"].state.message == text
    assert pids() == before


@task
def make(marks):
    marks.add("make", str(os.getpid()))
    return b"x" * 100_000


@task
def read(data, marks):
    marks.add("read")
    if marks.count("read") == 1:
        eventually(lambda: marks.count("go"))
    return len(data)


@pytest.mark.parametrize("rerun", [True, False])
def test_04_a_result_that_dies_with_its_worker_is_made_again_where_it_is_read(runner, marks, rerun):
    maker = make.with_options(rerun_on_loss=rerun)
    with Flow("lost") as flow:
        read(maker(marks), marks)
    run = runner.start(flow)
    assert eventually(lambda: run["read"].state.is_running())
    # It lies where it is read: both go.
    for pid in set(marks.pids("make")) | set(marks.pids("read")):
        kill(pid)
    marks.add("go")
    run.wait(PATIENCE)
    if rerun:
        assert run.result() == 100_000
        assert marks.count("make") == 2
        assert [one.outcome for one in run["make"].attempts] == ["success", "re-executed"]
        assert run.notes
    else:
        assert marks.count("make") == 1
        assert run["make"].state.is_successful()
        with pytest.raises((UpstreamFailed, Exception), match="lost"):
            run.result()


def test_05_where_nobody_reads_it_nothing_runs_again(runner, marks):
    with Flow("read") as flow:
        read(make(marks), marks)
    marks.add("go")
    run = runner.start(flow)
    assert run.wait(PATIENCE).state.is_successful()
    kill(marks.pids("make")[0])
    time.sleep(2)
    assert marks.count("make") == 1


def test_06_a_lost_scheduler_is_told_and_what_was_done_is_not_done_again(tmp_path, marks):
    with Flow("lost") as flow:
        done = short(marks)

        @task
        def hold(x):
            if marks.add("hold") == 1:
                time.sleep(60)
            return x

        hold(done)
    with ExitStack() as processes:
        first = ForeignCluster(tmp_path, processes)
        first.start_scheduler()
        first.start_worker("w0")
        with DaskTaskRunner(address=first.address) as runner:
            run = runner.start(flow)
            assert eventually(lambda: run.still_running)
            begin = time.monotonic()
            kill(first.scheduler.pid)
            with pytest.raises(ClusterLost):
                run.wait(PATIENCE)
            assert time.monotonic() - begin < 15
    assert not run.failures
    assert run["short"].state.is_successful()
    (tmp_path / "again").mkdir()
    with ExitStack() as processes:
        second = ForeignCluster(tmp_path / "again", processes)
        second.start_scheduler()
        second.start_worker("w0")
        with DaskTaskRunner(address=second.address) as runner:
            again = runner.run(flow, resume=run)
            assert again.result() == 1
    assert marks.count("short") == 1


def test_13_what_nobody_can_run_says_so_and_ends_if_it_is_to(tmp_path, monkeypatch, marks):
    monkeypatch.setattr(watchdog, "STILL_AFTER", 0.5)
    with Flow("nobody") as flow:
        short(marks)
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        with DaskTaskRunner(address=cluster.address, stall_timeout=2) as runner:
            run = runner.run(flow)
            assert type(run["short"].state) is states.Crashed
            assert "no worker is connected" in run.state.message
        with DaskTaskRunner(address=cluster.address) as runner:
            run = runner.start(flow)
            assert eventually(lambda: run.notes)
            cluster.start_worker("w0")
            assert run.wait(PATIENCE).result() == 1


def test_18_a_module_that_a_worker_lacks_is_named_and_edited_code_runs(
    runner, tmp_path, monkeypatch
):
    (tmp_path / "only_here.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with Flow("lacking") as flow:
        task(only_here.f, name="f")(1)
    run = runner.run(flow)
    assert type(run["f"].state) is states.Failed
    assert "only_here" in run["f"].state.message
    assert "tcp://" in run["f"].state.message

    for number in (1, 2):
        # As a notebook's cell that was edited.
        scope = {}
        exec(f"def edited():\n    return {number}", scope)
        with Flow("edited") as flow:
            task(scope["edited"])()
        assert runner.run(flow).result() == number


def test_22_a_worker_that_retires_takes_nothing_with_it(runner, client, marks):
    @task
    def step(i):
        marks.add("step")
        time.sleep(0.1)
        return bytes(20_000)

    @task
    def count(parts):
        return len(parts)

    with Flow("retired") as flow:
        count(step.map(range(30)))
    run = runner.start(flow)
    assert eventually(lambda: marks.count("step") > 5)
    client.retire_workers([sorted(client.nthreads())[0]], close_workers=True)
    assert run.wait(PATIENCE).result() == 30
    assert not run.failures
    assert all("worker-lost" not in [a.outcome for a in c.attempts] for c in run["step"].children)
    # What the retired one was at is done again elsewhere, at most.
    assert 30 <= marks.count("step") <= 32


def test_12_a_client_that_is_killed_leaves_no_task(tmp_path):
    from processes import script

    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        cluster.start_worker("w0")
        text = """
            import sys, time
            from dask_taskrunner import DaskTaskRunner, Flow, task
            from pathlib import Path

            @task
            def wait(n):
                Path("began").touch()
                time.sleep(0.5)

            with Flow("killed") as flow:
                for n in range(200):
                    wait(n)
            DaskTaskRunner(address=sys.argv[1]).run(flow, progress=False)
        """
        with script(tmp_path, text, cluster.address) as process:
            assert eventually((tmp_path / "began").exists)
            process.kill()
            with Client(cluster.address, set_as_default=False) as observer:

                def tasks(dask_scheduler):
                    return len(dask_scheduler.tasks)

                assert eventually(lambda: observer.run_on_scheduler(tasks) == 0)
