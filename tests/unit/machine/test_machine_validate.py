"""`validate` finds what contradicts the rules: each kind of damage, done on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.machine_story import Story, known

from dask_taskrunner.machine.timers import Timers


def at_work() -> Story:
    """Return a story in which 0 has finished, 1 is submitted, 2 delayed, and 3 behind both."""
    story = Story({0: (), 1: (0,), 2: (0,), 3: (1, 2)})
    story.starts()
    story.ends(0, big=True)
    story.ends(2, "Retrying")
    return story


def set_on(n: int, **values: object) -> Callable[[Story], None]:
    def damage(story: Story) -> None:
        for name, value in values.items():
            setattr(story.record(n), name, value)

    return damage


def on_board(name: str, value: object) -> Callable[[Story], None]:
    return lambda story: setattr(story.machine._board, name, value)


DAMAGES: list[tuple[Callable[[Story], None], str]] = [
    (on_board("active", 7), "the count of active runs disagrees with the records"),
    (on_board("counts", {}), "the counts by state disagree with the records"),
    (on_board("timers", Timers()), "t2 is delayed, and nothing will wake it"),
    (set_on(3, unopened_upstream=5), "t3: its counters disagree with the runs around it"),
    (set_on(3, unfinished_upstream=5), "t3: its counters disagree with the runs around it"),
    (set_on(0, unfinished_readers=0), "t0: its counters disagree with the runs around it"),
    (set_on(0, failed_readers=1), "t0: its counters disagree with the runs around it"),
    (set_on(0, header=None), "t0 is finished without a state"),
    (set_on(2, future=True), "t2 is delayed, and its future is held"),
    (set_on(1, future=False), "t1 is submitted, and its future was released"),
    (set_on(0, future=False), "t1 stands behind t0, which is not there"),
    (set_on(1, phase="queued"), "t1 is queued, and nothing will wake it"),
    (set_on(1, phase="waiting"), "t1 waits, and nothing will wake it"),
]


@pytest.mark.parametrize(("damage", "found"), DAMAGES, ids=[text for _, text in DAMAGES])
def test_each_damage_is_found(damage: Callable[[Story], None], found: str) -> None:
    story = at_work()
    damage(story)
    assert found in story.machine.validate()


def test_a_loop_without_what_it_has_so_far_is_found() -> None:
    story = at_work()
    story.ends(1, "Looped", loop_count=1)
    assert story.machine.validate() == []
    set_on(1, future=False)(story)
    assert "t1 is to go on with a result that was released" in story.machine.validate()


def test_nothing_is_found_where_all_is_well() -> None:
    assert at_work().machine.validate() == []
    assert Story({0: (), 1: (0,)}).machine.validate() == []


# --- a plan that grows ---------------------------------------------------------------------------


def grown() -> Story:
    """Return a story of an open plan with every role, and a run whose upstream is forgotten.

    0 is foreign, 1 outside, 2 given, 3 has read 4 (forgotten) and is read by 5, which is submitted,
    6 has finished large and read 3.
    """
    story = Story(
        {0: (), 1: (), 2: (), 4: ()},
        roles={0: "foreign", 1: "outside", 2: "given"},
        given={2: known(2, big=True)},
        kept=None,
        is_open=True,
    )
    story.starts()
    story.drops(4)
    story.adds({3: (4,)})
    story.wakes()
    story.ends(4)
    story.ends(3)
    story.adds({5: (3,), 6: (3,)})
    story.wakes()
    story.ends(6, big=True)
    return story


def forget(n: int) -> Callable[[Story], None]:
    return lambda story: story.machine._board.records.pop((n, -1))


GROWN: list[tuple[Callable[[Story], None], str]] = [
    (set_on(2, holders=-1), "the result of t2 was dropped more often than it was held"),
    (set_on(2, holders=0), "t2 has finished, nobody asks for it, and it was not forgotten"),
    (forget(5), "t3 has a reader that was forgotten"),
    (forget(3), "t5 may be sent again, and what is upstream of it does not know it"),
    (forget(3), "t6 may be sent again, and what is upstream of it does not know it"),
    (
        set_on(6, future=False, by_value=known(6)),
        "t6 reads nothing any more, and still holds what is upstream of it",
    ),
    (set_on(5, phase="foreign"), "t5 is foreign, and it is this run's own or has ended"),
    (set_on(0, header=known(0)), "t0 is foreign, and it is this run's own or has ended"),
    (set_on(0, phase="waiting"), "t0 is waiting, and it is not run here"),
    (set_on(0, phase="submitted"), "t0 is submitted, and it is not run here"),
    (set_on(2, phase="queued"), "t2 is queued, and it is not run here"),
    (set_on(1, phase="delayed"), "t1 is delayed, and it is not run here"),
    (set_on(1, phase="finished"), "t1 is not part of this run, and it was touched"),
    (set_on(1, header=known(1)), "t1 is not part of this run, and it was touched"),
    (set_on(2, header=None), "t2 was given a state, and has none"),
]


@pytest.mark.parametrize(("damage", "found"), GROWN)
def test_each_damage_to_a_plan_that_grows_is_found(
    damage: Callable[[Story], None], found: str
) -> None:
    story = grown()
    damage(story)
    assert found in story.machine.validate()


def test_nothing_is_found_where_all_that_grew_is_well() -> None:
    story = grown()
    assert story.left() == [0, 1, 2, 3, 5, 6]
    assert story.machine.validate() == []


def test_of_a_plan_that_has_not_begun_nothing_is_asked() -> None:
    plan = Story({0: (), 1: (0,)}, roles={0: "given", 1: "outside"}, given={0: known(0)})
    assert plan.machine.validate() == []
