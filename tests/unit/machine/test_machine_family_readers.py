"""Who reads the children of a mapped run: what they wait for, are sent with, and let go."""

from __future__ import annotations

from fakes.machine_story import Story, released, sent
from fakes.mapped_plans import Over

from dask_taskrunner.machine import board

OVER_TWO = Over(lengths=(2,))
BY_INDEX = Over(by_index=(0,))
#: 1 is mapped over 0 child by child, and 2 is passed a list of all of 1's results.
CHAIN = {0: (), 1: (0,), 2: (1,)}


def chain(**options: object) -> Story:
    story = Story(CHAIN, maps={0: OVER_TWO, 1: BY_INDEX}, lists={2: (1,)}, **options)
    story.starts()
    story.wakes()
    return story


def reduced(**options: object) -> Story:
    """Return a story in which 1 is passed a list of the results of 0's two children."""
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)}, **options)
    story.starts()
    story.wakes()
    return story


# --- what waits for what -------------------------------------------------------------------------


def test_a_reader_of_all_is_sent_once_when_the_last_child_has_ended_and_not_before() -> None:
    story = reduced()
    assert sent(story.ends((0, 1), big=True)) == []
    assert sent(story.wakes()) == []
    story.ends((0, 0), big=True)
    assert sent(story.wakes()) == [(1, 1)]
    reader = story.last_sent(1)
    assert reader.upstream_ids == ((0, 0), (0, 1))
    assert (reader.upstream, reader.widths) == ((1, 1), {0: 2})
    story.ends(1)
    assert [run.id for run in story.sent].count((1, -1)) == 1


def test_a_reader_of_all_is_sent_whatever_the_children_have_come_to() -> None:
    story = reduced()
    story.ends((0, 0), "Failed")
    story.ends((0, 1), "Skipped")
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream == (1, 1)


def test_a_child_that_retries_holds_back_only_what_depends_on_it() -> None:
    story = chain()
    assert released(story.ends((0, 0), "Retrying")) == [(0, 0), (1, 0)]
    assert story.record((1, 1)).phase == "submitted"
    story.end((0, 1), (1, 1))
    assert sent(story.wakes(10.0)) == [((0, 0), 2), ((1, 0), 2)]
    story.end((0, 0), (1, 0))
    assert sent(story.wakes()) == [(2, 1)]


def test_a_child_that_fails_is_the_end_of_its_own_line_alone() -> None:
    story = chain()
    story.ends((0, 0), "Failed")
    story.end((0, 1), (1, 1))
    story.ends((1, 0), "TriggerFailed", body=False)
    assert story.states()[:2] == ["Mapped", "Mapped"]
    assert story.children(1) == ["TriggerFailed", "Success"]


def test_who_is_only_behind_a_mapped_run_gets_one_state_for_all_by_value() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO})
    story.starts()
    story.wakes()
    story.ends((0, 0), "Failed")
    story.ends((0, 1), big=True)
    story.wakes()
    reader = story.last_sent(1)
    assert (reader.upstream_ids, reader.widths) == (((0, -1),), {})
    (header,) = reader.upstream
    assert header is story.record(0).header
    assert header.more["counts"] == {"Success": 1, "Failed": 1}


def test_each_child_may_be_passed_all_children_of_another() -> None:
    # 2 is mapped over 1 child by child, and each of its children is passed all of 0.
    story = Story(
        {0: (), 1: (), 2: (0, 1)}, maps={0: OVER_TWO, 1: OVER_TWO, 2: Over((1,))}, lists={2: (0,)}
    )
    story.starts()
    story.wakes()
    story.end((0, 0), (1, 0))
    assert sent(story.wakes()) == []
    story.ends((0, 1), big=True)
    assert sent(story.wakes()) == [((2, 0), 1), ((2, 1), 1)]
    child = story.last_sent((2, 1))
    assert (child.upstream_ids, child.widths) == (((0, 0), (0, 1), (1, 1)), {0: 2})


def test_one_mapped_run_may_be_mapped_over_and_passed_as_a_whole() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO, 1: BY_INDEX}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0))
    assert story.record((1, 0)).phase == "waiting"
    story.end((0, 1))
    story.wakes()
    child = story.last_sent((1, 1))
    assert (child.upstream_ids, child.widths) == (((0, 0), (0, 1), (0, 1)), {0: 2})


def test_what_is_also_passed_as_a_whole_is_waited_for_before_a_trigger_is_asked() -> None:
    story = Story(
        {0: (), 1: (), 2: (0, 1)},
        maps={0: OVER_TWO, 2: Over((0,), elements=(1,))},
        lists={2: (0,)},
    )
    story.starts()
    story.wakes()
    story.ends(1, length=2)
    assert story.record(2).phase == "waiting"
    story.end((0, 0), (0, 1))
    story.wakes()
    asked = story.last_sent(2)
    # All of 0 is asked about as one; what comes child by child is asked about by each.
    assert (asked.upstream_ids, asked.widths) == (((0, -1), (1, -1)), {1: 0})


# --- the order -----------------------------------------------------------------------------------


def test_chains_go_out_child_by_child() -> None:
    story = Story(
        {0: (), 1: (0,), 2: (1,), 3: ()},
        maps={0: OVER_TWO, 1: BY_INDEX, 2: Over((1,)), 3: OVER_TWO},
    )
    story.starts()
    assert [name for name, _ in sent(story.wakes())] == [
        *[(0, 0), (1, 0), (2, 0)],
        *[(0, 1), (1, 1), (2, 1)],
        *[(3, 0), (3, 1)],
    ]


def test_a_chain_goes_out_behind_what_its_second_stage_needs_besides() -> None:
    # A slice ends between any two of them: whatever stands behind another goes out behind it.
    story = Story(
        {0: (), 1: (), 2: (0, 1), 3: (2,)}, maps={0: OVER_TWO, 2: BY_INDEX, 3: Over((2,))}
    )
    story.starts()
    assert [name for name, _ in sent(story.wakes())] == [
        *[(0, 0), (0, 1)],
        *[(2, 0), (3, 0), (2, 1), (3, 1)],
    ]
    assert story.sent[0].id == (1, -1)


def test_chains_are_cut_into_slices_between_any_two_runs(monkeypatch) -> None:
    monkeypatch.setattr(board, "SLICE_RUNS", 3)
    story = Story(CHAIN, maps={0: Over(lengths=(4,)), 1: BY_INDEX}, lists={2: (1,)})
    story.starts()
    slices = []
    while story.machine.wake_at is not None:
        slices.append([name for name, _ in sent(story.wakes())])
    assert slices == [
        [(0, 0), (1, 0), (0, 1)],
        [(1, 1), (0, 2), (1, 2)],
        [(0, 3), (1, 3)],
    ]


# --- release -------------------------------------------------------------------------------------


def test_a_child_is_let_go_when_its_last_reader_of_the_same_index_has_finished() -> None:
    story = chain()
    assert released(story.end((0, 0))) == []
    assert released(story.end((1, 0))) == [(0, 0)]
    # Of the first stage nothing is held until the end.
    assert story.held() == {(0, 1), (1, 0), (1, 1)}


def test_a_child_is_held_until_all_have_read_the_list_that_it_is_in() -> None:
    story = Story({0: (), 1: (0,), 2: (0,)}, maps={0: OVER_TWO, 1: BY_INDEX}, lists={2: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (1, 0), (0, 1), (1, 1))
    story.wakes()
    assert story.held() == {(0, 0), (0, 1), 2}
    assert released(story.end(2)) == [(0, 0), (0, 1), 2]


def test_a_child_that_nobody_reads_is_let_go_at_once() -> None:
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO})
    story.starts()
    story.wakes()
    assert released(story.end((0, 0))) == [(0, 0)]


def test_a_child_is_held_as_long_as_it_is_not_known_who_will_read_it() -> None:
    # How long 1 is, and so how many children 2 has, is not known yet.
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: OVER_TWO, 2: Over((0,), elements=(1,))})
    story.starts()
    story.wakes()
    assert released(story.end((0, 0))) == []
    story.ends(1, length=2)
    story.wakes()
    story.may_expand(2)
    story.wakes()
    assert released(story.end((2, 0))) == [(0, 0), (2, 0)]


def test_the_list_is_held_until_the_last_child_has_taken_its_element() -> None:
    story = Story({0: (), 1: (0,)}, maps={1: Over(elements=(0,))})
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    story.may_expand(1)
    story.wakes()
    assert released(story.end((1, 1))) == [(1, 1)]
    assert released(story.end((1, 0))) == [0, (1, 0)]


def test_a_reader_that_failed_keeps_all_children_for_a_resume() -> None:
    story = reduced()
    story.end((0, 0), (0, 1))
    story.wakes()
    assert released(story.ends(1, "Failed")) == [1]
    assert story.held() == {(0, 0), (0, 1)}


def test_a_child_that_failed_keeps_what_it_has_read_for_a_resume() -> None:
    story = chain()
    story.end((0, 0), (0, 1), (1, 1))
    story.ends((1, 0), "Failed")
    assert {(0, 0), (1, 1)} <= story.held()
    assert (0, 1) not in story.held()


def test_a_mapped_run_whose_trigger_failed_keeps_what_it_was_to_be_mapped_over() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: OVER_TWO, 2: Over((0,), elements=(1,))})
    story.starts()
    story.wakes()
    story.end((0, 0))
    story.ends(1, "Failed")
    story.wakes()
    story.ends(2, "TriggerFailed", body=False)
    story.end((0, 1))
    assert story.held() == {(0, 0), (0, 1)}


def test_children_are_kept_where_the_mapped_run_is_kept() -> None:
    story = Story({0: ()}, maps={0: OVER_TWO}, kept={0})
    story.starts()
    story.wakes()
    assert released(story.end((0, 0), (0, 1))) == []
    assert story.final == ("Success", "reference tasks succeeded")
    assert story.held() == {(0, 0), (0, 1)}
    # Who kept them keeps them no more.
    assert released(story.drops(0)) == [(0, 0), (0, 1)]


def test_who_holds_a_mapped_run_holds_its_children() -> None:
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO})
    story.starts()
    story.wants(0)
    story.wakes()
    assert released(story.end((0, 0), (0, 1))) == []
    assert released(story.drops(0)) == [(0, 0), (0, 1)]


def test_a_child_may_be_held_by_itself() -> None:
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO})
    story.starts()
    story.wakes()
    story.wants((0, 1))
    story.end((0, 0), (0, 1))
    assert story.held() == {(0, 1), 1}
    assert released(story.drops((0, 1))) == [(0, 1)]


def test_a_run_without_elements_may_be_held_and_dropped() -> None:
    story = Story({0: (), 1: ()}, maps={0: Over(lengths=(0,))})
    story.starts()
    story.wants(0)
    assert story.drops(0) == []


# --- who is told of the end ----------------------------------------------------------------------


def test_the_end_of_each_child_is_told_and_the_mapped_runs_behind_the_last_one() -> None:
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO}, settles={0})
    story.starts()
    story.wakes()
    assert [list(c.ids) for c in story.end((0, 1)) if type(c).__name__ == "Settled"] == [[(0, 1)]]
    commands = story.end((0, 0))
    assert [list(c.ids) for c in commands if type(c).__name__ == "Settled"] == [[(0, 0), (0, -1)]]
