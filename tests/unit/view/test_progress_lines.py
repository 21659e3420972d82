"""A run as lines, for people and for machines; and what is written when."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest
from rich.console import Console
from story import START, Story

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.view import lines
from dask_taskrunner.view.block import Title
from dask_taskrunner.view.failure_panel import failure_panel
from dask_taskrunner.view.failure_text import Failure, FailureReport, NotRun
from dask_taskrunner.view.following import following
from dask_taskrunner.view.lines import (
    PlainLines,
    dropped_record,
    json_lines,
    log_record,
    state_record,
)
from dask_taskrunner.view.log_lines import NewLines, ShownLine
from dask_taskrunner.view.progress import STYLES, check_progress
from dask_taskrunner.view.tally import Tally

TITLE = Title("etl", "nightly", "LocalCluster")
NOTHING = NewLines((), 0)


def writer_of(told):
    return PlainLines(Tally(told.names), TITLE)


def without_clocks(written):
    return [line.split(" ", 1)[1] for line in written]


def test_lines_tell_of_the_beginning_of_what_went_wrong_and_of_the_end():
    told = Story("ab").flow(0, "Running").task(0, 0, "Running").task(1, 0, "Retrying", "due later")
    told.task(2, 0, "Failed", "ValueError: no\nmore").task(2, 1, "TriggerFailed", "a failed")
    told.flow(3, "Failed", "b failed")
    first, *others = writer_of(told).lines(told.history, NOTHING)
    assert first == "etl 'nightly' on LocalCluster"
    assert without_clocks(others) == [
        "a Retrying: due later",
        "a Failed: ValueError: no",
        "b TriggerFailed: a failed",
        "Failed after 3.0 s: b failed",
    ]


def test_a_success_is_told_with_its_time_and_of_many_only_counted(monkeypatch):
    told = Story("a" + "b" * 30).flow(0, "Running").task(1, 0, "Success")
    for n in range(1, 31):
        told.task(2, n, "Success")
    writer = writer_of(told)
    _, *others = writer.lines(told.history, NOTHING)
    assert without_clocks(others) == ["a Success"]
    monkeypatch.setattr(lines, "_COUNTED_EVERY", 0.0)
    (counted,) = writer.lines([], NOTHING)
    assert "31 of 31 finished" in counted
    # Nothing has finished since.
    assert writer.lines([], NOTHING) == []


def test_what_is_said_first_of_a_run_stands_in_the_first_line_and_only_once():
    writer = PlainLines(Tally(Story("a").names), TITLE._replace(told="reuses 3 task runs, runs 1"))
    assert writer.lines([], NOTHING) == [
        "etl 'nightly' on LocalCluster: reuses 3 task runs, runs 1"
    ]
    assert writer.lines([], NOTHING) == []


def test_what_tasks_log_is_among_them():
    logged = NewLines([ShownLine(START, "a", logging.WARNING, "disk is full")], 1)
    (_, line) = writer_of(Story("a")).lines([], logged)
    assert line.endswith("disk is full")
    assert "a" in line.split()
    assert "WARNING" in line


def test_a_change_of_state_and_a_line_of_a_log_are_json():
    told = Story("a").flow(0, "Running").task(1, 0, "Failed", "ValueError: ä")
    logged = ShownLine(START, "a", logging.INFO, "read\n3 rows")
    records = [log_record(logged), *(state_record(entry, "nightly") for entry in told.history)]
    written = json_lines(records)
    assert [len(line.splitlines()) for line in written] == [1, 1, 1]
    assert [json.loads(line) for line in written] == [
        {
            "time": "1970-01-01T00:16:40+00:00", "event": "log", "task_run": "a",
            "level": "INFO", "text": "read\n3 rows",
        },
        {
            "time": "1970-01-01T00:16:40+00:00", "event": "state", "flow_run": "nightly",
            "old": "Pending", "new": "Running",
        },
        {
            "time": "1970-01-01T00:16:41+00:00", "event": "state", "task_run": "a",
            "old": "Pending", "new": "Failed", "message": "ValueError: ä",
        },
    ]  # fmt: skip


def test_json_is_ascii_whatever_a_text_holds():
    # A file name may hold what is no text: standard output would refuse it.
    (line,) = json_lines([log_record(ShownLine(START, "a", logging.INFO, "\udcff ä \x1b[2J"))])
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == "\udcff ä \x1b[2J"


def test_machines_are_told_that_lines_are_not_there():
    (line,) = json_lines([dropped_record(3, START)])
    assert json.loads(line) == {
        "time": "1970-01-01T00:16:40+00:00",
        "event": "dropped",
        "log_lines": 3,
    }


def test_lines_are_written_meanwhile_and_the_last_ones_at_the_end():
    pending, stream, seen = [["one"]], io.StringIO(), threading.Event()

    def read():
        seen.set()
        return pending.pop() if pending else []

    with following(read, stream):
        assert seen.wait(5)
        pending.append(["two", "three"])
    assert stream.getvalue() == "one\ntwo\nthree\n"
    assert not [t for t in threading.enumerate() if t.name == "dask-taskrunner-view-lines"]


def test_where_nobody_reads_any_more_the_run_goes_on():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    done = []
    with following(lambda: ["line"], Broken()):
        done.append(1)
    assert done


@pytest.mark.parametrize("progress", [None, True, False, *STYLES])
def test_these_are_the_styles(progress):
    check_progress(progress)


@pytest.mark.parametrize("progress", ["loud", 3, "Rich"])
def test_others_are_refused(progress):
    with pytest.raises(OptionError, match="one of 'rich', 'plain', 'json', 'none', not "):
        check_progress(progress)


# --- the panel -----------------------------------------------------------------------------------


def printed(report, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(failure_panel(report))
    return [line.strip("│╭╮╰╯─ ") for line in console.file.getvalue().splitlines()]


def test_the_panel_tells_the_root_cause_at_length():
    failure = Failure(
        "divide", "ZeroDivisionError: division by zero", (2, 2), "tcp://a:1", {"x": "1", "y": "0"},
        "Traceback (most recent call last):\n  File 'etl.py', line 3, in divide\n    x / y\n",
        logged=["12:00 INFO dividing"],
    )  # fmt: skip
    report = FailureReport("etl", "nightly", 3, [failure], [NotRun("total", "trigger all")])
    told = [line for line in printed(report) if line]
    assert told[0] == "etl 'nightly' failed: 1 of 3 task runs failed, 1 did not run because of it"
    assert told[1].startswith("divide  ZeroDivisionError: division by zero  attempt 2 of 2")
    assert told[2] == "x=1, y=0"
    assert told[3:6] == [
        "Traceback (most recent call last):", "File 'etl.py', line 3, in divide", "x / y",
    ]  # fmt: skip
    assert told[6:8] == ["last lines of its log:", "12:00 INFO dividing"]
    assert told[8].startswith("not run: total")


def test_of_many_failures_only_the_first_have_tracebacks():
    failures = [Failure(f"t{n}", "E: no", traceback=f"trace {n}") for n in range(6)]
    told = printed(FailureReport("etl", "nightly", 6, failures))
    assert [line for line in told if line.startswith("trace")] == ["trace 0", "trace 1", "trace 2"]
    assert [line for line in told if line.startswith("t5")]


def test_what_a_task_has_logged_cannot_move_the_cursor():
    failure = Failure("t", "E: no", logged=["\x1b[2J\x1b[31mred\x1b[0m\r over"])
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(failure_panel(FailureReport("etl", "nightly", 1, [failure])))
    assert "\x1b" not in console.file.getvalue()
    assert "\r" not in console.file.getvalue()
    assert "red" in console.file.getvalue() or "over" in console.file.getvalue()


def test_user_text_is_no_markup():
    report = FailureReport("etl", "nightly", 1, [Failure("t", "KeyError: '[bold]x[/bold]'")])
    assert any("'[bold]x[/bold]'" in line for line in printed(report))
