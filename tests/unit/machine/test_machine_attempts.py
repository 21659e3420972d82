"""Attempts and what is shown as running: each execution of a body, in the order they began."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story

from dask_taskrunner.machine.records import Attempt


def test_an_attempt_has_all_that_its_header_says() -> None:
    story = Story({0: ()})
    story.starts()
    story.now = 2.0
    story.ends(0, "Retrying", worker="w5", error="ValueError: no")
    assert story.record(0).attempts() == [
        Attempt(1, 1, 1, "w5", WALL + 2, WALL + 2.01, "retrying", "ValueError: no")
    ]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("Success", "success"),
        ("Skipped", "skipped"),
        ("Retrying", "retrying"),
        ("Paused", "paused"),
        ("Failed", "failed"),
        ("TriggerFailed", "failed"),
        ("TimedOut", "timed-out"),
        ("Cancelled", "cancelled"),
    ],
)
def test_the_outcome_says_how_the_body_ended(state: str, outcome: str) -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0, state)
    assert story.outcomes(0) == [outcome]


def test_a_failures_error_is_its_message_where_nothing_says_more() -> None:
    story = Story({0: ()})
    story.starts()
    story.hears(story.header(0, "Failed")._replace(message="ValueError: no"))
    assert story.record(0).attempts()[0].error == "ValueError: no"


def test_a_run_that_ended_before_its_body_has_no_attempt() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0, "TriggerFailed", body=False)
    assert story.record(0).attempts() == []


def test_attempts_count_crashes_and_re_executions_and_runs_count_neither() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=5)
    story.starts()
    story.begins(0)
    story.loses(0)
    story.wakes()
    story.ends(0, "Retrying", delay=0.0)
    story.wakes()
    story.ends(0, big=True)
    story.ends(0, big=True)
    told = [(a.number, a.run_number, a.submission, a.outcome) for a in story.record(0).attempts()]
    assert told == [
        (1, 1, 1, "worker-lost"),
        (2, 1, 2, "retrying"),
        (3, 2, 3, "success"),
        (4, 2, 3, "re-executed"),
    ]


def test_a_body_that_was_reported_is_shown_as_running_and_is_an_attempt() -> None:
    story = Story({0: ()})
    story.starts()
    assert story.states() == ["Pending"]
    story.begins(0, "w5")
    assert story.states() == ["Running"]
    assert story.record(0).attempts() == [Attempt(1, 1, 1, "w5", WALL, None, "running", None)]


def test_a_report_that_comes_twice_is_one() -> None:
    story = Story({0: ()})
    story.starts()
    execution = story.begins(0)
    story.begins(0, execution=execution)
    assert story.outcomes(0) == ["running"]
    assert len(story.machine.history) == 2


def test_a_report_that_comes_after_its_end_is_none() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    header = story.header(0, "Retrying")
    story.hears(header)
    story.begins(0, execution=header.execution)
    story.wakes(10.0)
    story.begins(0, execution=header.execution, submission=1)
    assert story.outcomes(0) == ["retrying"]


def test_a_report_from_a_worker_that_was_lost_under_it_is_none() -> None:
    story = Story({0: ()})
    story.starts()
    execution = story.begins(0, "w1")
    story.removes("w1", [0])
    story.begins(0, "w1", execution=execution)
    assert story.states() == ["Pending"]
    assert story.outcomes(0) == ["worker-lost"]


def test_an_execution_given_up_for_lost_of_which_the_end_is_heard_is_one_attempt() -> None:
    # Its worker was cut off, not dead.
    story = Story({0: ()})
    story.starts()
    execution = story.begins(0, "w1")
    story.removes("w1", [0])
    story.ends(0, "Retrying", execution=execution, worker="w1")
    assert story.outcomes(0) == ["retrying"]


def test_a_body_that_dask_started_elsewhere_ends_the_one_before() -> None:
    story = Story({0: ()})
    story.starts()
    story.begins(0, "w1")
    story.begins(0, "w2")
    assert story.states() == ["Running"]
    assert story.outcomes(0) == ["worker-lost", "running"]


def test_the_end_of_another_execution_ends_the_one_that_was_reported() -> None:
    # The second body was too short for a report, and its worker's loss was not yet heard of.
    story = Story({0: ()})
    story.starts()
    story.begins(0, "w1")
    story.ends(0, worker="w2")
    attempts = story.record(0).attempts()
    assert [(a.worker, a.outcome) for a in attempts] == [("w1", "worker-lost"), ("w2", "success")]
    assert attempts[0].error == "Dask started it again elsewhere"


def test_a_body_that_runs_while_its_future_is_taken_back_is_heard_of_later() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=5)
    story.starts()
    story.ends(0, big=True)
    execution = story.begins(1)
    story.loses_value(0)
    assert story.states()[1] == "Pending"
    assert story.outcomes(1) == ["running"]
    story.wakes()
    story.begins(1, "w2")
    assert story.outcomes(1) == ["running", "running"]
    story.ends(1, execution=execution, submission=1)
    assert story.outcomes(1) == ["success", "running"]


def test_a_clean_run_leaves_few_entries_in_the_history() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, execution=story.begins(0))
    entries = [(e.task_run, e.old, e.new) for e in story.machine.history]
    assert entries == [
        (None, "Pending", "Running"),
        ((0, -1), "Pending", "Running"),
        ((0, -1), "Running", "Success"),
        (None, "Running", "Success"),
    ]
    assert story.machine.history[-2].at == WALL


def test_each_death_under_one_submission_is_an_attempt() -> None:
    # On a foreign cluster Dask starts it again by itself a few times.
    story = Story({0: ()})
    story.starts()
    story.begins(0, "w1")
    story.removes("w1", [0])
    story.begins(0, "w2")
    story.loses(0, worker="w2", starts=2)
    assert story.outcomes(0) == ["worker-lost", "worker-lost"]


def test_a_body_that_was_left_running_ends_with_its_own_worker_and_its_own_header_only() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    execution = story.begins(0, "w2")
    story.loses(0, "cancelled")
    story.removes("w1")
    story.ends(0, "Failed", worker="w1")
    assert story.outcomes(0) == ["failed", "running"]
    story.ends(0, execution=execution, worker="w2")
    assert story.outcomes(0) == ["failed", "success"]


def test_a_run_was_queued_when_it_was_sent_for_the_first_time() -> None:
    story = Story({0: ()})
    story.now = 1.0
    story.starts()
    story.ends(0, "Retrying")
    story.wakes(20.0)
    assert story.record(0).queued_at == WALL + 1
