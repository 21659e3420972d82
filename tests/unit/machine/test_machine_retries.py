"""Retries: when they are due, which runs of the cone go out again, and under what number."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story, sent

from dask_taskrunner.machine import board

DIAMOND = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}


def test_a_retry_takes_back_its_unfinished_cone_at_once_and_nothing_else() -> None:
    story = Story({0: (), 1: (0,), 2: (1,), 3: (0,), 4: ()})
    story.starts()
    story.ends(0)
    story.ends(1, "Retrying")
    assert story.phases() == "fdwss"
    assert story.held() == {0, 3, 4}


def test_a_waiting_retry_holds_no_future_and_its_upstream_stays_held() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Retrying")
    assert story.held() == {0}


def test_a_retry_is_due_by_the_clients_clock_from_the_headers_arrival() -> None:
    story = Story({0: ()})
    story.now = 3.0
    story.starts()
    story.now = 5.0
    # The worker's clock is far off; the time that it wrote is not looked at.
    story.ends(0, "Retrying", delay=10.0, scheduled_time=WALL - 5000)
    assert story.machine.wake_at == 15.0
    assert story.record(0).retry_header.more["scheduled_time"] == WALL + 15.0
    assert sent(story.wakes(14.9)) == []
    assert sent(story.wakes(15.0)) == [(0, 2)]


@pytest.mark.parametrize(("scheduled", "due"), [(WALL + 30.0, 30.0), (WALL - 30.0, 5.0)])
def test_only_a_time_that_the_task_chose_is_held_against_the_wall_clock(
    scheduled: float, due: float
) -> None:
    story = Story({0: ()})
    story.starts()
    story.now = 5.0
    story.ends(0, "Retrying", scheduled_time=scheduled)
    assert story.machine.wake_at == due


def test_the_retry_that_is_due_first_wakes_first() -> None:
    story = Story({0: (), 1: (), 2: ()})
    story.starts()
    for n, delay in enumerate((30.0, 10.0, 20.0)):
        story.ends(n, "Retrying", delay=delay)
    assert story.machine.wake_at == 10.0
    assert sent(story.wakes(10.0)) == [(1, 2)]
    assert story.machine.wake_at == 20.0
    assert sent(story.wakes(30.0)) == [(0, 2), (2, 2)]


def test_each_retry_runs_under_the_next_number_and_a_new_submission() -> None:
    story = Story({0: ()})
    story.starts()
    for number in (1, 2, 3):
        assert story.last_sent(0).run_number == number
        assert story.last_sent(0).submission == number
        assert story.last_sent(0).attempt == number
        story.ends(0, "Retrying", delay=0.0)
        story.wakes()


def test_a_trigger_that_asks_again_has_not_used_up_its_number() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying", body=False, last_run_number=0)
    story.wakes(10.0)
    assert story.last_sent(0).run_number == 1
    assert story.last_sent(0).submission == 2


def test_crashes_do_not_count_as_runs() -> None:
    story = Story({0: ()})
    story.starts()
    story.begins(0)
    story.loses(0)
    story.wakes()
    assert story.last_sent(0).run_number == 1
    assert story.last_sent(0).attempt == 2


def test_a_retry_that_is_due_takes_its_cone_along_behind_it() -> None:
    story = Story(DIAMOND)
    story.starts()
    story.ends(0)
    story.ends(1, "Retrying")
    assert sent(story.wakes(10.0)) == [(1, 2), (3, 2)]
    # One arm goes by its new submission, the other by the one that still runs.
    assert story.last_sent(3).upstream == (2, 1)


def test_what_waits_for_another_retry_waits_on() -> None:
    story = Story(DIAMOND)
    story.starts()
    story.ends(0)
    story.ends(1, "Retrying", delay=10.0)
    story.ends(2, "Retrying", delay=20.0)
    assert sent(story.wakes(10.0)) == [(1, 2)]
    assert story.phases() == "fsdw"
    assert sent(story.wakes(20.0)) == [(2, 2), (3, 2)]


def test_a_finished_run_of_the_cone_keeps_its_state() -> None:
    # Its state arrived although its upstream run was executed a second time, and retries now.
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(1, big=True)
    header = story.record(1).header
    story.ends(0, "Retrying")
    assert story.phases() == "dfs"
    assert sent(story.wakes(10.0)) == [(0, 2)]
    story.ends(0)
    assert story.record(1).header is header


def test_a_run_that_finds_its_upstream_unfinished_goes_out_again_with_it() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    # The empty execution was heard of first.
    assert sent(story.finds_unfinished(1, 0)) == []
    assert story.phases() == "sw"
    story.ends(0, "Retrying")
    assert sent(story.wakes(10.0)) == [(0, 2), (1, 2)]


def test_a_run_that_found_its_upstream_unfinished_goes_out_when_that_has_finished_after_all() -> (
    None
):
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.finds_unfinished(1, 0)
    story.ends(0)
    assert sent(story.wakes()) == [(1, 2)]


def test_an_empty_execution_of_an_older_submission_takes_nothing_back() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Retrying")
    story.wakes(10.0)
    story.ends(1, "Pending", submission=1, body=False, waits_for=[0, -1])
    assert story.phases() == "ss"


def fan_in(width: int) -> Story:
    plan = dict.fromkeys(range(width), ()) | {width: tuple(range(width))}
    story = Story(plan)
    story.starts()
    return story


def test_a_run_with_many_upstream_runs_goes_out_again_only_when_all_have_finished() -> None:
    width = board.WIDE + 1
    story = fan_in(width)
    story.ends(0, "Retrying", delay=1.0)
    story.ends(1, "Retrying", delay=2.0)
    assert sent(story.wakes(1.0)) == [(0, 2)]
    assert sent(story.wakes(2.0)) == [(1, 2)]
    for n in range(width):
        assert story.record(width).phase == "waiting"
        story.ends(n)
    assert sent(story.wakes()) == [(width, 2)]


def test_a_run_with_fewer_upstream_runs_goes_out_with_each_retry() -> None:
    story = fan_in(board.WIDE)
    story.ends(0, "Retrying", delay=1.0)
    assert sent(story.wakes(1.0)) == [(0, 2), (board.WIDE, 2)]


def test_a_run_resubmitted_three_times_waits_until_its_upstream_has_finished() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    for submission in (2, 3, 4):
        story.ends(0, "Retrying", delay=0.0)
        assert sent(story.wakes()) == [(0, submission), (1, submission)]
    story.ends(0, "Retrying", delay=0.0)
    assert sent(story.wakes()) == [(0, 5)]
    story.ends(0)
    assert sent(story.wakes()) == [(1, 5)]


def test_a_wide_run_was_never_sent_before_is_sent_at_once() -> None:
    width = board.WIDE + 1
    assert fan_in(width).record(width).phase == "submitted"


def test_a_retry_says_when_it_is_due_and_then_that_it_is() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying")
    assert story.states() == ["Retrying"]
    story.wakes(10.0)
    assert story.states() == ["Pending"]
    shown = [(entry.old, entry.new) for entry in story.machine.history if entry.task_run]
    assert shown == [("Pending", "Retrying"), ("Retrying", "Pending")]


def test_a_due_retry_goes_out_behind_a_value_that_is_being_made_again() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, kept={0})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Retrying")
    story.loses_value(0)
    # It is due before the slice with its upstream run has gone out.
    assert sent(story.wakes(10.0)) == [(0, 2), (1, 2), (2, 2)]
    assert story.last_sent(1).upstream == (2,)


def test_a_due_retry_waits_for_a_value_whose_making_waits() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, kept={0, 1}, max_crash_retries=5)
    story.starts()
    story.ends(1, big=True)
    story.ends(2, "Retrying", delay=20.0)
    story.ends(0, "Retrying", delay=30.0)
    # 1 finished, its upstream did not: by the news, Dask ran that a second time.
    story.loses_value(1)
    assert story.phases() == "dwd"
    assert sent(story.wakes(20.0)) == []
    assert story.phases() == "dww"
    assert sent(story.wakes(30.0)) == [(0, 2), (1, 2), (2, 2)]
