"""In which form a run is shown, and where what failed is told: once, wherever that is."""

from __future__ import annotations

import json
import logging

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, interrupts, task, triggers
from dask_taskrunner.listener import expecting_a_view
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


@pytest.mark.parametrize("style", ["json", "plain"])
def test_who_waits_again_for_a_run_that_had_paused_is_told_of_what_is_new(start, capsys, style):
    with Flow("etl") as flow:
        talk(task_args={"trigger": triggers.manual_only})

    def told():
        with watching(run, progress=style):
            run.wait(PATIENCE)
        out, err = capsys.readouterr()
        return out + err

    run = start(flow)
    assert "Paused" in told()
    run.approve()
    after = told()
    assert "Succe" in after
    assert '"new": "Paused"' not in after
    assert "waits until somebody lets it run" not in after


# --- what fails before there is a view -----------------------------------------------------------


@pytest.fixture
def over_at_once(start):
    """Give a function that starts a flow as `run` does, and comes back when it has failed."""

    def start_it():
        with Flow("etl") as flow:
            divide(1, 0)
        with expecting_a_view():
            run = start(flow)
        run.wait(PATIENCE)
        return run

    return start_it


@pytest.mark.parametrize("progress", ["rich", True, "plain"])
def test_what_failed_before_there_was_a_view_is_told_by_the_view_alone(
    over_at_once, capsys, nobody_handles, progress
):
    nobody_handles()
    run = over_at_once()
    assert capsys.readouterr().err == ""
    with watching(run, progress=progress):
        pass
    assert capsys.readouterr().err.count("1 of 1 task run failed") == 1


@pytest.mark.parametrize("progress", [None, False, "none", "json"])
def test_where_no_view_tells_of_failures_the_log_does(
    over_at_once, capsys, nobody_handles, progress
):
    nobody_handles()
    run = over_at_once()
    with watching(run, progress=progress):
        pass
    err = capsys.readouterr().err
    assert err.count("nightly: divide failed: ZeroDivisionError: division by zero") == 1
    assert err.count("1 of 1 task run failed") == 1
    assert run.listener.is_printed


def test_whoever_handles_records_gets_them_before_there_is_a_view(over_at_once, caplog):
    over_at_once()
    assert caplog.text.count("1 of 1 task run failed") == 1


def test_what_was_interrupted_before_there_was_a_view_is_told_by_the_log(
    over_at_once, capsys, nobody_handles
):
    nobody_handles()
    launched = [over_at_once()]
    with pytest.raises(KeyboardInterrupt), interrupts.cancelling(launched):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.count("1 of 1 task run failed") == 1


# --- what a terminal would obey ------------------------------------------------------------------


HOSTILE = "gone\x1b[2J\x1b]0;title\x07\rover"


@task(log_prints=True)
def misbehave(text):
    print(text)
    raise ValueError(text)


@pytest.fixture
def hostile():
    # A name has no brackets.
    with Flow("etl\x1bc\r") as flow:
        misbehave(HOSTILE, task_args={"name": "task\x1bc\r"})
    return flow


@pytest.mark.parametrize("progress", ["rich", "plain", "none"])
def test_no_text_of_the_users_commands_the_terminal(
    start, hostile, capsys, nobody_handles, progress
):
    nobody_handles()
    with expecting_a_view():
        run = start(hostile, run_name=f"nightly{HOSTILE}")
    with watching(run, progress=progress):
        run.wait(PATIENCE)
    # Standard output has what the body itself has printed, in this process.
    err = capsys.readouterr().err
    assert "gone\\rover" in err
    # rich's own, where it draws, would be colors; a captured stream has none.
    assert "\x1b" not in err
    assert err.replace("\n", "").isprintable()
    failed = run["task\x1bc\r"]
    assert "\x1b" not in f"{run!r}{failed!r}{run.state!r}{failed.state!r}"
