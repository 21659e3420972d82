"""The command as a user starts it: a process of its own, with worker processes below it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from dask_taskrunner import cli

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
