"""Short texts about runs."""

from __future__ import annotations

import pytest

from dask_taskrunner.states import STATE_CLASSES
from dask_taskrunner.view import text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 ms"),
        (0, "0 ms"),
        (0.0404, "40 ms"),
        (0.0996, "0.1 s"),
        (0.62, "0.6 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125.4, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (93784, "26 h 03 min"),
    ],
)
def test_a_duration_is_written_as_people_say_it(seconds, said):
    assert text.format_duration(seconds) == said


def test_counts_are_told_in_one_order_and_without_what_does_not_occur():
    counts = {"Mine": 1, "Pending": 3, "Failed": 4, "Running": 0, "Success": 210}
    assert text.format_counts(counts) == "210 Success, 4 Failed, 3 Pending, 1 Mine"


def test_every_state_that_a_run_can_show_has_its_place():
    assert set(text.STATE_ORDER) == set(STATE_CLASSES) - {"State", "Finished"}


def test_the_first_few_of_many_are_named():
    assert text.format_some("abc", 3) == "a, b, c"
    assert text.format_some("abc", 2) == "a, b and 1 more"


@pytest.mark.parametrize(
    ("state", "message", "line"),
    [
        ("Success", None, "Succeeded after 2.0 s"),
        ("Success", "all well", "Succeeded after 2.0 s: all well"),
        ("Failed", "1 of 2", "Failed after 2.0 s: 1 of 2"),
        ("Cancelled", None, "Cancelled after 2.0 s"),
        ("Paused", None, "Paused after 2.0 s"),
    ],
)
def test_the_line_at_the_end_says_how_it_ended(state, message, line):
    assert text.end_line(state, message, 2.0) == line


def test_a_flow_runs_repr_says_how_far_it_is():
    said = text.flow_run_repr("etl", "x", "Running", {"Success": 2, "Pending": 1})
    assert said == "<FlowRun etl 'x' Running: 2 Success, 1 Pending>"
    assert text.flow_run_repr("etl", "x", "Pending", {}) == "<FlowRun etl 'x' Pending>"


def test_a_task_runs_repr_says_what_became_of_it():
    assert text.task_run_repr("a", "Pending", None, 0) == "<TaskRun a Pending>"
    assert text.task_run_repr("a", "Success", None, 1) == "<TaskRun a Success>"
    said = text.task_run_repr("a[3]", "Failed", "E: x", 4)
    assert said == '<TaskRun a[3] Failed("E: x"), 4 attempts>'
    assert text.task_run_repr("a", "Success", None, 1, "a") == "<TaskRun a Success>"
    assert text.task_run_repr("a", "Success", None, 1, "eu") == "<TaskRun a 'eu' Success>"
