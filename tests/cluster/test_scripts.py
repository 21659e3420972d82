"""Scripts as a user starts them: how they are interrupted, what they print, how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress

import pytest
from distributed import Client
from marks import eventually
from processes import ForeignCluster, script
from watched import tasks_on

from dask_taskrunner import Flow, states, task

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]

INTERRUPTED = """
    import faulthandler, sys, time
    from pathlib import Path
    if __name__ == "__main__":
        # Where it hangs, the test's message says where.
        faulthandler.dump_traceback_later(25, exit=True)
    from dask_taskrunner import DaskTaskRunner, Flow, task

    address, directory = sys.argv[1], Path(sys.argv[2])

    @task
    def long(directory, n):
        (directory / f"began-{n}").touch()
        for _ in range(3000):
            if (directory / "go").exists():
                break
            time.sleep(0.01)

    @task
    def one():
        return 1

    def main():
        with Flow("long") as flow:
            for n in range(20):
                long(directory, n)
        with Flow("short") as short:
            one()
        options = {"cluster_kwargs": {"n_workers": 1, "threads_per_worker": 1}}
        if address:
            options = {"address": address}
        with DaskTaskRunner(**options) as runner:
            try:
                runner.run(flow)
            except KeyboardInterrupt as interrupt:
                run = interrupt.run
                same = run is runner.last_run
                print("state", type(run.state).__name__, run.counts, same, flush=True)
            (directory / "interrupted").touch()
            for _ in range(1000):
                if (directory / "go").exists() or not address:
                    break
                time.sleep(0.01)
            (directory / "go").touch()
            print("again", runner.run(short).result())
        faulthandler.cancel_dump_traceback_later()

    if __name__ == "__main__":
        main()
    """


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path_factory.mktemp("foreign"), processes)
        cluster.start_scheduler()
        cluster.start_worker("w0")
        yield cluster


def is_quiet(err):
    """Nothing but what Python itself says of an interrupt in a callback of the collector."""
    return not err or (err.startswith("Exception ignored in") and err.count("Traceback") == 1)


def test_ctrl_c_cancels_the_run_and_leaves_no_task_on_a_foreign_cluster(foreign, tmp_path):
    with (
        Client(foreign.address, set_as_default=False) as observer,
        script(tmp_path, INTERRUPTED, foreign.address, tmp_path) as process,
    ):
        assert eventually((tmp_path / "began-0").exists), process.communicate(timeout=5)
        assert eventually(lambda: len(tasks_on(observer)) >= 21)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert eventually((tmp_path / "interrupted").exists), process.communicate()[1]
        assert time.monotonic() - began < 2
        assert eventually(lambda: not tasks_on(observer), 2), tasks_on(observer)
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=20)
    assert "state Cancelled {'Cancelled': 20} True" in out
    assert "again 1" in out
    assert process.returncode == 0, err
    assert is_quiet(err)
    # Nothing that waited has begun since.
    assert len(list(tmp_path.glob("began-*"))) == 1


def test_ctrl_c_does_not_kill_the_workers_of_a_cluster_of_ours(tmp_path):
    with script(tmp_path, INTERRUPTED, "", tmp_path) as process:
        assert eventually((tmp_path / "began-0").exists), process.communicate(timeout=5)
        began = time.monotonic()
        # The whole group, as a terminal does it: scheduler, nannies and workers get it as well.
        os.killpg(process.pid, signal.SIGINT)
        assert eventually((tmp_path / "interrupted").exists), process.communicate()[1]
        assert time.monotonic() - began < 2
        out, err = process.communicate(timeout=20)
    assert "state Cancelled {'Cancelled': 20} True" in out
    assert "again 1" in out
    assert process.returncode == 0
    assert is_quiet(err)


def test_a_second_ctrl_c_comes_out_at_once(foreign, tmp_path):
    text = """
        import sys, time
        from pathlib import Path
        from dask_taskrunner import DaskTaskRunner, Flow, task

        directory = Path(sys.argv[2])

        @task
        def long(directory):
            (directory / "began").touch()
            for _ in range(3000):
                if (directory / "go").exists():
                    break
                time.sleep(0.01)

        def handler(flow, old, new):
            # Keeps the run from ending.
            if new.is_finished():
                (directory / "ending").touch()
                time.sleep(1.5)

        if __name__ == "__main__":
            with Flow("long", state_handlers=[handler]) as flow:
                long(directory)
            runner = DaskTaskRunner(address=sys.argv[1])
            runner.run(flow)
        """
    with script(tmp_path, text, foreign.address, tmp_path) as process:
        assert eventually((tmp_path / "began").exists), process.communicate(timeout=5)
        os.killpg(process.pid, signal.SIGINT)
        assert eventually((tmp_path / "ending").exists)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert time.monotonic() - began < 3
    (tmp_path / "go").touch()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err


class Swallows:
    """Is interrupted where nobody hears of it, as in a callback of the garbage collector."""

    def __reduce__(self):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return int, ()


def test_an_interrupt_that_somebody_swallowed_is_heard_all_the_same(runner, marks):
    @task
    def long(x):
        marks.wait("go")

    with Flow("swallowed") as flow:
        long(Swallows())
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        runner.run(flow)
    assert time.monotonic() - began < 2
    assert type(caught.value.run.state) is states.Cancelled
    marks.add("go")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_handler_of_the_users_own_is_left_alone(runner, marks):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *args: seen.append(args))
    try:
        with Flow("own") as flow:
            task(abs)(Swallows())
        assert runner.run(flow).result() == 0
        assert seen
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_script_without_a_main_guard_is_told_so_before_any_process_starts(tmp_path):
    text = """
        import multiprocessing
        from dask_taskrunner import Flow, task

        started = []
        original = multiprocessing.process.BaseProcess.start
        multiprocessing.process.BaseProcess.start = lambda self: started.append(original(self))

        @task
        def one():
            return 1

        with Flow("one") as flow:
            one()

        try:
            flow.run()
        finally:
            print("processes:", len(started))
        """
    began = time.monotonic()
    with script(tmp_path, text) as process:
        out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert out == "processes: 0\n"
    assert err.count("exceptions.MissingMainGuard: ") == 1
    assert 'if __name__ == "__main__":' in err
    assert "script.py, line 17, starts worker processes" in err


def test_an_address_and_a_guarded_function_need_no_guard_around_the_line(foreign, tmp_path):
    text = """
        import sys
        from dask_taskrunner import DaskTaskRunner, Flow, task

        @task
        def one():
            return 1

        with Flow("one") as flow:
            one()
        with DaskTaskRunner(address=sys.argv[1]) as runner:
            print(runner.run(flow).result())
        """
    with script(tmp_path, text, foreign.address) as process:
        assert process.communicate(timeout=30) == ("1\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("going", [False, True], ids=["idle", "running"])
def test_a_runner_that_was_never_closed_lets_the_script_end_in_silence(tmp_path, going):
    text = f"""
        import time
        from dask_taskrunner import DaskTaskRunner, Flow, task

        @task
        def one():
            return 1

        @task
        def long():
            time.sleep(60)

        if __name__ == "__main__":
            runner = DaskTaskRunner(cluster_kwargs={{"n_workers": 2, "threads_per_worker": 1}})
            with Flow("one") as flow:
                one()
            run = runner.run(flow)
            assert run.result() == 1
            if {going}:
                with Flow("long") as flow:
                    long()
                run = runner.start(flow)
                while not run["long"].state.is_running():
                    time.sleep(0.01)
        """
    began = time.monotonic()
    with script(tmp_path, text) as process:
        out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (process.returncode, out, err) == (0, "", "")


def test_a_failing_flow_in_a_quiet_script_tells_its_failures(tmp_path):
    text = """
        from dask_taskrunner import Flow, task

        @task
        def broken(x):
            raise ValueError(f"cannot take {x}")

        @task
        def after(x):
            return x

        if __name__ == "__main__":
            with Flow("etl") as flow:
                after(broken(5))
            run = flow.run(run_name="etl-nightly")
            print(type(run.state).__name__)
        """
    with script(tmp_path, text) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "Failed\n"
    lines = err.splitlines()
    assert lines[0] == "etl-nightly: broken failed: ValueError: cannot take 5"
    assert lines[1].endswith(
        "etl 'etl-nightly' failed: 1 of 2 task runs failed, 1 did not run because of it"
    )
    assert any(line.startswith("  broken  ValueError: cannot take 5") for line in lines)
    assert any('script.py", line 6, in broken' in line for line in lines)
    assert lines[-1].startswith("  not run: after (trigger all_successful: 1 of 1 upstream runs")


def test_a_script_that_fails_with_raise_on_failure_says_it_once_more_and_exits(tmp_path):
    text = """
        from dask_taskrunner import Flow, task

        @task
        def broken():
            raise ValueError("no")

        if __name__ == "__main__":
            with Flow("etl") as flow:
                broken()
            flow.run(raise_on_failure=True)
        """
    with script(tmp_path, text) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "FlowRunFailed: etl" in err
