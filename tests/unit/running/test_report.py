"""The report of a run: one file that tells all."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager

import pytest
from fakes.gates import Gate, eventually

from dask_taskrunner import Flow, Parameter, reports, task, triggers, unmapped
from dask_taskrunner.insight.readings import read
from dask_taskrunner.machine.commands import Note
from dask_taskrunner.report import contents as report_contents
from dask_taskrunner.report.contents import contents
from dask_taskrunner.states import COLORS

NAME = "<script>alert(1) <!-- & \u2028"
EVIL = "</script><script>alert(1)</script><!-- & \u2028"


@task
def numbers(n):
    return list(range(n))


@task(max_retries=1, retry_delay=0)
def divide(x, y):
    return x / y


@task
def fail(text):
    raise ValueError(text)


@pytest.fixture
def report(tmp_path):
    def write(run):
        return run.report(tmp_path / "run.html").read_text(encoding="utf-8")

    return write


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_every_task_run_is_a_row_and_every_attempt_a_bar(finish, report):
    with Flow("etl") as flow:
        divide.map(numbers(3), y=unmapped(0))
    data = data_of(report(finish(flow)))
    rows = {row[0]: row for row in data["rows"]}
    assert list(rows) == ["numbers", "divide", "divide[0]", "divide[1]", "divide[2]"]
    assert data["names"] == ["numbers", "divide"]
    assert [data["states"][row[2]] for row in rows.values()] == [
        "Success", "Mapped", "Failed", "Failed", "Failed",
    ]  # fmt: skip
    assert rows["divide[1]"][4] == 2
    assert data["texts"][rows["divide[1]"][3]] == "ZeroDivisionError: division by zero"
    outcomes = [(data["rows"][bar[0]][0], data["outcomes"][bar[5]]) for bar in data["bars"]]
    assert sorted(outcomes)[:2] == [("divide[0]", "failed"), ("divide[0]", "retrying")]
    assert len(outcomes) == 7
    for _, lane, available, started, ended, _ in data["bars"]:
        assert lane < len(data["lanes"])
        assert available <= started <= ended <= data["seconds"] + 0.1


def test_bars_of_a_lane_do_not_overlap(finish, report):
    with Flow("etl") as flow:
        divide.map(numbers(30), y=unmapped(3))
    data = data_of(report(finish(flow)))
    last = {}
    for _, lane, _, started, ended, _ in sorted(data["bars"], key=lambda bar: bar[3]):
        assert started >= last.get(lane, 0) - 0.0011
        last[lane] = ended


def test_a_failure_can_be_opened(finish, report):
    with Flow("etl") as flow:
        fail("no")
    data = data_of(report(finish(flow)))
    (details,) = data["details"].values()
    assert details["inputs"] == {"text": "'no'"}
    assert "raise ValueError(text)" in details["traceback"]


def test_what_is_the_users_is_no_html(finish, report):
    with Flow(NAME) as flow:
        task(fail.body, name=NAME)(Parameter("text", default=EVIL))
    page = report(finish(flow))
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert "<!--" not in page
    data = data_of(page)
    assert data["names"] == [NAME]
    assert f"ValueError: {EVIL}" in data["texts"]


def test_it_loads_nothing(finish, report):
    with Flow("etl") as flow:
        numbers(3)
    page = report(finish(flow))
    assert not re.findall(r"""(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttp""", page)
    assert all(color in page for color in COLORS.values())


def test_it_says_what_when_and_how(finish, report):
    with Flow("etl") as flow:
        numbers(Parameter("n", default=3))
    page = report(finish(flow))
    for text in ("<h1>etl", "Success", "n=3", "distributed", "Critical path", "1 step in"):
        assert text in page
    assert "data-slug=" in page


@contextmanager
def going_on(start, behind=lambda first: None):
    """A run whose first task runs, with what waits for it."""
    gate = Gate("report")

    @task
    def wait():
        gate.pass_through()

    with Flow("etl") as flow:
        behind(wait())
    run = start(flow)
    try:
        assert eventually(lambda: run["wait"].state.is_running())
        yield run
    finally:
        gate.open()


def test_a_run_that_goes_on_says_so(start, report):
    with going_on(start) as run:
        page = report(run)
    assert "the run went on when this was written" in page
    assert "<p>The run goes on.</p>" in page


def test_what_runs_is_on_the_timeline_until_now_and_what_waits_has_no_time(start, report):
    with going_on(start, lambda first: divide(first, 1)) as run:
        data = data_of(report(run))
    ((row, _, available, started, ended, outcome),) = data["bars"]
    assert (data["rows"][row][0], data["outcomes"][outcome]) == ("wait", "running")
    assert 0 <= available <= started <= ended
    rows = {row[0]: row for row in data["rows"]}
    # When all that it waits for had ended, and when it had: nobody knows.
    assert rows["wait"][5:7] == [0.0, None]
    assert rows["divide"][5:7] == [None, None]
    assert data["path"] == []


def test_what_ran_on_when_its_run_had_ended_is_on_the_timeline_until_then(start, report):
    with going_on(start) as run:
        run.cancel()
        assert eventually(lambda: run.state.is_finished())
        data = data_of(report(run))
    ((_, _, _, started, ended, outcome),) = data["bars"]
    assert data["outcomes"][outcome] == "running"
    assert started <= ended <= data["seconds"]
    assert not data["goes_on"]


def test_a_graph_that_is_too_large_and_notes_that_are_too_many_are_not_there(
    finish, report, monkeypatch
):
    monkeypatch.setattr(reports, "_PICTURE", 10)
    monkeypatch.setattr(reports, "_NOTES", 2)
    with Flow("etl") as flow:
        numbers(3)
    run = finish(flow)
    for n in range(5):
        run.listener.add_note(Note(f"note {n}", None), 0.0)
    page = report(run)
    assert "<svg" not in page
    assert "run.visualize('graph.svg') draws it" in page
    assert "(3 earlier ones are not shown)" in page
    assert ["note 2" in page, "note 3" in page] == [False, True]


def test_of_what_failed_what_did_not_run_because_of_it_is_told(finish, report):
    with Flow("etl") as flow:
        divide(divide(fail("no"), 1), 2)
    page = report(finish(flow))
    told = page.partition("<h2>Failures</h2>")[2].partition("</section>")[0]
    assert "1 of 3 task runs failed, 2 did not run because of it." in told
    assert 'data-find="fail"' in told.partition("Not run because of that")[0]
    found = re.findall(r'data-find="([^"]*)"', told.partition("Not run because of that")[2])
    assert found == ["divide", "divide-2"]


def test_half_a_character_in_a_name_does_not_keep_the_file_from_being_written(finish, report):
    with Flow("etl \udcff") as flow:
        task(fail.body, name="fail \udcff")("\x1b[31mred\x1b[0m \x00")
    page = report(finish(flow))
    assert "<h1>etl \ufffd" in page
    data = data_of(page)
    assert data["rows"][0][0] == "fail \ufffd"
    assert r"ValueError: red \x00" in data["texts"]


def test_every_wait_of_a_bar_comes_before_it(finish, report):
    with Flow("etl") as flow:
        divide.map(numbers(9), y=unmapped(0))
    data = data_of(report(finish(flow)))
    assert len(data["waits"]) == len(data["bars"]) == 19
    for (since, placed, *_), (_, _, available, started, _, _) in zip(
        data["waits"], data["bars"], strict=True
    ):
        assert since <= available <= placed + 1e-4 <= started + 2e-4


def test_a_run_that_has_paused_says_so(finish, report):
    with Flow("etl") as flow:
        divide.with_options(trigger=triggers.manual_only)(1, y=1)
    page = report(finish(flow))
    assert "the run had paused when this was written" in page
    assert "until it paused" in page


def test_a_cancelled_run_has_a_report(start, report):
    with Flow("etl") as flow:
        divide(1, fail("no"))
    run = start(flow)
    run.cancel()
    assert data_of(report(run))["rows"]


def test_five_hundred_task_runs_take_less_than_a_twentieth_of_five_megabytes(finish, report):
    with Flow("etl") as flow:
        divide.map(numbers(500), y=unmapped(1))
    run = finish(flow)
    began = time.perf_counter()
    page = report(run)
    assert time.perf_counter() - began < 2
    assert len(page.encode()) < 250_000


def test_logs_and_tracebacks_are_bounded(finish, monkeypatch):
    monkeypatch.setattr(report_contents, "_LOGS", 10_000)

    @task(log_prints=True)
    def talk(n):
        print("x" * 1000)
        raise ValueError(n)

    with Flow("etl") as flow:
        talk.map(range(300))
    run = finish(flow)
    records = {one.record.id: one.record for one in run.task_runs}
    told = contents(records, read(records, run.history), {}, run._driver.channel.logs)
    assert sum("traceback" in one for one in told["details"].values()) == 200
    assert (
        sum(len(line) for one in told["details"].values() for line in one.get("logs", ())) < 20_000
    )
