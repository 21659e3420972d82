"""In which form a run is shown, and where what failed is told: once, wherever that is."""

from __future__ import annotations

import json
import logging

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, task
from dask_taskrunner.showing import watching


@task
def divide(x, y):
    return x / y


@task
def talk():
    logging.getLogger("talk").warning("hear me")


@task
def wait_for(gate):
    gate.pass_through()


@pytest.fixture
def gate():
    gate = Gate("progress")
    yield gate
    gate.open()


@pytest.fixture
def broken(gate):
    """A flow that does not fail before somebody looks."""
    with Flow("etl") as flow:
        divide(1, 0, upstream_tasks=[wait_for(gate)])
    return flow


@pytest.fixture
def nobody_handles(monkeypatch):
    """As in a script that has not set up logging: what Python prints then is a last resort."""

    def take_away():
        # In the test itself: pytest's own handlers come after fixtures.
        logger = logging.getLogger("dask_taskrunner")
        monkeypatch.setattr(logger, "propagate", False)
        monkeypatch.setattr(logger, "handlers", [])
        assert not logger.hasHandlers()

    return take_away


def shown(start, flow, gate, progress):
    run = start(flow)
    with watching(run, progress=progress):
        gate.open()
        run.wait(PATIENCE)
    return run


def test_plain_lines_go_to_standard_error_and_the_failure_at_length(
    start, broken, gate, capsys, nobody_handles
):
    nobody_handles()
    shown(start, broken, gate, "plain")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("etl 'nightly'")
    assert "divide Failed: ZeroDivisionError: division by zero" in err
    assert err.count("1 of 2 task runs failed") == 1
    assert err.count("Traceback (most recent call last)") <= 1


def test_json_goes_to_standard_output_each_line_by_itself(start, broken, gate, capsys):
    shown(start, broken, gate, "json")
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["new"] for r in records if r.get("task_run") == "divide"][-1] == "Failed"
    assert records[-1]["flow_run"] == "nightly"
    assert records[-1]["new"] == "Failed"
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)


def test_none_shows_nothing(start, broken, gate, capsys, caplog):
    shown(start, broken, gate, "none")
    assert capsys.readouterr() == ("", "")
    # Quiet is never silent about failure.
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("progress", ["rich", True])
def test_a_failure_is_told_once_where_a_block_is_shown(
    start, broken, gate, capsys, nobody_handles, progress
):
    nobody_handles()
    shown(start, broken, gate, progress)
    err = capsys.readouterr().err
    assert err.count("1 of 2 task runs failed") == 1
    assert "x=1, y=0" in err


@pytest.mark.parametrize("progress", ["rich", "plain"])
def test_where_somebody_handles_records_they_get_them_all_the_same(
    start, broken, gate, capsys, caplog, progress
):
    shown(start, broken, gate, progress)
    assert "1 of 2 task runs failed" in caplog.text


def test_without_a_view_the_log_tells(start, broken, gate, capsys, nobody_handles):
    nobody_handles()
    run = start(broken)
    gate.open()
    run.wait(PATIENCE)
    told = []
    assert eventually(lambda: told.append(capsys.readouterr().err) or "1 of 2" in "".join(told))
    assert "".join(told).count("1 of 2 task runs failed") == 1
    # Who looks later is not told again.
    with watching(run, progress="plain"):
        pass
    assert "1 of 2 task runs failed" not in capsys.readouterr().err
