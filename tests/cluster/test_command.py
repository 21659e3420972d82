"""The command as a user starts it: a process of its own, with worker processes below it."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack, suppress

import pytest
from marks import eventually
from processes import ForeignCluster, started

from dask_taskrunner import cli, cli_errors

pytestmark = pytest.mark.cluster

COMMAND = [sys.executable, "-m", "dask_taskrunner"]

FLOW = """
import os, time
from dask_taskrunner import Flow, Parameter, task

@task
def work(n):
    if n < 0:
        raise ValueError("negative")
    return n

@task
def mark(path):
    open(path, "w").close()
    time.sleep(60)

with Flow("calc") as calc:
    work(Parameter("n", default=1))

with Flow("long") as long:
    mark(Parameter("path"))
"""


@pytest.fixture
def flow_file(tmp_path):
    path = tmp_path / "flows.py"
    path.write_text(FLOW)
    return path


def command(*args, **options):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=100, **options)


@pytest.mark.slow
def test_the_demo_tells_its_story(tmp_path):
    done = command("demo", "--out", str(tmp_path))
    assert done.returncode == cli.SUCCESS, done.stderr
    assert "two more" in " ".join(done.stdout.lower().split())
    assert "What failed: broken_shard (OSError: planted" in done.stdout
    assert "flaky_shard ran 3 times" in done.stdout
    with (tmp_path / "census.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["modules"]) for row in rows) > 100
    assert f"{len(rows)} packages; all are in {tmp_path / 'census.csv'}" in done.stdout


def test_a_flow_in_a_file_runs_on_workers_that_do_not_have_the_file(flow_file, tmp_path):
    done = command("run", f"{flow_file}:calc", "-p", "n=2", "--workers", "1", cwd=tmp_path.parent)
    assert done.returncode == cli.SUCCESS, done.stderr
    assert "calc" in done.stderr
    assert "Succeeded" in done.stderr


def test_a_flow_that_fails_says_so_and_exits_with_one(flow_file):
    done = command("run", f"{flow_file}:calc", "-p", "n=-1", "--workers", "1")
    assert done.returncode == cli.FAILED
    assert "ValueError: negative" in done.stderr


def test_an_address_where_nobody_answers_is_told_in_one_line():
    target = "dask_taskrunner.examples.census:census"
    # Dask's own setting of how long to try; 30 s by default.
    patience = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    done = command("run", target, "--address", "tcp://127.0.0.1:1", env={**os.environ, **patience})
    assert done.returncode == cli.CLUSTER
    assert "tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_an_interrupt_ends_the_command_with_130(flow_file, tmp_path):
    mark = tmp_path / "began"
    args = ["run", f"{flow_file}:long", "-p", f"path={mark}", "--workers", "1"]
    # A session of its own, so that the signal reaches all of the command's processes, as a
    # terminal's does, and none of the test's.
    with subprocess.Popen(
        [*COMMAND, *args], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == cli.INTERRUPTED
    assert "interrupted" in err
    assert "Cancelled" in err
    assert "Traceback" not in err


def test_a_cluster_that_is_lost_ends_the_command_with_3_at_once(flow_file, tmp_path):
    mark = tmp_path / "mark"
    with ExitStack() as processes:
        cluster = ForeignCluster(tmp_path, processes)
        cluster.start_scheduler()
        cluster.start_worker("w0")
        args = ["run", f"{flow_file}:long", "-p", f"path={mark}", "--address", cluster.address]
        process = processes.enter_context(
            started([*COMMAND, *args, "--progress=plain"], stderr=subprocess.PIPE, text=True)
        )
        assert eventually(mark.exists)
        cluster.scheduler.kill()
        killed = time.monotonic()
        _, err = process.communicate(timeout=60)
    # Dask would look for its scheduler for half a minute.
    assert time.monotonic() - killed < 15
    assert process.returncode == cli_errors.CLUSTER, err
    assert err.splitlines()[-1].startswith("Error: the connection to the scheduler was lost.")
    # Nor is it told that Dask no longer does.
    assert "Traceback" not in err
    assert "distributed" not in err


def test_what_is_watched_is_renewed_on_the_workers_as_well(tmp_path):
    rates = tmp_path / "rates_beside.py"
    rates.write_text("def rate():\n    return 1\n")
    (tmp_path / "prices.py").write_text(
        "import rates_beside\n"
        "from dask_taskrunner import Flow, task\n"
        "@task\n"
        "def price():\n"
        "    import rates_beside as there\n"  # as workers have it
        "    raise ValueError(f'{rates_beside.rate()} and {there.rate()}')\n"
        "with Flow('prices') as flow:\n"
        "    price()\n"
    )
    args = ["run", "prices.py", "--workers", "1", "--watch", "--progress", "plain"]
    with subprocess.Popen(
        [*COMMAND, *args], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert until(process.stderr, "waits for a change").count(
            "price Failed: ValueError: 1 and 1"
        )
        rates.write_text("def rate():\n    return 2\n")
        assert until(process.stderr, "waits for a change").count(
            "price Failed: ValueError: 2 and 2"
        )
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == cli.INTERRUPTED


def until(stream, text):
    """Return the lines of a stream up to one that has a text in it."""
    read = []
    for line in stream:
        read.append(line)
        if text in line:
            return "".join(read)
    raise AssertionError("".join(read))


def test_lines_of_json_go_to_standard_output_and_nothing_else(flow_file):
    args = ["run", f"{flow_file}:calc", "-p", "n=-1", "--workers", "1", "--progress", "json"]
    done = command(*args)
    assert done.returncode == cli.FAILED
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["new"] for r in records if r.get("task_run") == "work"][-1] == "Failed"
    assert records[-1]["new"] == "Failed"
    assert records[-1]["flow_run"].startswith("calc-")


@pytest.mark.parametrize(
    ("style", "n", "code"),
    [("json", "1", cli.SUCCESS), ("plain", "-1", cli.FAILED), ("rich", "-1", cli.FAILED)],
)
def test_where_nobody_reads_the_exit_code_is_the_runs_all_the_same(flow_file, style, n, code):
    args = ["run", f"{flow_file}:calc", "-p", f"n={n}", "--workers", "1", "--progress", style]
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([*COMMAND, *args], stdout=writer, stderr=writer) as process:
        os.close(writer)
        assert process.wait(60) == code


def test_plain_lines_go_to_standard_error(flow_file):
    args = ["run", f"{flow_file}:calc", "-p", "n=-1", "--workers", "1", "--progress", "plain"]
    done = command(*args)
    assert done.returncode == cli.FAILED
    assert done.stdout == ""
    assert "work Failed: ValueError: negative" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("1 of 1 task run failed") == 1


def test_in_a_terminal_there_is_a_block_and_a_panel_of_what_failed(flow_file):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    args = [*COMMAND, "run", f"{flow_file}:calc", "-p", "n=-1", "--workers", "1"]
    env = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(args, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    written = read_to_the_end(master)
    assert process.wait(60) == cli.FAILED
    assert "\x1b[" in written
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert shown.count("1 of 1 task run failed") == 1
    for text in (
        "calc 'calc-",
        "Failed after",
        "ValueError: negative",
        "n=-1",
        'raise ValueError("',
    ):
        assert text in shown


def read_to_the_end(descriptor):
    read = b""
    # On Linux the end of a terminal is an error.
    with suppress(OSError), os.fdopen(descriptor, "rb", buffering=0) as file:
        while part := file.read(4096):
            read += part
    return read.decode()
