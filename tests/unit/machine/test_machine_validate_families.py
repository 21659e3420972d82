"""`validate` finds damage to mapped runs and their children: each kind of it, done on purpose."""

from __future__ import annotations

import pytest
from fakes.machine_story import Name, Story, known
from fakes.mapped_plans import Over


def with_families() -> Story:
    """Return a story with mapped runs in every phase.

    0 has three children, of which one has finished, one is submitted and one paused; 1 is mapped
    over them. 2 and its two children have finished, and 3, which is passed their results, is
    submitted. 4 is submitted, and 5 waits to be mapped over it. 6 has finished, and 7 is submitted
    to be mapped over it.
    """
    story = Story(
        {0: (), 1: (0,), 2: (), 3: (2,), 4: (), 5: (4,), 6: (), 7: (6,)},
        maps={
            0: Over(lengths=(3,)),
            1: Over(by_index=(0,)),
            2: Over(lengths=(2,)),
            5: Over(elements=(4,)),
            7: Over(elements=(6,)),
        },
        lists={3: (2,)},
    )
    story.starts()
    story.wakes()
    story.end((0, 0), (2, 0), (2, 1))
    story.ends((0, 2), "Paused")
    story.ends(6, big=True, length=2)
    story.wakes()
    return story


PAUSED = "t0 is paused, and does not show it, or the other way round"
DAMAGES: list[tuple[Name, dict[str, object], str]] = [
    (0, {"length": None}, "t0 is expanded, and nobody knows to how many children"),
    (0, {"unfinished_children": 0}, "t0 has no unfinished children, and is not finished"),
    (2, {"phase": "expanded"}, "t2 has no unfinished children, and is not finished"),
    ((2, 0), {"header": None}, "t2 has finished, and not all its children have"),
    (2, {"unfinished_children": 1}, "t2: its counts of children disagree with these"),
    (0, {"unfinished_children": 3}, "t0: its counts of children disagree with these"),
    (0, {"paused_children": 0}, "t0: its counts of children disagree with these"),
    (0, {"paused_children": 2}, PAUSED),
    (0, {"retry_header": known(0, "Paused")}, PAUSED),
    ((0, 1), {"family": None}, "t0 has a child that does not know whose it is"),
    ((2, 0), {"phase": "waiting"}, "t3 stands behind t2[0], which is not there"),
    ((2, 1), {"future": False}, "t3 stands behind t2[1], which is not there"),
    (5, {"phase": "submitted"}, "t5 stands behind t4, which is not there"),
    (5, {"phase": "expanded"}, "t5 is expanded, and nobody knows to how many children"),
    (7, {"phase": "waiting"}, "t7 waits, and nothing will wake it"),
    (1, {"phase": "waiting"}, "t1 waits, and nothing will wake it"),
    (2, {"unfinished_readers": 0}, "t2: its counters disagree with the runs around it"),
    ((0, 0), {"unfinished_readers": 3}, "t0[0]: its counters disagree with the runs around it"),
    ((1, 2), {"unopened_upstream": 0}, "t1[2]: its counters disagree with the runs around it"),
]


@pytest.mark.parametrize(("name", "values", "found"), DAMAGES)
def test_each_damage_is_found(name: Name, values: dict[str, object], found: str) -> None:
    story = with_families()
    for attribute, value in values.items():
        setattr(story.record(name), attribute, value)
    assert found in story.machine.validate()


def test_nothing_is_found_where_all_is_well() -> None:
    story = with_families()
    assert story.phases()[:8] == "eefsswfs"
    assert story.machine.validate() == []
