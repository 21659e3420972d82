"""An open plan forgets what nobody will ask for: its memory is flat, however much it has run."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, forgotten, known, released, sent

from dask_taskrunner.machine.commands import Finish, Forget, Release

CHAIN = {0: (), 1: (0,), 2: (1,)}
DIAMOND = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}


def opened(upstream: dict[int, tuple[int, ...]], **options: object) -> Story:
    """Return a story of an open plan, each of whose results somebody holds."""
    story = Story(upstream, kept=None, is_open=True, **options)
    story.starts()
    return story


def is_empty(story: Story) -> bool:
    machine = story.machine
    return not machine.records and not machine.counts and machine.wake_at is None


# --- handles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
def test_a_result_that_is_dropped_after_the_end_is_forgotten(big: bool) -> None:
    story = opened({0: ()})
    story.ends(0, big=big)
    assert story.left() == [0]
    commands = story.drops(0)
    assert forgotten(commands) == [0]
    assert released(commands) == ([0] if big else [])
    assert is_empty(story)


@pytest.mark.parametrize("big", [False, True])
def test_a_result_that_is_dropped_before_the_end_is_forgotten_at_the_end(big: bool) -> None:
    story = opened({0: ()})
    assert story.drops(0) == []
    assert story.phases() == "s"
    commands = story.ends(0, big=big)
    assert forgotten(commands) == [0]
    assert released(commands) == [0]
    assert is_empty(story)


def test_what_is_let_go_is_told_before_it_is_forgotten() -> None:
    story = opened({0: ()})
    story.ends(0, big=True)
    assert [type(command) for command in story.drops(0)] == [Release, Forget]


def test_a_result_that_two_hold_is_kept_until_both_have_dropped_it() -> None:
    story = opened({0: ()})
    story.wants(0)
    story.ends(0, big=True)
    assert story.drops(0) == []
    assert story.held() == {0}
    assert forgotten(story.drops(0)) == [0]


def test_a_failure_is_forgotten_like_a_result() -> None:
    story = opened(CHAIN)
    story.ends(0, "Failed")
    story.ends(1, "TriggerFailed", body=False)
    story.loses(2, "error")
    assert forgotten(story.drops(0, 1, 2)) == [0, 1, 2]
    assert is_empty(story)


def test_a_result_that_nobody_held_from_the_beginning_is_forgotten_at_the_end() -> None:
    story = Story({0: (), 1: ()}, kept={1}, is_open=True)
    story.starts()
    assert forgotten(story.ends(0, big=True)) == [0]
    assert forgotten(story.ends(1, big=True)) == []


def test_what_is_not_known_can_be_wanted_and_dropped_and_nothing_follows() -> None:
    story = opened({})
    assert story.wants(7) == []
    assert story.drops(7) == []


def test_a_value_that_is_lost_after_it_was_dropped_is_not_made_again() -> None:
    story = opened({0: (), 1: (0,)})
    story.ends(0, big=True)
    story.drops(0)
    story.ends(1, big=True)
    assert story.left() == [0, 1]
    assert story.held() == {1}
    assert story.loses_value(0) == []


def test_the_loss_of_a_value_that_is_held_is_made_good() -> None:
    story = opened({0: ()})
    story.ends(0, big=True)
    story.loses_value(0)
    assert sent(story.wakes()) == [(0, 2)]
    # Nobody holds it any more when it comes.
    story.drops(0)
    assert forgotten(story.ends(0, big=True)) == [0]


# --- chains and diamonds -------------------------------------------------------------------------


def test_a_run_that_was_dropped_stays_while_a_reader_has_not_finished() -> None:
    story = opened(CHAIN)
    story.drops(0, 1)
    story.ends(0, big=True)
    assert story.left() == [0, 1, 2]
    commands = story.ends(1, big=True)
    assert (released(commands), forgotten(commands)) == ([0], [])
    assert forgotten(story.ends(2)) == [0, 1]
    assert story.left() == [2]
    assert forgotten(story.drops(2)) == [2]
    assert is_empty(story)


def test_a_chain_is_forgotten_when_its_end_is_dropped() -> None:
    story = opened(CHAIN)
    story.drops(0, 1)
    for n in CHAIN:
        story.ends(n, big=True)
    # Its value could be lost, and be made again from the beginning.
    assert story.left() == [0, 1, 2]
    assert forgotten(story.drops(2)) == [0, 1, 2]
    assert is_empty(story)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
@pytest.mark.parametrize("big", [False, True])
def test_a_diamond_is_forgotten_in_whatever_order_it_is_dropped(
    order: tuple[int, ...], big: bool
) -> None:
    story = opened(DIAMOND)
    for n in DIAMOND:
        story.ends(n, big=big)
    for n in order:
        story.drops(n)
    assert is_empty(story)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 0, 1, 2)])
@pytest.mark.parametrize("big", [False, True])
def test_a_diamond_that_was_dropped_is_forgotten_in_whatever_order_it_ends(
    order: tuple[int, ...], big: bool
) -> None:
    # Of a run that others read the end may be heard of later than of these.
    story = opened(DIAMOND)
    story.drops(*DIAMOND)
    for n in order:
        story.ends(n, big=big)
    assert is_empty(story)


def test_a_small_result_needs_nothing_upstream_of_it_any_more() -> None:
    story = opened(CHAIN)
    story.drops(0, 1)
    story.ends(0, big=True)
    story.ends(1, big=True)
    assert forgotten(story.ends(2)) == [0, 1]
    # A run that comes later reads it by value.
    story.adds({3: (2,)})
    assert sent(story.wakes()) == [(3, 1)]
    story.ends(3)
    story.drops(2, 3)
    assert is_empty(story)


def test_of_a_chain_of_small_results_that_goes_on_and_on_only_its_end_is_kept() -> None:
    # There is always one on its way, so no result is there before its reader is.
    story = opened({0: ()})
    for n in range(1, 50):
        story.adds({n: (n - 1,)})
        story.wakes()
        story.drops(n - 1)
        story.ends(n - 1)
        assert len(story.left()) <= 3
    story.ends(49)
    assert story.left() == [49]


def test_what_has_finished_and_may_have_to_be_made_again_keeps_what_is_upstream_of_it() -> None:
    story = opened(CHAIN)
    story.drops(0, 1)
    for n in CHAIN:
        story.ends(n, big=True)
    assert story.held() == {2}
    story.loses_value(2)
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert [story.last_sent(n).upstream for n in CHAIN] == [(), (2,), (2,)]
    for n in CHAIN:
        story.ends(n, big=True)
    assert story.held() == {2}
    assert forgotten(story.drops(2)) == [0, 1, 2]


def test_what_was_small_upstream_stays_by_value_for_what_may_have_to_be_made_again() -> None:
    story = opened(CHAIN)
    story.drops(0, 1)
    story.ends(0, big=True)
    header = story.header(1)
    story.hears(header)
    assert forgotten(story.ends(2, big=True)) == [0]
    story.loses_value(2)
    assert sent(story.wakes()) == [(2, 2)]
    assert story.last_sent(2).upstream == (header,)


def test_a_reader_that_needs_its_upstream_no_more_does_not_mind_when_that_is_made_again() -> None:
    story = opened({0: (), 1: (0,)})
    story.ends(0, big=True)
    story.ends(1)
    story.loses_value(0)
    assert sent(story.wakes()) == [(0, 2)]
    assert story.phases() == "sf"
    story.ends(0, big=True)
    story.drops(0)
    assert story.left() == [1]


def test_a_value_that_is_lost_for_good_needs_nothing_upstream_of_it_any_more() -> None:
    story = opened({0: (), 1: (0,)}, max_crash_retries=0)
    story.drops(0)
    story.ends(0, big=True)
    story.ends(1, big=True)
    assert story.left() == [0, 1]
    assert forgotten(story.loses_value(1)) == [0]
    assert forgotten(story.drops(1)) == [1]


def test_what_is_given_or_comes_from_elsewhere_is_forgotten_like_the_rest() -> None:
    story = opened(
        {0: (), 1: (), 2: (0, 1)},
        roles={0: "given", 1: "foreign"},
        given={0: known(0, big=True)},
    )
    story.drops(0, 1)
    story.ends_elsewhere(1, known(1, big=True))
    story.wakes()
    assert forgotten(story.ends(2)) == [0, 1]
    story.drops(2)
    assert is_empty(story)


def test_a_foreign_run_that_nobody_asks_for_is_forgotten_when_it_ends() -> None:
    story = opened({0: ()}, roles={0: "foreign"})
    assert story.drops(0) == []
    assert forgotten(story.ends_elsewhere(0, None)) == [0]
    assert is_empty(story)


# --- what comes too late -------------------------------------------------------------------------


def test_news_of_what_is_forgotten_is_no_error() -> None:
    story = opened({0: (), 1: ()})
    story.drops(0)
    header = story.header(0, big=True)
    assert forgotten(story.hears(header)) == [0]
    assert story.hears(header) == []
    assert story.hears(header._replace(execution=77, state="Failed")) == []
    assert story.is_silent(0, submission=1) == []
    assert story.loses(0, submission=1) == []
    assert story.loses_value(0, submission=1) == []
    assert story.removes("w1", [0]) == []
    assert story.ends_elsewhere(0, None) == []
    assert story.cancels(0) == []
    story.begins(0, submission=1)
    assert story.left() == [1]
    assert story.machine.counts == {"task1": {"Pending": 1}}


def test_a_run_that_is_at_fault_and_forgotten_is_not_looked_for() -> None:
    story = opened({0: (), 1: (0,)})
    story.finds_unfinished(1, 77)
    assert sent(story.wakes()) == []
    story.ends(0, big=True)
    story.wakes()
    story.loses(1, "upstream", culprit=77)
    assert sent(story.wakes()) == [(1, 3)]


def test_a_timer_of_what_is_forgotten_wakes_nothing() -> None:
    story = opened({0: ()})
    story.ends(0, "Retrying")
    story.drops(0)
    assert forgotten(story.cancels(0)) == [0]
    assert sent(story.wakes(10.0)) == []
    assert is_empty(story)


def test_what_was_to_be_sent_and_is_forgotten_is_not_sent() -> None:
    story = opened({})
    story.adds({0: (), 1: ()})
    story.drops(0)
    assert forgotten(story.cancels(0)) == [0]
    assert sent(story.wakes()) == [(1, 1)]


def test_what_is_cancelled_and_dropped_while_its_code_runs_is_forgotten() -> None:
    story = opened({0: ()})
    execution = story.begins(0)
    story.cancels(0)
    story.drops(0)
    assert is_empty(story)
    assert story.hears(known(0)._replace(execution=execution)) == []


# --- the end -------------------------------------------------------------------------------------


def test_at_the_end_of_an_open_plan_what_is_held_stays_until_it_is_dropped() -> None:
    story = opened(CHAIN)
    for n in CHAIN:
        story.ends(n, big=True)
    story.is_complete()
    assert story.held() == {0, 1, 2}
    commands = story.drops(0, 1, 2)
    assert (released(commands), forgotten(commands)) == ([0, 1, 2], [0, 1, 2])
    assert is_empty(story)


def test_what_ends_with_its_run_and_is_held_by_nobody_is_forgotten_before_the_end() -> None:
    story = opened(CHAIN)
    story.drops(*CHAIN)
    commands = story.is_cancelled()
    assert forgotten(commands) == [0, 1, 2]
    assert isinstance(commands[-1], Finish)
    assert not story.left()


def test_without_its_cluster_what_nobody_holds_is_forgotten_as_well() -> None:
    # 0 was being made again for a reader that has ended meanwhile.
    story = opened({0: (), 1: (0,), 2: ()})
    story.drops(0)
    story.ends(0, big=True)
    story.loses_value(0)
    story.cancels(1)
    assert story.phases() == "qfs"
    assert forgotten(story.loses_cluster()) == [0]
    assert story.left() == [1, 2]


def test_a_flow_run_forgets_nothing() -> None:
    story = Story(CHAIN, kept={0, 2})
    story.starts()
    for n in CHAIN:
        story.ends(n, big=True)
    commands = story.drops(0)
    assert (released(commands), forgotten(commands)) == ([0], [])
    assert story.left() == [0, 1, 2]


def test_a_flow_run_lets_go_of_what_is_dropped_while_it_goes() -> None:
    story = Story({0: (), 1: (), 2: ()}, kept={0})
    story.starts()
    story.wants(1)
    story.ends(0, big=True)
    story.ends(1, big=True)
    assert story.held() == {0, 1, 2}
    assert released(story.drops(0, 1)) == [0, 1]
