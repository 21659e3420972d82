"""When futures are let go: not earlier than nobody can need them, and not later."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, released, sent

CHAIN = {0: (), 1: (0,), 2: (1,)}
DIAMOND = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}


def test_a_value_is_let_go_when_its_last_direct_reader_has_finished() -> None:
    story = Story(DIAMOND)
    story.starts()
    story.ends(0, big=True)
    assert released(story.ends(1, big=True)) == []
    assert released(story.ends(2, big=True)) == [0]


def test_a_reader_that_is_to_run_again_keeps_its_inputs() -> None:
    story = Story(DIAMOND)
    story.starts()
    story.ends(0, big=True)
    story.ends(1, big=True)
    assert released(story.ends(2, "Retrying")) == [2, 3]
    assert 0 in story.held()
    story.wakes(10.0)
    assert released(story.ends(2, big=True)) == [0]


@pytest.mark.parametrize("state", ["Failed", "TriggerFailed", "TimedOut", "Crashed", "Cancelled"])
def test_what_failed_or_was_cancelled_keeps_its_inputs_for_a_resume(state: str) -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, state, body=False)
    assert 0 in story.held()


def test_what_crashed_keeps_its_inputs_for_a_resume() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses(1, "error")
    assert story.held() == {0}


def test_what_paused_keeps_its_inputs() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Paused", body=False)
    assert story.final == ("Paused", "t1 waits for run.approve('t1')")
    assert story.held() == {0}


def test_a_skipped_reader_needs_nothing() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    assert released(story.ends(1, "Skipped")) == [0, 1]


def test_a_small_result_came_with_the_header_so_nothing_is_kept_of_it() -> None:
    story = Story(CHAIN, kept={0, 1, 2})
    story.starts()
    story.ends(0)
    assert released(story.ends(1)) == [0]
    assert released(story.ends(2)) == [1, 2]


def test_a_small_result_is_an_input_until_its_readers_have_finished() -> None:
    story = Story(CHAIN)
    story.starts()
    assert released(story.ends(0)) == []
    assert released(story.ends(1, "Failed")) == [0]


def test_a_large_result_is_kept_where_somebody_may_ask_for_it() -> None:
    story = Story(CHAIN, kept={1})
    story.starts()
    for n in range(3):
        story.ends(n, big=True)
    assert story.held() == {1}


def test_all_results_are_kept_where_all_are_wanted() -> None:
    story = Story(CHAIN, kept=None)
    story.starts()
    for n in range(3):
        story.ends(n, big=True)
    assert story.held() == {0, 1, 2}


def test_an_exception_too_large_for_its_header_stays_where_it_is_wanted() -> None:
    story = Story({0: (), 1: ()}, kept={1})
    story.starts()
    assert released(story.ends(0, "Failed", has_exception=True)) == [0]
    assert released(story.ends(1, "Failed", has_exception=True)) == []


def test_a_run_that_is_being_made_again_keeps_its_inputs_although_it_has_finished() -> None:
    # 1 reads 0 and has finished; its value is lost, and while it is made again, the last other
    # reader of 0 finishes.
    story = Story({0: (), 1: (0,), 2: (0,), 3: (1,)}, kept={1})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, big=True)
    story.loses_value(1)
    assert released(story.ends(2, big=True)) == [2]
    assert sent(story.wakes()) == [(1, 2), (3, 2)]
    assert story.last_sent(1).upstream == (1,)
    assert released(story.ends(1, big=True)) == [0]


def test_each_release_comes_before_what_is_sent_again() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    commands = story.ends(0, "Retrying", delay=0.0)
    assert [type(command).__name__ for command in commands] == ["Release"]
    assert [type(command).__name__ for command in story.wakes()] == ["SubmitMany"]


def test_a_reader_that_finished_before_its_upstream_was_heard_of_needs_nothing_more() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(1, big=True)
    assert released(story.ends(0, big=True)) == [0]
