"""One thing each: what a notebook shows of it."""

from __future__ import annotations

import re

import pytest
from html_words import words

from dask_taskrunner.states import COLORS
from dask_taskrunner.view.cards import (
    Try,
    failure_card,
    failures_so_far,
    flow_card,
    future_card,
    futures_card,
    state_card,
    task_card,
)
from dask_taskrunner.view.failure_text import Failure, FailureReport, NotRun, failure_text

TRACEBACK = """\
Traceback (most recent call last):
  File "etl.py", line 12, in clean
    raise ValueError("a < b & c")
ValueError: a < b & c
"""


def unfolded(shown: str) -> str:
    """Return what is seen before anything is clicked at."""
    return re.sub(r"<details>.*?</details>", "", shown, flags=re.S)


@pytest.fixture
def report():
    return FailureReport(
        "etl",
        "nightly",
        214,
        [
            Failure(
                "clean[17]", "ValueError: a < b & c", (4, 4), "tcp://10.0.0.7:4711",
                {"chunk": "'<b>'", "mode": "'fast'"}, TRACEBACK, "eu",
            ),
            Failure("extract-2", "Crashed: its worker died 3 times"),
        ],
        [NotRun("load", "trigger all_successful"), NotRun("publish", "trigger all_successful")],
    )  # fmt: skip


def test_a_failure_says_what_the_errors_text_says_and_folds_the_traceback(report):
    shown = failure_card(report)
    seen = "\n".join(words(unfolded(shown)))
    said = [part for line in failure_text(report).splitlines() for part in line.split("  ") if part]
    frames = [part for part in said if part.startswith(("File", "raise"))]
    assert [part for part in said if part not in seen] == frames
    (folded,) = re.findall(r"<details>(.*?)</details>", shown, re.S)
    assert words(folded)[0] == "traceback"
    assert words(folded)[1:] == [line.strip() for line in TRACEBACK.splitlines()]


def test_of_many_failures_the_first_are_told_of_and_the_rest_is_named():
    failures = [Failure(f"clean[{n}]", "E: text") for n in range(30)]
    lines = words(failure_card(FailureReport("etl", "nightly", 30, failures)))
    assert len(lines) == 22
    assert lines[-1].startswith("failed as well: clean[20], clean[21]")


def test_of_a_run_that_goes_on_the_first_failures_are_lines_without_a_fold(report):
    shown = failures_so_far(report.failed, 7)
    assert words(shown) == [
        "■ clean[17] ValueError: a < b & c attempt 4 of 4, tcp://10.0.0.7:4711",
        "■ extract-2 Crashed: its worker died 3 times",
        "and 5 more failed",
    ]
    assert "<details" not in shown
    assert "more" not in failures_so_far(report.failed, 2)
    assert failures_so_far([], 0) == ""


def test_long_tracebacks_of_many_failures_are_cut_where_they_say_least():
    frames = "".join(f'  File "etl.py", line {n}, in f\n    g("<&>")\n' for n in range(250))
    text = f"Traceback (most recent call last):\n{frames}ValueError: the end"
    many = [Failure(f"clean[{n}]", "E: text", traceback=text) for n in range(300)]
    shown = failure_card(FailureReport("etl", "nightly", 300, many))
    assert len(shown) < 80_000
    assert shown.count("ValueError: the end") == 20
    assert shown.count("line 0, in f") == 20
    one = failure_card(FailureReport("etl", "nightly", 300, many[:1]))
    assert one.count("in f") > 200


def test_a_flow_is_its_picture():
    shown = flow_card("<e>", "<svg><text>a</text></svg>")
    assert words(shown) == ["flow '<e>'"]
    assert "<text>a</text>" in shown


def test_a_task_shows_its_signature_and_what_was_set():
    shown = task_card("<b>", "(rows, limit='<i>')", {"max_retries": "3", "tags": "['&']"})
    assert words(shown) == ["task <b> (rows, limit='<i>')", "max_retries 3", "tags ['&']"]
    assert "<table" not in task_card("load", "()", {})


def test_a_state_is_a_badge_in_its_color_and_its_message():
    shown = state_card("Sunny", "#aabbcc", "a < b & c", TRACEBACK)
    assert words(unfolded(shown)) == ["Sunny a < b & c"]
    assert "#aabbcc" in shown
    assert "a &lt; b &amp; c" in shown
    assert words(state_card("Pending", COLORS["Pending"], None)) == ["Pending"]


def test_a_task_run_tells_its_attempts_its_inputs_and_its_traceback():
    shown = future_card(
        "clean[17]",
        "Failed",
        "ValueError: a < b & c",
        name="eu <1>",
        attempts=[
            Try(1, "worker-lost", "tcp://10.0.0.7:4711"),
            Try(2, "failed", "tcp://10.0.0.8:4711", 3.25, "ValueError: a < b & c"),
        ],
        inputs={"chunk": "'<b>'"},
        traceback=TRACEBACK,
    )
    assert words(unfolded(shown)) == [
        "clean[17] 'eu <1>' Failed ValueError: a < b & c",
        "attempt 1 worker-lost tcp://10.0.0.7:4711",
        "attempt 2 failed 3.2 s tcp://10.0.0.8:4711 ValueError: a < b & c",
        "chunk '<b>'",
    ]
    assert "etl.py" in shown


def test_a_task_run_of_which_nothing_is_known_yet_is_its_slug_and_its_state():
    assert words(future_card("clean", "Pending", None, name="clean")) == ["clean Pending"]


def test_many_futures_are_a_line_for_each_state_failures_first():
    counts = {"Success": 9992, "Running": 2, "Failed": 5, "Cancelled": 1}
    failures = [(f"clean[{n}]", "ValueError: <x>\nmore") for n in (3, 17, 90, 91, 99)]
    assert words(futures_card("<b>", counts, failures)) == [
        "<b> 10000 task runs",
        "■ 5 Failed",
        "■ 1 Cancelled",
        "clean[3] ValueError: <x>",
        "clean[17] ValueError: <x>",
        "clean[90] ValueError: <x>",
        "and 2 more",
        "■ 9992 Success",
        "■ 2 Running",
    ]


def test_futures_without_a_failure_have_nothing_below_their_states():
    shown = futures_card("clean", {"Success": 1})
    assert words(shown) == ["clean 1 task run", "■ 1 Success"]
    assert "margin-left" not in shown
