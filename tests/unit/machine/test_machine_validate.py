"""`validate` finds what contradicts the rules: each kind of damage, done on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.machine_story import Story


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
    (on_board("_timers", []), "t2 is delayed, and nothing will wake it"),
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


def test_nothing_is_found_where_all_is_well() -> None:
    assert at_work().machine.validate() == []
    assert Story({0: (), 1: (0,)}).machine.validate() == []
