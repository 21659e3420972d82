"""Mapped runs of which some children have ended in an earlier run, and the others are run here."""

from __future__ import annotations

from fakes.machine_story import Story, hooks, known, released, sent
from fakes.mapped_plans import Over
from fakes.random_flows import make_plan

from dask_taskrunner.machine.plans import Plan, plan_children

OVER_TWO = Over(lengths=(2,))


def knowing(plan: Plan, n: int, *given: int, length: int = 2, gone: tuple[int, ...] = ()) -> Plan:
    """Return a plan in which some children of a mapped run are given."""
    runs = list(plan.runs)
    children = tuple(
        child._replace(
            role="given", upstream=(), has_no_result=child.id[1] in gone,
            given=known(n, big=True)._replace(map_index=child.id[1]),
        )
        if child.id[1] in given else None
        for child in plan_children(runs[n], length)
    )  # fmt: skip
    runs[n] = runs[n]._replace(children=children)
    return plan._replace(runs=tuple(runs))


def test_the_children_that_are_not_given_are_sent_at_once() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story = Story(knowing(plan, 0, 1))
    assert sent(story.starts()) == [((0, 0), 1)]
    assert story.states() == ["Running", "Pending", "Pending", "Success"]
    story.ends((0, 0), big=True)
    assert sent(story.wakes()) == [(1, 1)]
    reader = story.last_sent(1)
    assert (reader.upstream_ids, reader.upstream) == (((0, 0), (0, 1)), (1, 1))
    assert story.record(0).header.more["counts"] == {"Success": 2}
    assert +story.machine.counts["task0"] == {"Success": 2}
    assert released(story.end(1)) == [(0, 0), (0, 1), 1]


def test_where_all_are_given_the_run_ends_by_itself() -> None:
    story = Story(knowing(make_plan({0: ()}, maps={0: OVER_TWO}), 0, 0, 1))
    story.starts()
    assert story.record(0).header.message == "2 Success"
    assert story.final == ("Success", "reference tasks succeeded")
    story = Story(knowing(make_plan({0: ()}, maps={0: Over(lengths=(0,))}), 0, length=0))
    story.starts()
    assert story.record(0).header.message == "no elements"


def test_one_that_is_mapped_over_it_child_by_child_may_know_others() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={0: OVER_TWO, 1: Over(by_index=(0,))})
    story = Story(knowing(knowing(plan, 0, 0, 1), 1, 1))
    assert sent(story.starts()) == [((1, 0), 1)]
    assert story.last_sent((1, 0)).upstream == (1,)
    # The other one's result has no reader.
    assert story.held() == {(0, 0), (1, 0)}
    story.ends((1, 0))
    assert story.final == ("Success", "reference tasks succeeded")
    assert story.held() == set()


def test_a_child_stands_behind_what_runs_again_and_knows_how_long_it_was() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={1: Over(elements=(0,))})
    first, mapped = plan.runs
    maps = mapped.maps._replace(promised={0: 2})
    plan = plan._replace(runs=(first, mapped._replace(maps=maps)))
    story = Story(knowing(plan, 1, 0))
    assert sent(story.starts()) == [(0, 1), ((1, 1), 1)]
    child = story.last_sent((1, 1))
    assert (child.upstream, child.promised, child.sizes) == ((1,), {0: 2}, {0: 0})
    # Whatever it comes to, the promise stays.
    story.ends(0, "Retrying")
    story.now += 10
    assert sent(story.wakes()) == [(0, 2), ((1, 1), 2)]
    assert story.last_sent((1, 1)).promised == {0: 2}


def test_a_result_that_cannot_be_had_is_told_by_value() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story = Story(knowing(plan, 0, 0, 1, gone=(1,)))
    story.starts()
    assert sent(story.wakes()) == [(1, 1)]
    here, told = story.last_sent(1).upstream
    assert here == 1
    assert (told.state, told.kind, told.small) == ("Success", "DataFrame", None)
    assert story.held() == {(0, 0), 1}
    # There is nothing that could be lost.
    assert sent(story.loses_value((0, 1))) == []


def test_a_given_child_that_is_lost_while_the_others_run_is_told_to_who_reads_it() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story = Story(knowing(plan, 0, 1))
    story.starts()
    story.loses_value((0, 1))
    story.ends((0, 0), big=True)
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream[1].state == "Crashed"
    assert story.record((0, 1)).header.state == "Success"


def test_the_tasks_handlers_hear_of_its_beginning_and_its_end() -> None:
    story = Story(knowing(make_plan({0: ()}, maps={0: OVER_TWO}, handlers=True), 0, 1))
    begin = hooks(story.starts())
    assert (0, "Pending", "Running") in begin
    assert (0, "Running", "Mapped") in hooks(story.ends((0, 0)))


def test_a_cancel_leaves_what_was_given() -> None:
    plan = make_plan({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story = Story(knowing(plan, 0, 1))
    story.starts()
    story.is_cancelled()
    assert story.states() == ["Mapped", "Cancelled", "Cancelled", "Success"]
    assert story.record(0).header.more["counts"] == {"Success": 1, "Cancelled": 1}


def test_what_is_given_and_may_be_run_here_is_made_again_where_it_is_lost() -> None:
    """And so is what that is made from, of which nothing was there from the beginning."""
    plan = make_plan({0: (), 1: (0,), 2: (1,)})
    first, second, third = plan.runs
    first = first._replace(
        role="given", given=known(0, big=True), has_no_result=True, can_be_run=True
    )
    second = second._replace(role="given", given=known(1, big=True), can_be_run=True)
    story = Story(plan._replace(runs=(first, second, third)))
    assert sent(story.starts()) == [(2, 1)]
    story.loses_value(1)
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert story.last_sent(1).upstream == (2,)
    story.ends(0, big=True)
    story.ends(1, big=True)
    story.ends(2)
    assert story.final == ("Success", "reference tasks succeeded")
    # They keep the states that they were given.
    assert [story.record(n).header.submission for n in (0, 1)] == [1, 1]


def test_a_given_child_is_made_again_from_what_it_was_made_from() -> None:
    plan = make_plan({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,))}, lists={2: (1,)})
    first, mapped, last = plan.runs
    first = first._replace(role="given", given=known(0, big=True, length=2), can_be_run=True)
    children = tuple(
        child._replace(
            role="given", given=known(1, big=True)._replace(map_index=child.id[1]),
            can_be_run=True,
        )
        for child in plan_children(mapped, 2)
    )  # fmt: skip
    story = Story(plan._replace(runs=(first, mapped._replace(children=children), last)))
    story.starts()
    story.wakes()
    story.loses_value((1, 0))
    # The list was let go: nobody read it.
    assert sent(story.wakes()) == [(0, 2), ((1, 0), 2)]
    assert story.last_sent((1, 0)).promised == {0: 2}
    story.ends(0, big=True, length=2)
    story.ends((1, 0), big=True)
    assert sent(story.wakes()) == [(2, 2)]
    story.ends(2)
    assert story.final == ("Success", "reference tasks succeeded")
