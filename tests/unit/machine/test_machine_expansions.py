"""What a mapped run is sent for, once: to have its trigger asked. It may be lost like anything."""

from __future__ import annotations

from fakes.machine_story import WALL, Story, known, notes, released, sent
from fakes.mapped_plans import Over
from fakes.random_flows import make_plan

PAIR = {0: (), 1: (0,)}
OVER_TWO = Over(lengths=(2,))


def over_list(**options: object) -> Story:
    """Return a story in which 1 is mapped over the result of 0, and 2 is passed all of 1's."""
    return Story(
        {0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,))}, lists={2: (1,)}, **options
    )


# --- the expansion itself ------------------------------------------------------------------------


def test_an_expansion_whose_worker_died_is_an_innocents_and_no_attempt() -> None:
    story = over_list(max_crash_retries=0)
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    for submission in (2, 3):
        assert released(story.loses(1)) == [1]
        assert sent(story.wakes()) == [(1, submission)]
    assert (story.record(1).crashes, story.record(1).innocent) == (0, 2)
    story.may_expand(1)
    assert story.children(1) == ["Pending", "Pending"]
    assert story.outcomes(1) == []


def test_an_expansion_that_always_takes_its_worker_along_ends_on_the_crash_budget() -> None:
    story = over_list(max_crash_retries=0)
    story.starts()
    story.ends(0, big=True, length=2)
    for _ in range(3):
        story.wakes()
        story.loses(1)
    assert story.record(1).header.state == "Crashed"
    # A mapped run has no body, and so no attempts.
    assert story.outcomes(1) == []


def test_an_expansion_that_is_lost_is_sent_again_while_the_children_by_index_go_on() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: OVER_TWO, 2: Over((0,), elements=(1,))})
    story.starts()
    story.ends(1, length=2)
    story.wakes()
    story.loses(2)
    assert story.record(0).phase == "expanded"
    assert sent(story.wakes()) == [(2, 2)]


def test_an_expansion_goes_on_while_a_child_by_index_is_made_again() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)}, maps={0: OVER_TWO, 2: Over((0,), elements=(1,))})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.ends(1, length=2)
    story.wakes()
    assert released(story.loses_value((0, 0))) == [(0, 0)]
    story.may_expand(2)
    assert sent(story.wakes()) == [((0, 0), 2), ((2, 0), 1), ((2, 1), 1)]


def test_nothing_is_sent_behind_an_expansion() -> None:
    story = Story(
        {0: (), 1: (0,), 2: (), 3: (1, 2)}, maps={1: Over(elements=(0,))}, lists={3: (1,)}
    )
    story.starts()
    story.ends(0, length=1)
    story.wakes()
    story.ends(2, big=True)
    assert story.phases() == "fsfw"
    story.may_expand(1)
    story.wakes()
    story.end((1, 0))
    assert sent(story.wakes()) == [(3, 1)]


def test_an_error_of_the_expansion_is_the_mapped_runs() -> None:
    story = over_list()
    story.starts()
    story.ends(0, length=2)
    story.wakes()
    story.loses(1, "error", text="MemoryError: too much")
    assert (story.record(1).header.state, story.record(1).length) == ("Crashed", None)
    assert sent(story.wakes()) == [(2, 1)]


def test_a_second_answer_to_the_same_question_is_nothing() -> None:
    story = over_list()
    story.starts()
    story.ends(0, length=2)
    story.wakes()
    other = story.header(1, "Running", body=False, expands=True)
    story.may_expand(1)
    assert story.hears(other) == []
    assert story.outcomes(1) == []


def test_the_list_is_lost_while_its_length_is_asked_about_and_is_made_again_first() -> None:
    story = over_list()
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    late = story.header(1, "Running", body=False, expands=True)
    assert notes(story.loses_value(0)) == ["the result of t0 was lost: lost dependencies"]
    story.hears(late)
    assert story.phases() == "qww"
    story.wakes()
    story.ends(0, big=True, length=2)
    assert sent(story.wakes()) == [(1, 2)]


def test_an_expansion_is_asked_again_where_it_found_something_unfinished() -> None:
    story = over_list()
    story.starts()
    story.ends(0, length=2)
    story.wakes()
    story.finds_unfinished(1, 0)
    assert sent(story.wakes()) == [(0, 2)]
    story.ends(0, length=2)
    assert sent(story.wakes()) == [(1, 2)]


# --- from a given state --------------------------------------------------------------------------


def test_a_mapped_run_that_is_given_a_time_is_expanded_when_that_has_come() -> None:
    due = WALL + 10
    story = Story(
        PAIR,
        maps={0: OVER_TWO},
        lists={1: (0,)},
        given={0: known(0, "Retrying", scheduled_time=due, last_run_number=1)},
    )
    story.starts()
    assert story.phases() == "dw"
    assert story.states() == ["Retrying", "Pending"]
    story.wakes(10.0)
    entries = [(e.old, e.new) for e in story.machine.history if e.task_run == (0, -1)]
    assert entries == [("Pending", "Retrying"), ("Retrying", "Pending"), ("Pending", "Running")]
    story.wakes()
    assert story.children(0) == ["Pending", "Pending"]
    assert story.last_sent((0, 1)).run_number == 2


def test_a_list_that_is_given_is_mapped_over() -> None:
    story = Story(
        PAIR,
        maps={1: Over(elements=(0,))},
        roles={0: "given"},
        given={0: known(0, big=True, length=2)},
    )
    story.starts()
    assert sent(story.wakes()) == [(1, 1)]
    story.may_expand(1)
    story.wakes()
    assert story.last_sent((1, 1)).upstream == (1,)


def with_given_children(upstream: dict[int, tuple[int, ...]], **options: object) -> Story:
    """Return a story in which 0 has ended in an earlier run, and its two children with it."""
    plan = make_plan(upstream, maps={0: OVER_TWO} | options.pop("maps", {}), **options)
    first, *others = plan.runs
    children = tuple(
        first._replace(
            id=(0, child), slug=f"t0[{child}]", maps=None, role="given",
            given=known(0, big=True)._replace(map_index=child),
        )
        for child in range(2)
    )  # fmt: skip
    mapped = known(0, "Mapped", counts={"Success": 2})
    first = first._replace(role="given", given=mapped, children=children)
    return Story(plan._replace(runs=(first, *others)))


def test_a_mapped_run_that_is_given_brings_its_children_for_who_is_passed_their_results() -> None:
    story = with_given_children(PAIR, lists={1: (0,)})
    assert sent(story.starts()) == [(1, 1)]
    reader = story.last_sent(1)
    assert (reader.upstream_ids, reader.upstream) == (((0, 0), (0, 1)), (1, 1))
    assert story.states() == ["Mapped", "Pending", "Success", "Success"]
    assert +story.machine.counts["task0"] == {"Success": 2}
    assert released(story.end(1)) == [(0, 0), (0, 1), 1]


def test_a_mapped_run_that_is_given_is_mapped_over_child_by_child() -> None:
    story = with_given_children(PAIR, maps={1: Over(by_index=(0,))})
    story.starts()
    assert sent(story.wakes()) == [((1, 0), 1), ((1, 1), 1)]
    assert released(story.end((1, 1))) == [(0, 1), (1, 1)]


def test_who_only_comes_after_a_mapped_run_that_is_given_needs_none_of_its_children() -> None:
    story = with_given_children(PAIR)
    assert released(story.starts()) == [(0, 0), (0, 1)]
    assert story.last_sent(1).upstream == (story.record(0).header,)


def test_a_given_child_that_is_lost_is_not_made_again_and_its_reader_is_told() -> None:
    story = with_given_children(PAIR, lists={1: (0,)})
    story.starts()
    story.loses_value((0, 1))
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream[1].state == "Crashed"
