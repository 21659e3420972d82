"""Children and lists that are lost with their workers: everything is right again, and told once."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, notes, released, sent
from fakes.mapped_plans import Over

OVER_TWO = Over(lengths=(2,))
BY_INDEX = Over(by_index=(0,))


def reduced(**options: object) -> Story:
    """Return a story in which 1 is passed a list of the results of 0's two children."""
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)}, **options)
    story.starts()
    story.wakes()
    return story


def over_list(**options: object) -> Story:
    """Return a story in which the children of 1 take elements of 0, and one of them has."""
    story = Story(
        {0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,))}, lists={2: (1,)}, **options
    )
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    story.may_expand(1)
    story.wakes()
    story.end((1, 0))
    return story


# --- a child -------------------------------------------------------------------------------------


def test_each_child_has_a_crash_budget_of_its_own() -> None:
    story = reduced(max_crash_retries=1)
    for child in (0, 1):
        story.begins((0, child), "w9")
        story.loses((0, child), worker="w9")
    assert sent(story.wakes()) == [((0, 0), 2), ((0, 1), 2)]
    story.begins((0, 0), "w9")
    story.loses((0, 0), worker="w9")
    assert story.children(0) == ["Crashed", "Pending"]
    story.end((0, 1))
    assert story.record(0).header.message == "1 Success, 1 Crashed"
    story.wakes()
    assert story.last_sent(1).upstream[0].state == "Crashed"


def test_a_child_that_is_lost_is_sent_again_with_what_stands_behind_it() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO, 1: BY_INDEX})
    story.starts()
    story.wakes()
    assert released(story.loses((0, 1))) == [(0, 1), (1, 1)]
    assert sent(story.wakes()) == [((0, 1), 2), ((1, 1), 2)]


def test_a_lost_value_of_a_child_is_told_under_its_name() -> None:
    story = reduced()
    story.end((0, 1))
    assert notes(story.loses_value((0, 1))) == ["the result of t0[1] was lost: lost dependencies"]
    assert sent(story.wakes()) == [((0, 1), 2)]


# --- a child's value, after the mapped run has finished ------------------------------------------


def test_a_value_that_is_lost_under_its_reader_is_made_again_and_the_reader_goes_behind() -> None:
    story = reduced(settles={0})
    story.end((0, 0), (0, 1))
    header = story.record(0).header
    story.wakes()
    assert released(story.loses_value((0, 0))) == [(0, 0), 1]
    # What it has come to is final; only who is passed the results waits.
    assert story.phases() == "fwqf"
    assert sent(story.wakes()) == [((0, 0), 2)]
    story.end((0, 0))
    assert story.record(0).header is header
    assert story.phases() == "fqff"
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream == (2, 1)
    assert released(story.ends(1)) == [(0, 0), (0, 1), 1]
    assert [e.new for e in story.machine.history if e.task_run == (0, -1)] == ["Running", "Mapped"]
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_value_that_is_lost_before_its_reader_has_gone_out_holds_it_back() -> None:
    story = reduced()
    story.end((0, 0), (0, 1))
    assert story.record(1).phase == "queued"
    story.loses_value((0, 1))
    assert sent(story.wakes()) == [((0, 1), 2)]
    story.end((0, 1))
    assert sent(story.wakes()) == [(1, 1)]


def test_a_reader_that_found_a_child_unfinished_waits_until_that_is_made_again() -> None:
    story = reduced()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.finds_unfinished(1, (0, 1))
    assert sent(story.wakes()) == [((0, 1), 2)]
    story.end((0, 1))
    assert sent(story.wakes()) == [(1, 2)]


def test_a_child_whose_loss_is_its_readers_error_is_made_again() -> None:
    story = reduced()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses(1, "upstream", culprit=(0, 0))
    assert story.record(1).crashes == 0
    assert sent(story.wakes()) == [((0, 0), 2)]


def test_two_children_that_are_lost_are_both_made_again_before_the_reader_goes_out() -> None:
    story = reduced()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 0))
    story.loses_value((0, 1))
    story.wakes()
    story.end((0, 1))
    assert sent(story.wakes()) == []
    story.end((0, 0))
    assert sent(story.wakes()) == [(1, 2)]


def test_a_child_that_is_born_while_a_value_is_made_again_waits_for_that() -> None:
    upstream = {0: (), 1: (), 2: (0, 1)}
    story = Story(upstream, maps={0: OVER_TWO, 2: Over(elements=(1,))}, lists={2: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.ends(1, length=1)
    story.wakes()
    story.loses_value((0, 0))
    story.may_expand(2)
    assert sent(story.wakes()) == [((0, 0), 2)]
    story.end((0, 0))
    assert sent(story.wakes()) == [((2, 0), 1)]


def test_a_failed_childs_exception_that_is_lost_goes_to_its_reader_by_value() -> None:
    story = reduced()
    story.ends((0, 0), "Failed", has_exception=True, type="ValueError")
    story.end((0, 1))
    story.wakes()
    story.loses_value((0, 0))
    assert sent(story.wakes()) == [(1, 2)]
    by_value, submission = story.last_sent(1).upstream
    assert (by_value.state, by_value.is_complete, submission) == ("Failed", True, 1)


def test_a_value_that_cannot_be_made_again_goes_to_its_reader_as_a_crash() -> None:
    story = reduced(max_crash_retries=0)
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 1))
    assert sent(story.wakes()) == [(1, 2)]
    (_, crash) = story.last_sent(1).upstream
    assert crash.state == "Crashed"
    assert crash.message.startswith("the result of t0[1] was lost with worker w1")
    assert story.states()[0] == "Mapped"
    assert story.children(0) == ["Success", "Success"]


def test_a_value_that_comes_to_a_failure_when_it_is_made_again_ends_on_the_budget() -> None:
    story = reduced(max_crash_retries=1)
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 1))
    story.wakes()
    story.ends((0, 1), "Failed")
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream[1].state == "Crashed"


def test_who_is_behind_a_mapped_run_for_its_state_alone_is_not_taken_back() -> None:
    # 1 is passed the results, and 2 only comes after them.
    story = Story({0: (), 1: (0,), 2: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    execution = story.begins(2)
    assert released(story.loses_value((0, 0))) == [(0, 0), 1]
    story.ends(2, execution=execution)
    assert story.outcomes(2) == ["success"]


def test_a_reader_whose_own_value_is_lost_has_the_children_made_again_that_are_gone() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    assert released(story.end(1)) == [(0, 0), (0, 1)]
    story.loses_value(1)
    assert sent(story.wakes()) == [((0, 0), 2), ((0, 1), 2)]
    story.end((0, 0), (0, 1))
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    story.end(1, 2)
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_chain_of_children_is_made_again_as_far_up_as_it_is_gone() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={0: OVER_TWO, 1: BY_INDEX}, lists={2: (1,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1), (1, 0), (1, 1))
    story.wakes()
    story.loses_value((1, 0))
    # The other index has nothing to do with it.
    assert sent(story.wakes()) == [((0, 0), 2), ((1, 0), 2)]
    assert story.phases() == "ffwsfsf"
    story.end((0, 0), (1, 0))
    assert sent(story.wakes()) == [(2, 2)]


def test_a_lost_child_that_nobody_needs_any_more_is_not_made_again() -> None:
    story = Story({0: (), 1: (0,), 2: ()}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.ends(1, "Failed")
    assert released(story.loses_value((0, 0))) == [(0, 0)]
    assert story.phases() == "ffsff"


def test_a_lost_child_that_is_kept_is_made_again_for_its_own_sake() -> None:
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO}, kept={0})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.loses_value((0, 0))
    assert sent(story.wakes()) == [((0, 0), 2)]
    story.ends(1)
    assert story.final is None
    story.end((0, 0))
    assert story.final is not None


# --- the list ------------------------------------------------------------------------------------


def test_a_list_that_is_lost_is_made_again_and_its_unfinished_children_go_behind_it() -> None:
    story = over_list()
    assert released(story.loses_value(0)) == [0, (1, 1)]
    assert sent(story.wakes()) == [(0, 2), ((1, 1), 2)]
    child = story.last_sent((1, 1))
    # The length is that of the first time: the worker holds the new one against it.
    assert (child.upstream, child.promised) == ((2,), {0: 2})
    story.ends(0, big=True, length=3)
    story.end((1, 1))
    assert sent(story.wakes()) == [(2, 1)]


def test_a_list_that_cannot_be_made_again_is_a_crash_for_the_children_that_are_left() -> None:
    story = over_list(max_crash_retries=0)
    story.loses_value(0)
    assert sent(story.wakes()) == [((1, 1), 2)]
    assert story.last_sent((1, 1)).upstream[0].state == "Crashed"
    story.ends((1, 1), "TriggerFailed", body=False)
    assert story.record(1).header.message == "1 Success, 1 TriggerFailed"


def test_a_child_whose_list_has_gone_has_it_made_again_for_it_alone() -> None:
    story = over_list()
    story.end((1, 1))
    assert 0 not in story.held()
    story.wakes()
    story.loses_value((1, 0))
    assert sent(story.wakes()) == [(0, 2), ((1, 0), 2)]
    story.ends(0, big=True, length=2)
    assert released(story.end((1, 0))) == [0]
    assert sent(story.wakes()) == [(2, 2)]


def test_a_child_that_found_its_list_unfinished_waits_for_it() -> None:
    story = over_list()
    story.finds_unfinished((1, 1), 0)
    assert sent(story.wakes()) == [(0, 2), ((1, 1), 2)]


# --- workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [True, False])
def test_a_removed_worker_is_told_of_with_the_children_that_it_had(expected: bool) -> None:
    story = reduced()
    commands = story.removes("w1", [(0, 0), (0, 1)], expected=expected)
    told = [] if expected else ["worker w1 was lost with 2 task runs assigned to it"]
    assert notes(commands) == told
