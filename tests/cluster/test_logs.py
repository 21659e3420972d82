"""What bodies log on real workers, and when the client has it."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import re
import sys
import textwrap
import threading
import time
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path

import msgpack
import pytest
from distributed import Client, get_worker, worker_client
from kernels import started_kernel
from marks import PATIENCE, eventually
from processes import ForeignCluster, environment, started
from watched import kill

from dask_taskrunner import DaskTaskRunner, Flow, context, task, unmapped

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A scheduler and a worker of two threads that other processes started."""
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path_factory.mktemp("foreign"), processes)
        cluster.start_scheduler()
        cluster.start_worker("w0")
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(1)
        yield cluster


@pytest.fixture
def there(foreign):
    with DaskTaskRunner(address=foreign.address) as runner:
        yield runner


@task(log_prints=True)
def talk(x):
    context.logger.info("info %s", x)
    logging.getLogger("some_library").info("library")
    logging.getLogger("some_library").debug("no")
    print("printed", x)
    print("complained", x, file=sys.stderr)
    warnings.warn("warned", stacklevel=1)
    return x


@task
def waits(marks):
    context.logger.info("before")
    marks.add("there")
    marks.wait("go")
    context.logger.info("after")


def texts(run):
    return [line.text for line in run.logs]


def flow_of(call, name="f"):
    with Flow(name) as flow:
        call()
    return flow


def config_of_logging(dask_worker):
    """Return what a good guest leaves alone, and whose methods loggers have."""
    root = logging.getLogger()
    return (
        root.level, [str(handler) for handler in root.handlers],
        logging.getLogger("dask_taskrunner").level, logging.getLogger("some_library").level,
        logging.Logger.callHandlers.__module__, logging.Logger.isEnabledFor.__module__,
        type(sys.stdout).__name__, type(sys.stderr).__name__,
    )  # fmt: skip


def threads_of_ours(dask_worker):
    return [t.name for t in threading.enumerate() if "taskrunner" in t.name]


def test_logs_and_prints_come_to_a_client_of_a_cluster_that_others_started(there):
    run = there.run(flow_of(lambda: talk(3)))
    logs = run["talk"].logs
    assert texts(run["talk"])[:4] == ["info 3", "library", "printed 3", "complained 3"]
    assert any("UserWarning: warned" in line.text for line in logs)
    assert {line.worker for line in logs} == set(there.client.scheduler_info()["workers"])
    assert {line.attempt for line in logs} == {1}
    assert abs(logs[0].time.timestamp() - time.time()) < 60


def test_nothing_stays_on_a_foreign_worker(foreign, there):
    before = there.client.run(config_of_logging)
    there.run(flow_of(lambda: talk(3)))
    assert eventually(lambda: there.client.run(config_of_logging) == before, 5)
    assert eventually(lambda: not any(there.client.run(threads_of_ours).values()), 5)


def test_lines_arrive_long_before_the_body_ends(there, marks):
    run = there.start(flow_of(lambda: waits(marks)))
    marks.wait("there")
    assert eventually(lambda: texts(run["waits"]) == ["before"], 2)
    assert not run["waits"].state.is_finished()
    marks.add("go")
    run.wait(PATIENCE)
    assert texts(run["waits"]) == ["before", "after"]


WAITING = """
    import sys
    from pathlib import Path
    import time
    from dask_taskrunner import DaskTaskRunner, Flow, context, task

    address, directory = {address!r}, Path({directory!r})

    @task(log_prints=True)
    def fit(x):
        context.logger.warning("look at me")
        print("and me")
        for _ in range(3000):
            if (directory / "go").exists():
                return
            time.sleep(0.01)

    with Flow("flow") as flow:
        fit.map([7])

    runner = DaskTaskRunner(address=address)
    """


def test_lines_are_in_the_clients_terminal_while_the_body_runs(foreign, tmp_path):
    path = tmp_path / "script.py"
    text = WAITING.format(address=foreign.address, directory=str(tmp_path))
    path.write_text(textwrap.dedent(text) + "runner.run(flow)\nrunner.close()\n")
    master, slave = pty.openpty()
    shown = ""
    # A test that hangs here is ended by its limit.
    with started([sys.executable, str(path)], env=environment(TERM="xterm"), stderr=slave):
        os.close(slave)
        while "and me" not in shown:
            shown += os.read(master, 10_000).decode()
        (tmp_path / "go").touch()
        with suppress(OSError):  # The other end has closed.
            while more := os.read(master, 10_000):
                shown += more.decode()
    os.close(master)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert len(re.findall(r"\d\d:\d\d:\d\d fit\[0\] WARNING look at me", plain)) == 1
    assert len(re.findall(r"\d\d:\d\d:\d\d fit\[0\] INFO and me", plain)) == 1
    assert plain.index("and me") < plain.rindex("Succeeded after")


def test_lines_are_in_the_clients_notebook_while_the_body_runs(foreign, tmp_path):
    with started_kernel(tmp_path) as kernel:
        kernel.run(WAITING.format(address=foreign.address, directory=str(tmp_path)))
        cell = kernel.run("run = runner.start(flow)\nrun")
        kernel.run(
            "while len(run['fit[0]'].logs) < 2: time.sleep(0.01)\ntime.sleep(1)  # four pictures"
        )
        (html,) = kernel.html(cell)
        kernel.run("(directory / 'go').touch()\nrun.wait(20)\nrunner.close()")
    assert "fit[0] WARNING look at me" in html
    assert "fit[0] INFO and me" in html
    assert "Succeeded" not in html


def test_two_bodies_on_threads_of_one_worker_do_not_mix(marks):
    @task(log_prints=True)
    def one_of_two(n, marks):
        marks.add("there")
        marks.wait("there", 2)
        for i in range(200):
            logging.getLogger("some_library").info("%s %s", n, i)
            print(n, i)
        return get_worker().address

    with DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2}) as runner:
        run = runner.run(flow_of(lambda: one_of_two.map([0, 1], marks=unmapped(marks))))
        for n, child in enumerate(run["one_of_two"].children):
            expected = [f"{n} {i}" for i in range(200) for _ in range(2)]
            assert texts(child) == expected
            assert child.logs.dropped == 0


def test_each_attempt_has_its_lines_also_one_whose_worker_died(runner, marks):
    @task(max_retries=1, retry_delay=0)
    def unlucky(marks):
        number = marks.add("ran")
        context.logger.info("run %s", number)
        if number == 1:
            marks.add("there")
            marks.wait("killed")
        if number == 2:
            raise ValueError("no")

    run = runner.start(flow_of(lambda: unlucky(marks)))
    marks.wait("there")
    assert eventually(lambda: len(run["unlucky"].logs) == 1)
    assert eventually(lambda: run["unlucky"].state.is_running())
    kill(marks.pids("ran")[0])
    marks.add("killed")
    run.wait(60)
    assert run.state.is_successful()
    assert [(line.attempt, line.text) for line in run["unlucky"].logs] == [
        (1, "run 1"), (2, "run 2"), (3, "run 3"),
    ]  # fmt: skip
    assert [a.outcome for a in run["unlucky"].attempts] == ["worker-lost", "retrying", "success"]
    workers = [a.worker for a in run["unlucky"].attempts]
    assert [line.worker for line in run["unlucky"].logs] == workers


def note_what_is_sent(dask_worker):
    """Note when how much leaves a worker: on its way it may be held up, and arrive at once."""
    dask_worker.noted, send = [], dask_worker.log_event

    def log_event(topic, message):
        if "dtr1-lines" in message:
            dask_worker.noted.append((time.monotonic(), len(msgpack.dumps(message))))
        send(topic, message)

    dask_worker.log_event = log_event


def what_was_sent(dask_worker):
    del dask_worker.log_event
    return dask_worker.noted


def test_a_flood_fills_no_memory_and_few_messages(there):
    @task
    def flood(n):
        for i in range(n):
            context.logger.info("line %d", i)

    def most_memory():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    there.run(flow_of(lambda: [flood(1000) for _ in range(8)]))
    # On all workers: which of them it is that runs something is Dask's choice.
    before = there.client.run(most_memory)
    there.client.run(note_what_is_sent)
    run = there.run(flow_of(lambda: flood(300_000)))
    logs = run["flood"].logs
    assert len(logs) + logs.dropped == 300_000
    assert (logs[0].text, logs[-1].text) == ("line 0", "line 299999")
    assert len(str(logs)) < 65_000
    assert [note.task_run for note in run.notes] == ["flood"]
    after = there.client.run(most_memory)
    assert all(after[worker] - before[worker] < 5_000 for worker in before)  # kB

    (messages,) = there.client.run(what_was_sent).values()
    assert len(messages) > 3
    for at, _ in messages:
        # Nearly a second: the worker has looked at its clock a moment before it is noted here.
        second = [nbytes for other, nbytes in messages if at <= other < at + 0.95]
        assert len(second) <= 10
        assert sum(second) <= 64_000


def test_what_a_nested_run_logs_is_its_own(there):
    @task
    def outer():
        context.logger.info("outer")
        with Flow("nested") as nested:
            talk(1)
        run = nested.run()
        context.logger.info("outer again")
        return [line.text for line in run["talk"].logs]

    run = there.run(flow_of(outer))
    assert run.result()[:2] == ["info 1", "library"]
    assert texts(run["outer"]) == ["outer", "outer again"]


def test_another_clients_task_that_begins_in_a_bodys_context_is_not_heard(there):
    @task(log_prints=True)
    def makes_room():
        def another():
            logging.getLogger("some_library").warning("another's line")
            print("another's print")

        context.logger.info("mine")
        with worker_client() as client:
            client.submit(another, pure=False).result()
        context.logger.info("mine again")

    # One worker with one thread: what it submits can only run in its place.
    run = there.run(flow_of(makes_room))
    assert texts(run["makes_room"]) == ["mine", "mine again"]


def test_an_async_body_and_its_threads_are_heard(there):
    @task(log_prints=True)
    async def body():
        context.logger.info("one")
        await asyncio.to_thread(print, "two")
        await asyncio.gather(*(asyncio.create_task(say(word)) for word in ("three", "four")))

    async def say(word):
        context.logger.info(word)

    run = there.run(flow_of(body))
    assert texts(run["body"]) == ["one", "two", "three", "four"]


def test_a_future_has_its_lines_when_it_is_done(there):
    @task
    def one_line(n):
        context.logger.info("info %s", n)

    # No more than a worker sends in the second in which one before has sent all that it may.
    futures = there.map(one_line, range(20))
    for n, future in enumerate(futures):
        future.result()
        assert texts(future) == [f"info {n}"]


def test_two_runs_of_two_clients_have_their_own(foreign, there):
    with DaskTaskRunner(address=foreign.address) as other:
        mine, others = there.start(flow_of(lambda: talk(1))), other.start(flow_of(lambda: talk(2)))
        mine.wait(PATIENCE)
        others.wait(PATIENCE)
        assert texts(mine["talk"])[0] == "info 1"
        assert texts(others["talk"])[0] == "info 2"
