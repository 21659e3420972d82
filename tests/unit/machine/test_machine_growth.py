"""Task runs that come to an open plan later: behind what, in which order, and until when."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.machine_story import WALL, Story, hooks, known, released, sent, settled

from dask_taskrunner.machine.commands import Finish


def opened(
    upstream: dict[int, tuple[int, ...]] | None = None,
    *,
    kept: set[int] | None = None,
    **options: object,
) -> Story:
    """Return a story of an open plan, whose results somebody holds if not told otherwise."""
    story = Story(upstream or {}, kept=kept, is_open=True, **options)
    story.starts()
    return story


# --- coming --------------------------------------------------------------------------------------


def test_an_open_plan_without_a_run_does_not_end() -> None:
    story = opened()
    assert story.final is None
    assert story.machine.wake_at is None


def test_what_is_added_goes_out_when_the_timer_fires() -> None:
    story = opened()
    assert sent(story.adds({0: (), 1: (0,)})) == []
    assert story.machine.wake_at == float("-inf")
    assert sent(story.wakes()) == [(0, 1), (1, 1)]
    assert story.machine.counts["task0"]["Pending"] == 1
    assert story.machine.active == 2


def test_what_was_given_something_that_is_forgotten_fails_and_is_not_sent() -> None:
    story = opened({0: ()}, kept=set())
    story.ends(0, big=True)
    assert story.left() == []
    assert sent(story.adds({1: (0,)})) == []
    (entry,) = [entry for entry in story.machine.history if entry.task_run == (1, -1)]
    assert (entry.new, entry.header.message) == (
        "Failed",
        "what it was given was released before it was sent; keep the future until then",
    )
    assert story.machine.wake_at is None


def while_it_is_queued(story: Story) -> None:
    story.adds({0: ()})


def while_it_is_submitted(story: Story) -> None:
    story.adds({0: ()})
    story.wakes()


def while_it_runs(story: Story) -> None:
    while_it_is_submitted(story)
    story.begins(0)


@pytest.mark.parametrize(
    "moment",
    [while_it_is_queued, while_it_is_submitted, while_it_runs],
)
def test_a_run_behind_what_has_not_finished_goes_out_behind_its_future(
    moment: Callable[[Story], None],
) -> None:
    story = opened()
    moment(story)
    story.adds({1: (0,)})
    assert (1, 1) in sent(story.wakes())
    assert story.last_sent(1).upstream == (1,)


def test_a_run_behind_what_is_delayed_waits_with_it() -> None:
    story = opened({0: ()})
    story.ends(0, "Retrying")
    story.adds({1: (0,), 2: (1,)})
    assert sent(story.wakes()) == []
    assert story.phases() == "dww"
    assert sent(story.wakes(10.0)) == [(0, 2), (1, 1), (2, 1)]
    assert story.last_sent(1).upstream == (2,)


def test_a_run_behind_what_is_paused_waits() -> None:
    story = opened({0: ()})
    story.ends(0, "Paused")
    story.adds({1: (0,)})
    assert sent(story.wakes()) == []
    story.is_complete()
    assert story.phases() == "pw"
    assert story.final is not None


def test_a_run_behind_what_has_finished_large_goes_out_behind_its_future() -> None:
    story = opened({0: ()})
    story.ends(0, big=True)
    story.adds({1: (0,)})
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream == (1,)
    story.ends(1)
    assert story.held() == {0}


def test_a_run_behind_what_has_finished_small_goes_out_with_its_value() -> None:
    story = opened({0: ()})
    assert released(story.ends(0)) == [0]
    story.adds({1: (0,)})
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream == (story.record(0).header,)


def test_a_run_behind_what_has_failed_gets_its_trigger() -> None:
    story = opened({0: ()})
    story.loses(0, "error")
    story.adds({1: (0,)})
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream[0].state == "Crashed"


def test_a_run_behind_what_is_being_made_again_goes_out_behind_that() -> None:
    story = opened({0: ()})
    story.ends(0, big=True)
    story.loses_value(0)
    story.adds({1: (0,)})
    assert sent(story.wakes()) == [(0, 2), (1, 1)]
    assert story.last_sent(1).upstream == (2,)


def test_runs_may_come_behind_runs_of_several_comings() -> None:
    story = opened({0: (), 1: (0,)})
    story.adds({2: (0, 1)})
    story.adds({3: (1, 2), 4: (3,)})
    assert sent(story.wakes()) == [(2, 1), (3, 1), (4, 1)]
    for n in range(5):
        story.ends(n, big=True)
    story.is_complete()
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_run_may_come_with_a_state_or_wait_for_its_time() -> None:
    story = opened()
    story.now = 5.0
    story.adds(
        {0: (), 1: (0,), 2: (0,)},
        roles={0: "given"},
        given={0: known(0), 1: known(1, "Retrying", scheduled_time=WALL + 15, last_run_number=1)},
    )
    assert story.phases() == "fdq"
    assert sent(story.wakes()) == [(2, 1)]
    assert sent(story.wakes(15.0)) == [(1, 1)]
    assert story.last_sent(1).run_number == 2


def test_a_foreign_run_may_come_later_and_holds_what_comes_behind_it() -> None:
    story = opened()
    story.adds({0: ()}, roles={0: "foreign"})
    story.adds({1: (0,)})
    assert story.phases() == "Fw"
    story.is_complete()
    assert story.final is None
    story.ends_elsewhere(0, known(0, big=True))
    assert sent(story.wakes()) == [(1, 1)]
    story.ends(1)
    assert story.final == ("Success", "reference tasks succeeded")
    assert story.held() == {0}


def test_runs_that_come_after_the_end_are_not_taken_in() -> None:
    story = opened({0: ()})
    story.is_cancelled()
    assert story.adds({1: (0,)}) == []
    assert story.left() == [0]


def test_a_coming_run_has_its_handlers_called_like_any_other() -> None:
    story = opened()
    story.adds({0: ()}, handlers=True)
    assert hooks(story.cancels(0)) == [(0, "Pending", "Cancelled")]


# --- the end -------------------------------------------------------------------------------------


def test_an_open_plan_goes_on_when_all_its_runs_have_ended() -> None:
    story = opened({0: ()})
    story.ends(0)
    assert story.final is None


def test_a_complete_plan_ends_when_all_its_runs_have() -> None:
    story = opened({0: (), 1: ()})
    story.ends(0)
    story.is_complete()
    assert story.final is None
    assert isinstance(story.ends(1)[-1], Finish)
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_complete_plan_in_which_nothing_is_left_to_do_ends_at_once() -> None:
    assert isinstance(opened().is_complete()[-1], Finish)
    story = opened({0: ()})
    story.ends(0)
    assert isinstance(story.is_complete()[-1], Finish)


def test_an_open_plan_that_is_cancelled_is_over() -> None:
    story = opened({0: (), 1: (0,)})
    commands = story.is_cancelled()
    assert isinstance(commands[-1], Finish)
    assert story.states() == ["Cancelled", "Cancelled"]


def test_an_open_plan_without_its_cluster_is_over() -> None:
    story = opened({0: (), 1: (0,), 2: ()})
    story.ends(0, big=True)
    story.loses_cluster()
    assert story.states() == ["Success", "Pending", "Pending"]
    assert story.final is not None


# --- some runs are cancelled ---------------------------------------------------------------------


def test_a_cancelled_run_gives_its_dependents_their_triggers_and_touches_nothing_else() -> None:
    story = Story({0: (), 1: (0,), 2: (1,), 3: (0,), 4: ()})
    story.starts()
    story.ends(0, big=True)
    commands = story.cancels(1)
    assert released(commands) == [1, 2]
    assert story.phases() == "ffqss"
    header = story.record(1).header
    assert header is not None
    assert (header.state, header.message) == ("Cancelled", "not needed")
    assert sent(story.wakes()) == [(2, 2)]
    assert story.last_sent(2).upstream == (header,)
    assert story.held() == {0, 2, 3, 4}
    assert story.final is None


def test_a_run_whose_code_runs_is_asked_to_stop() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    execution = story.begins(0)
    story.cancels(0)
    header = story.record(0).header
    assert header is not None
    assert header.message == "asked to stop; its code was running on w1"
    story.ends(0, execution=execution)
    assert story.states() == ["Cancelled", "Pending"]
    assert story.outcomes(0) == ["success"]


@pytest.mark.parametrize("state", ["Retrying", "Paused"])
def test_a_run_that_stands_still_can_be_cancelled(state: str) -> None:
    story = Story({0: (), 1: (0,), 2: ()}, handlers=True)
    story.starts()
    story.ends(0, state)
    assert hooks(story.cancels(0)) == [(0, state, "Cancelled")]
    assert sent(story.wakes(10.0)) == [(1, 2)]


def test_a_run_that_waits_can_be_cancelled() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(0, "Retrying")
    story.cancels(1)
    assert story.phases() == "dfq"
    assert sent(story.wakes()) == [(2, 2)]


def test_a_run_that_has_ended_or_is_not_known_is_not_cancelled() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0)
    assert story.cancels(0, 77) == []
    assert story.states() == ["Success", "Pending"]


def test_a_run_whose_value_is_being_made_again_has_ended_and_is_not_cancelled() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    assert story.cancels(0) == []
    assert sent(story.wakes()) == [(0, 2), (1, 2)]


def test_the_run_ends_when_the_last_that_was_left_is_cancelled() -> None:
    story = Story({0: ()})
    story.starts()
    story.cancels(0)
    assert story.final == ("Cancelled", "t0 cancelled")


def test_after_the_end_nothing_is_cancelled() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Paused")
    assert story.final is not None
    assert story.cancels(0) == []
    assert story.states() == ["Paused", "Pending"]


# --- who is told of the end ----------------------------------------------------------------------

TOLD = {0: (), 1: (0,)}


@pytest.mark.parametrize("state", ["Success", "Failed", "Skipped"])
def test_the_cluster_is_told_of_an_end_once(state: str) -> None:
    story = Story(TOLD, settles={0})
    assert settled(story.starts()) == []
    header = story.header(0, state)
    assert settled(story.hears(header)) == [0]
    assert settled(story.hears(header)) == []
    assert settled(story.ends(1)) == []


def test_the_cluster_is_told_of_no_retry_and_no_pause() -> None:
    story = Story({0: (), 1: ()}, settles={0, 1})
    story.starts()
    assert settled(story.ends(0, "Retrying")) == []
    assert settled(story.ends(1, "Paused")) == []


def test_the_cluster_is_told_of_what_the_client_ends() -> None:
    story = Story({0: (), 1: (0,), 2: ()}, settles={0, 1, 2})
    story.starts()
    assert settled(story.loses(0, "error")) == [0]
    assert settled(story.cancels(2)) == [2]
    commands = story.is_cancelled()
    assert settled(commands) == [1]
    assert isinstance(commands[-1], Finish)


def test_the_cluster_is_told_of_what_begins_at_its_end() -> None:
    story = Story(TOLD, settles={0}, roles={0: "given"}, given={0: known(0)})
    assert settled(story.starts()) == [0]


def test_the_cluster_is_told_again_when_what_was_made_again_has_ended_again() -> None:
    story = Story(TOLD, settles={0})
    story.starts()
    assert settled(story.ends(0, big=True)) == [0]
    assert settled(story.loses_value(0)) == []
    story.wakes()
    assert settled(story.ends(0, big=True)) == [0]


def test_a_value_that_is_lost_for_good_is_no_second_end() -> None:
    story = Story(TOLD, settles={0}, max_crash_retries=0)
    story.starts()
    assert settled(story.ends(0, big=True)) == [0]
    assert settled(story.loses_value(0)) == []
    assert story.phases() == "fq"


# --- the history ---------------------------------------------------------------------------------


def test_the_history_of_an_open_plan_goes_when_it_was_read() -> None:
    story = opened({0: (), 1: ()})
    story.ends(0)
    assert [entry.new for entry in story.machine.history] == ["Running", "Success"]
    assert story.reads_history() == []
    assert story.machine.history == []
    story.ends(1, "Failed")
    assert [entry.new for entry in story.machine.history] == ["Failed"]


def test_the_history_of_a_flow_run_stays() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0)
    story.reads_history()
    assert [entry.new for entry in story.machine.history] == ["Running", "Success"]
