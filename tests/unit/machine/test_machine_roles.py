"""Task runs that are not simply run: given a state, not part of the run, or no task of ours."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story, hooks, known, notes, released, sent

PAIR = {0: (), 1: (0,)}
CHAIN = {0: (), 1: (0,), 2: (1,)}


# --- given a final state -------------------------------------------------------------------------


def with_given(upstream: dict[int, tuple[int, ...]], **options: object) -> Story:
    """Return a story in which 0 has ended before it begins."""
    return Story(upstream, roles={0: "given"}, **options)


def test_what_is_given_a_small_result_is_not_sent_and_goes_by_value() -> None:
    header = known(0)
    story = with_given(PAIR, given={0: header})
    assert sent(story.starts()) == [(1, 1)]
    assert story.last_sent(1).upstream == (header,)
    assert story.record(0).header is header
    assert story.states() == ["Success", "Pending"]
    story.ends(1)
    assert story.final == ("Success", "reference tasks succeeded")


def test_what_is_given_a_large_result_has_a_future_until_its_readers_have_finished() -> None:
    story = with_given(PAIR, given={0: known(0, big=True)})
    story.starts()
    assert story.last_sent(1).upstream == (1,)
    assert story.held() == {0, 1}
    assert released(story.ends(1)) == [0, 1]


def test_a_large_result_that_is_given_and_kept_is_held_to_the_end() -> None:
    story = with_given(PAIR, given={0: known(0, big=True)}, kept={0})
    story.starts()
    story.ends(1)
    assert story.held() == {0}


def test_a_large_result_that_nobody_reads_is_let_go_at_once() -> None:
    story = with_given({0: ()}, given={0: known(0, big=True)})
    assert released(story.starts()) == [0]
    assert story.final == ("Success", "reference tasks succeeded")


@pytest.mark.parametrize("more", [{}, {"has_exception": True, "type": "ValueError"}])
def test_a_failure_that_is_given_goes_by_value(more: dict[str, object]) -> None:
    story = with_given(PAIR, given={0: known(0, "Failed", **more)})
    assert sent(story.starts()) == [(1, 1)]
    (by_value,) = story.last_sent(1).upstream
    assert by_value.state == "Failed"
    assert by_value.is_complete
    assert story.held() == {1}


@pytest.mark.parametrize("state", ["Skipped", "Cancelled", "TriggerFailed", "Crashed"])
def test_any_other_final_state_that_is_given_goes_by_value(state: str) -> None:
    header = known(0, state)
    story = with_given(PAIR, given={0: header})
    story.starts()
    assert story.last_sent(1).upstream == (header,)


def test_what_is_given_is_in_the_history_and_no_handler_is_called_for_it() -> None:
    story = with_given(PAIR, given={0: known(0)}, handlers=True)
    assert hooks(story.starts()) == [(None, "Pending", "Running")]
    entries = [(entry.task_run, entry.old, entry.new) for entry in story.machine.history]
    assert entries == [((0, -1), "Pending", "Success"), (None, "Pending", "Running")]


def test_where_all_is_given_the_run_ends_at_once() -> None:
    given = {n: known(n) for n in CHAIN}
    story = Story(CHAIN, roles=dict.fromkeys(CHAIN, "given"), given=given)
    assert sent(story.starts()) == []
    assert story.final == ("Success", "reference tasks succeeded")


def test_what_is_behind_a_given_run_may_be_given_or_wait_whatever_the_order() -> None:
    # 1 is given, 2 waits for its time, 3 is run, and all of them read 0.
    upstream = {0: (), 1: (0,), 2: (0,), 3: (0,)}
    due = WALL + 10
    story = Story(
        upstream,
        roles={0: "given", 1: "given"},
        given={0: known(0), 1: known(1), 2: known(2, "Retrying", scheduled_time=due)},
    )
    assert sent(story.starts()) == [(3, 1)]
    assert story.phases() == "ffds"


# --- a given result that is lost -----------------------------------------------------------------


def test_a_given_result_that_is_lost_is_not_made_again_and_its_readers_are_told() -> None:
    # It was not run here; what it was made of is not even part of this run.
    story = Story(
        CHAIN,
        roles={0: "outside", 1: "given"},
        given={1: known(1, big=True)},
    )
    story.starts()
    header = story.record(1).header
    assert notes(story.loses_value(1)) == ["the result of t1 was lost: lost dependencies"]
    assert story.record(1).header is header
    assert sent(story.wakes()) == [(2, 2)]
    (by_value,) = story.last_sent(2).upstream
    assert (by_value.state, by_value.message) == (
        "Crashed",
        (
            "the result of t1 was lost with worker w0 and could not be made again: "
            "t1 comes from elsewhere, and is gone: lost dependencies"
        ),
    )
    story.ends(2, "TriggerFailed", body=False)
    assert story.final == ("Failed", "t2 failed")


def test_what_read_a_given_result_that_is_gone_is_not_made_again_without_it() -> None:
    story = with_given(CHAIN, given={0: known(0, big=True)})
    story.starts()
    story.ends(1, big=True)
    assert story.held() == {1, 2}
    story.loses_value(1)
    assert sent(story.wakes()) == [(2, 2)]
    (by_value,) = story.last_sent(2).upstream
    assert by_value.message == (
        "the result of t1 was lost with worker w1 and could not be made again: "
        "t0 comes from elsewhere, and is gone: lost dependencies"
    )


def test_what_read_a_given_result_that_is_held_is_made_again() -> None:
    story = with_given(CHAIN, given={0: known(0, big=True)}, kept={0})
    story.starts()
    story.ends(1, big=True)
    story.loses_value(1)
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    assert story.last_sent(1).upstream == (1,)


def test_a_small_result_that_was_given_cannot_be_lost() -> None:
    story = with_given(PAIR, given={0: known(0)})
    story.starts()
    assert story.loses_value(0) == []
    assert story.phases() == "fs"


# --- given another state -------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.5, 10.0])
def test_a_given_retrying_keeps_its_number_and_waits_for_its_time(delay: float) -> None:
    header = known(0, "Retrying", scheduled_time=WALL + delay, last_run_number=2)
    story = Story(PAIR, given={0: header}, handlers=True)
    assert sent(story.starts()) == []
    assert story.phases() == "dw"
    assert story.states() == ["Retrying", "Pending"]
    assert story.machine.wake_at == delay
    assert sent(story.wakes(delay - 0.1)) == []
    commands = story.wakes(delay)
    assert hooks(commands) == [(0, "Retrying", "Pending")]
    assert sent(commands) == [(0, 1), (1, 1)]
    assert story.last_sent(0).run_number == 3


def test_a_given_retrying_whose_time_has_passed_keeps_its_number_and_runs_at_once() -> None:
    header = known(0, "Retrying", scheduled_time=WALL - 1, last_run_number=2)
    story = Story(PAIR, given={0: header})
    assert sent(story.starts()) == [(0, 1), (1, 1)]
    assert story.last_sent(0).run_number == 3


def test_a_given_retrying_waits_for_what_is_upstream_as_well() -> None:
    header = known(1, "Retrying", scheduled_time=WALL + 10, last_run_number=1)
    story = Story(PAIR, given={1: header})
    story.starts()
    story.ends(0, "Retrying", delay=30.0)
    assert sent(story.wakes(10.0)) == []
    assert story.phases() == "dw"
    assert sent(story.wakes(30.0)) == [(0, 2), (1, 1)]
    assert story.last_sent(1).run_number == 2


@pytest.mark.parametrize("state", ["Pending", "Paused", "CachedState", "Looped", "Scheduled"])
def test_any_other_pending_state_that_is_given_runs_at_once(state: str) -> None:
    story = Story(PAIR, given={0: known(0, state)})
    assert sent(story.starts()) == [(0, 1), (1, 1)]
    assert story.last_sent(0).run_number == 1
    assert story.states() == ["Pending", "Pending"]


def test_a_run_that_is_given_a_time_waits_for_it() -> None:
    story = Story(PAIR, given={0: known(0, "Scheduled", scheduled_time=WALL + 10)})
    story.starts()
    assert story.states() == ["Scheduled", "Pending"]
    assert sent(story.wakes(10.0)) == [(0, 1), (1, 1)]
    assert story.last_sent(0).run_number == 1


def test_a_run_that_waits_for_a_given_time_can_be_cancelled() -> None:
    story = Story(PAIR, given={0: known(0, "Retrying", scheduled_time=WALL + 10)})
    story.starts()
    story.is_cancelled()
    assert story.states() == ["Cancelled", "Cancelled"]
    assert sent(story.wakes(10.0)) == []


# --- not part of this run ------------------------------------------------------------------------

#: 0 and 1 are not part of it, 2 is given, 3 is run.
MIDDLE = {0: (), 1: (0,), 2: (1,), 3: (2,)}


def from_the_middle(**given: object) -> Story:
    return Story(
        MIDDLE,
        roles={0: "outside", 1: "outside", 2: "given"},
        given={2: known(2), **{int(n[1:]): header for n, header in given.items()}},
    )


def test_what_is_outside_is_not_sent_and_does_not_hold_the_run_up() -> None:
    story = from_the_middle(t0=known(0, "Pending"), t1=known(1, "Pending"))
    assert sent(story.starts()) == [(3, 1)]
    assert story.phases() == "ppfs"
    story.ends(3)
    assert story.final == ("Success", "reference tasks succeeded")
    assert story.states() == ["Pending", "Pending", "Success", "Success"]


def test_what_is_outside_needs_no_state_to_stay_there() -> None:
    story = from_the_middle()
    assert sent(story.starts()) == [(3, 1)]
    assert story.phases() == "ppfs"


def test_what_is_outside_shows_the_state_that_it_is_given() -> None:
    header = known(0, "Retrying", scheduled_time=WALL + 1, last_run_number=1)
    story = from_the_middle(t0=header)
    story.starts()
    assert story.states() == ["Retrying", "Pending", "Success", "Pending"]
    assert [entry.new for entry in story.machine.history if entry.task_run == (0, -1)] == [
        "Retrying"
    ]
    assert story.machine.wake_at is None


def test_what_is_outside_stays_as_it_is_after_a_cancel() -> None:
    outside = known(1, "Pending")
    story = from_the_middle(t1=outside)
    story.starts()
    story.is_cancelled()
    assert story.states() == ["Pending", "Pending", "Success", "Cancelled"]
    assert story.record(1).retry_header is outside


def test_what_is_outside_cannot_be_cancelled_by_itself() -> None:
    story = from_the_middle()
    story.starts()
    assert story.cancels(0, 1) == []
    assert story.phases() == "ppfs"


def test_what_is_outside_stays_as_it_is_when_the_cluster_is_lost() -> None:
    outside = known(1, "Pending")
    story = from_the_middle(t1=outside)
    story.starts()
    story.loses_cluster()
    assert story.record(1).retry_header is outside
    assert story.record(3).retry_header is not None


def test_what_is_outside_stays_as_it_is_when_an_error_of_ours_ends_the_run() -> None:
    story = from_the_middle()
    story.starts()
    story.machine.give_up(story.now, "error in dask_taskrunner")
    assert story.states() == ["Pending", "Pending", "Success", "Cancelled"]


def test_what_is_behind_something_outside_does_not_hold_the_run_up_either() -> None:
    story = Story({0: (), 1: (0,), 2: ()}, roles={0: "outside"}, reference={2})
    assert sent(story.starts()) == [(2, 1)]
    assert story.phases() == "pws"
    story.ends(2)
    assert story.final == ("Success", "reference tasks succeeded")


# --- what is no task of ours ---------------------------------------------------------------------


def test_what_somebody_elses_code_raised_is_a_failure_with_its_exception() -> None:
    story = Story(PAIR)
    story.starts()
    story.loses(0, "raised", text="ValueError: no", type="ValueError", has_exception=True)
    header = story.record(0).header
    assert header is not None
    assert (header.state, header.message, header.more["type"]) == (
        "Failed",
        "ValueError: no",
        "ValueError",
    )
    assert header.is_complete
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream == (header,)


def test_what_was_raised_and_says_no_more_is_a_failure_all_the_same() -> None:
    story = Story(PAIR)
    story.starts()
    story.loses(0, "raised", text="ValueError: no")
    assert story.states() == ["Failed", "Pending"]
