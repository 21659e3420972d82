"""Mapped task runs: how one becomes its children, and when."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, hooks, released, sent
from fakes.mapped_plans import Over

PAIR = {0: (), 1: (0,)}
BY_INDEX = Over(by_index=(0,))
OVER_TWO = Over(lengths=(2,))


def over_list(**options: object) -> Story:
    """Return a story in which 1 is mapped over the result of 0, and 2 is passed all of 1's."""
    return Story(
        {0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,))}, lists={2: (1,)}, **options
    )


# --- when its lengths are known ------------------------------------------------------------------


def test_over_constants_a_run_is_expanded_at_once_on_the_client() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: Over(lengths=(3,))}, lists={1: (0,)})
    story.starts()
    assert story.phases() == "ewqqq"
    assert sent(story.wakes()) == [((0, 0), 1), ((0, 1), 1), ((0, 2), 1)]
    parent = story.record(0)
    assert (parent.length, parent.submission, parent.shown) == (3, 0, "Running")
    assert story.record((0, 2)).plan.slug == "t0[2]"


def test_over_a_list_it_is_asked_once_that_has_ended_and_its_answer_expands_it() -> None:
    story = over_list()
    assert sent(story.starts()) == [(0, 1)]
    assert sent(story.ends(0, big=True, length=2)) == []
    assert sent(story.wakes()) == [(1, 1)]
    assert released(story.may_expand(1)) == [1]
    assert story.phases() == "fewqq"
    assert sent(story.wakes()) == [((1, 0), 1), ((1, 1), 1)]


def test_the_trigger_is_told_states_and_no_value_travels_for_it() -> None:
    story = over_list()
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    asked = story.last_sent(1)
    assert asked.expands
    assert asked.upstream == (story.record(0).header,)
    assert not asked.promised


def test_a_failure_that_a_trigger_is_told_of_brings_its_exception_along() -> None:
    story = Story({0: (), 1: (0,)}, maps={1: Over(elements=(0,))})
    story.starts()
    story.ends(0, "Failed", has_exception=True, type="ValueError")
    story.wakes()
    (told,) = story.last_sent(1).upstream
    assert told.is_complete


def test_a_child_stands_behind_the_list_and_is_told_how_long_it_was() -> None:
    story = over_list()
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    story.may_expand(1)
    story.wakes()
    child = story.last_sent((1, 1))
    assert (child.upstream_ids, child.upstream, child.promised) == (((0, -1),), (1,), {0: 2})
    assert not child.expands


def test_over_mapped_runs_it_is_expanded_by_index_as_soon_as_they_are() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={0: OVER_TWO, 1: BY_INDEX, 2: Over((1,))})
    story.starts()
    assert story.phases() == "eeeqqqqqq"
    story.wakes()
    assert story.last_sent((2, 1)).upstream_ids == ((1, 1),)
    assert story.record(1).submission == 0


def test_over_a_mapped_run_that_waits_for_its_list_it_is_expanded_when_that_is() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,)), 2: Over((1,))})
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    assert story.phases() == "fsw"
    story.may_expand(1)
    assert story.phases() == "feeqqqq"


def test_over_a_list_and_a_mapped_run_it_does_not_wait_for_that_ones_children() -> None:
    upstream = {0: (), 1: (), 2: (0, 1)}
    story = Story(upstream, maps={0: OVER_TWO, 2: Over((0,), elements=(1,))})
    story.starts()
    story.ends(1, length=2)
    assert sent(story.wakes()) == [((0, 0), 1), ((0, 1), 1), (2, 1)]
    asked = story.last_sent(2)
    # What it is mapped over child by child, each child asks about by itself.
    assert (asked.upstream_ids, asked.widths) == (((1, -1),), {0: 0})
    story.may_expand(2)
    story.wakes()
    child = story.last_sent((2, 1))
    assert (child.upstream_ids, child.promised) == (((0, 1), (1, -1)), {1: 2})


def test_over_a_mapped_run_that_came_to_nothing_its_trigger_is_asked_about_that() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,)), 2: Over((1,))})
    story.starts()
    story.ends(0, "Failed")
    story.wakes()
    story.ends(1, "TriggerFailed", body=False)
    assert sent(story.wakes()) == [(2, 1)]
    asked = story.last_sent(2)
    assert (asked.upstream, asked.widths) == ((story.record(1).header,), {})
    story.ends(2, "TriggerFailed", body=False)
    assert story.states() == ["Failed", "TriggerFailed", "TriggerFailed"]


def test_over_constants_it_does_not_wait_for_what_only_orders_it_but_its_children_do() -> None:
    story = Story(PAIR, maps={1: OVER_TWO})
    story.starts()
    assert story.phases() == "seqq"
    story.wakes()
    assert story.last_sent((1, 0)).upstream_ids == ((0, -1),)


def test_over_a_list_what_only_orders_it_is_told_to_its_trigger() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={2: Over(elements=(0,))})
    story.starts()
    story.ends(0, length=2)
    assert sent(story.wakes()) == []
    story.ends(1)
    story.wakes()
    assert story.last_sent(2).upstream_ids == ((0, -1), (1, -1))


def test_over_a_list_with_tasks_in_it_each_child_stands_behind_its_own() -> None:
    # An element may have none, or share one, or be all children of a mapped one.
    story = Story(
        {0: (), 1: (), 2: (), 3: (0, 1, 2)},
        maps={1: OVER_TWO, 3: Over(own=((2,), (), (2, 1)))},
    )
    story.starts()
    assert story.record(3).length == 3
    story.wakes()
    story.end(0, 2, (1, 0), (1, 1))
    story.wakes()
    assert story.last_sent((3, 0)).upstream_ids == ((0, -1), (2, -1))
    assert story.last_sent((3, 1)).upstream_ids == ((0, -1),)
    last = story.last_sent((3, 2))
    assert last.upstream_ids == ((0, -1), (2, -1), (1, 0), (1, 1))
    assert last.widths == {2: 2}


def test_a_child_waits_for_its_own_tasks_alone() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={2: Over(own=((0,), (1,)))})
    story.starts()
    story.ends(1, "Retrying")
    assert sent(story.wakes()) == [((2, 0), 1)]
    assert story.record((2, 1)).phase == "waiting"


def test_each_child_has_the_bytes_of_its_own_in_the_message() -> None:
    story = Story({0: ()}, maps={0: Over(lengths=(2,), child_bytes=(10, 30))})
    story.starts()
    assert [story.record((0, child)).plan.nbytes for child in (0, 1)] == [10, 30]


# --- how many there are --------------------------------------------------------------------------


def test_over_nothing_it_is_mapped_at_once_and_its_reader_gets_an_empty_list() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: Over(lengths=(0,))}, lists={1: (0,)})
    story.starts()
    header = story.record(0).header
    assert (header.state, header.message, header.more["counts"]) == ("Mapped", "no elements", {})
    story.wakes()
    reader = story.last_sent(1)
    assert (reader.upstream_ids, reader.widths) == ((), {0: 0})
    story.ends(1)
    assert story.final == ("Success", "reference tasks succeeded")


def test_over_an_empty_list_whatever_is_mapped_over_the_children_has_none_either() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,)), 2: Over((1,))})
    story.starts()
    story.ends(0, big=True, length=0)
    story.wakes()
    # Nobody needs the list any more.
    assert released(story.may_expand(1)) == [0, 1]
    assert story.states() == ["Success", "Mapped", "Mapped"]
    assert story.final == ("Success", "reference tasks succeeded")


@pytest.mark.parametrize("zip_shortest", [True, False])
def test_of_unequal_lengths_the_shortest_counts_only_where_that_is_asked_for(
    zip_shortest: bool,
) -> None:
    over = Over((0,), (1,), (4,), zip_shortest)
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: Over(lengths=(3,)), 2: over})
    story.starts()
    story.ends(1, length=2)
    story.wakes()
    story.may_expand(2)
    if zip_shortest:
        assert story.record(2).length == 2
        return
    assert story.record(2).header.state == "Failed"
    assert story.record(2).header.message == (
        "map: what t2 is mapped over is not equally long: c0 has 4, t1 has 2, t0 has 3. "
        "Cut the longer one, or set zip_shortest=True."
    )


def test_what_a_shorter_run_leaves_unread_is_let_go_when_that_is_known() -> None:
    over = Over((0,), (1,), zip_shortest=True)
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: Over(lengths=(3,)), 2: over})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 2))
    story.ends(1, length=2)
    story.wakes()
    assert released(story.may_expand(2)) == [(0, 2), 2]
    assert (0, 0) in story.held()
    assert released(story.ends((0, 1), big=True)) == []


# --- what is no list -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Failed", "TriggerFailed", "Crashed", "Cancelled", "Skipped"])
def test_what_is_mapped_over_came_to_nothing_and_the_trigger_has_the_word(state: str) -> None:
    story = over_list()
    story.starts()
    story.ends(0, state, body=False)
    story.wakes()
    assert story.last_sent(1).upstream[0].state == state
    answer = "Skipped" if state == "Skipped" else "TriggerFailed"
    story.ends(1, answer, body=False)
    assert story.states()[1] == answer
    # There are no children to make a list of: its reader gets that one state.
    story.wakes()
    reader = story.last_sent(2)
    assert (reader.upstream_ids, reader.widths) == (((1, -1),), {})
    assert reader.upstream == (story.record(1).header,)


@pytest.mark.parametrize("state", ["Failed", "TriggerFailed", "Crashed", "Cancelled", "Skipped"])
def test_where_the_trigger_passes_there_is_nothing_to_map_over(state: str) -> None:
    story = over_list(handlers=True)
    story.starts()
    header = story.header(0, state, body=False)._replace(message="why")
    story.hears(header)
    story.wakes()
    commands = story.may_expand(1)
    assert hooks(commands) == [(1, "Pending", "Failed")]
    assert story.record(1).header.message == f"nothing to map over: t0 is {state}: why"
    story.wakes()
    assert story.last_sent(2).upstream == (story.record(1).header,)


def test_a_list_that_was_lost_for_good_is_nothing_to_map_over() -> None:
    story = over_list(max_crash_retries=0)
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    story.loses_value(0)
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream[0].state == "Crashed"
    story.may_expand(1)
    message = story.record(1).header.message
    assert message.startswith("nothing to map over: t0 is Crashed: the result of t0 was lost")


def test_over_a_mapped_run_that_failed_by_itself_there_is_nothing_to_map_over() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,)), 2: Over((1,))})
    story.starts()
    story.ends(0, "Failed")
    story.wakes()
    story.ends(1, "TriggerFailed", body=False)
    story.wakes()
    story.may_expand(2)
    assert story.record(2).header.message == "nothing to map over: t1 is TriggerFailed"


def test_over_a_skip_that_has_a_result_its_length_counts() -> None:
    story = Story(PAIR, maps={1: Over(elements=(0,))})
    story.starts()
    header = story.header(0, length=2)
    story.hears(header._replace(state="Skipped"))
    story.wakes()
    story.may_expand(1)
    assert story.record(1).length == 2


def test_what_has_no_length_is_told_with_the_right_line() -> None:
    story = over_list()
    story.starts()
    story.ends(0, no_length="Write {argument}=unmapped(5) to pass the same to each")
    story.wakes()
    story.may_expand(1)
    assert story.record(1).header.message == (
        "map: task1 cannot be mapped over a0, the result of t0, of type int. "
        "Write a0=unmapped(5) to pass the same to each"
    )
