"""What goes out together, and in which order; and that a large flow starts with little work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.machine_story import Story, sent
from fakes.random_flows import make_plan

from dask_taskrunner.machine import board
from dask_taskrunner.machine.board import Board
from dask_taskrunner.machine.plans import Plan


def with_bytes(plan: Plan, nbytes: int) -> Plan:
    return plan._replace(runs=tuple(run._replace(nbytes=nbytes) for run in plan.runs))


def slices(story: Story) -> list[int]:
    """Return the sizes of all slices of a flow run's start."""
    sizes = [len(sent(story.starts()))]
    while story.machine.wake_at is not None:
        assert story.machine.wake_at == float("-inf")
        sizes.append(len(sent(story.wakes())))
    return sizes


def test_a_slice_has_at_most_500_runs() -> None:
    assert slices(Story(dict.fromkeys(range(1201), ()))) == [500, 500, 201]


def test_a_slice_has_at_most_a_megabyte() -> None:
    plan = with_bytes(make_plan(dict.fromkeys(range(10), ())), 300_000)
    assert slices(Story(plan)) == [3, 3, 3, 1]


def test_a_run_larger_than_a_slice_goes_alone() -> None:
    plan = with_bytes(make_plan(dict.fromkeys(range(3), ())), 2_000_000)
    assert slices(Story(plan)) == [1, 1, 1]


def test_slices_are_in_topological_order() -> None:
    story = Story({n: (n - 1,) if n else () for n in range(1100)})
    story.machine.validate = list  # type: ignore[method-assign]  # counted by other tests
    slices(story)
    assert [run.id[0] for run in story.sent] == list(range(1100))


def test_a_run_goes_out_only_when_all_its_upstream_runs_have() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)})
    story.starts()
    story.ends(0, "Retrying", delay=5.0)
    story.ends(1, "Retrying", delay=9.0)
    assert sent(story.wakes(5.0)) == [(0, 2)]
    assert sent(story.wakes(9.0)) == [(1, 2), (2, 2)]


def test_what_was_taken_back_before_it_was_sent_is_not_sent() -> None:
    story = Story(dict.fromkeys(range(500), ()) | {500: (0,), 501: ()})
    story.starts()
    story.ends(0, "Retrying")
    # 500 was in the outbox; it comes again with the retry.
    assert sent(story.wakes()) == [(501, 1)]
    assert story.record(500).phase == "waiting"
    assert sent(story.wakes(10.0)) == [(0, 2), (500, 1)]


def test_what_was_taken_back_and_queued_again_is_sent_once() -> None:
    story = Story(dict.fromkeys(range(500), ()) | {500: (0,)})
    story.starts()
    story.ends(0, "Retrying", delay=0.0)
    assert sent(story.wakes()) == [(0, 2), (500, 1)]
    assert story.machine.wake_at is None or sent(story.wakes()) == []


def test_each_submission_names_its_upstream_in_the_plans_order() -> None:
    story = Story({0: (), 1: (), 2: (0, 1)})
    story.starts()
    submission = story.last_sent(2)
    assert submission.upstream_ids == ((0, -1), (1, -1))
    assert submission.upstream == (1, 1)


# --- work, counted -------------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the runs that are moved, or looked at for whether they can be sent."""
    counter = [0]

    def counting(name: str) -> None:
        original = getattr(Board, name)

        def method(self: Board, *args: object) -> object:
            counter[0] += 1
            return original(self, *args)

        monkeypatch.setattr(Board, name, method)

    counting("move")
    counting("is_ready")
    return counter


MANY = 10_000


def unwatched(upstream: dict[int, tuple[int, ...]]) -> Story:
    story = Story(upstream)
    story.machine.validate = list  # type: ignore[method-assign]  # it looks at everything
    return story


def test_the_first_slice_of_10000_runs_goes_out_after_little_work(looks: list[int]) -> None:
    story = unwatched(dict.fromkeys(range(MANY), ()))
    assert len(sent(story.starts())) == board.SLICE_RUNS
    # One look and one move for each, and another move for those of the slice.
    assert looks[0] <= 2 * MANY + 2 * board.SLICE_RUNS


def test_10000_runs_and_their_reduce_take_work_in_proportion(looks: list[int]) -> None:
    story = unwatched(dict.fromkeys(range(MANY), ()) | {MANY: tuple(range(MANY))})
    slices(story)
    for n in range(MANY):
        story.ends(n)
    story.ends(MANY)
    assert story.final is not None
    assert looks[0] <= 6 * MANY


def test_a_root_that_retries_costs_its_cone_once(looks: list[int]) -> None:
    story = unwatched({0: ()} | dict.fromkeys(range(1, MANY), (0,)))
    slices(story)
    looks[0] = 0
    story.ends(0, "Retrying", delay=0.0)
    while story.machine.wake_at is not None:
        story.wakes()
    assert len(story.sent) == 2 * MANY
    assert looks[0] <= 6 * MANY


def test_many_retries_below_a_reduce_send_it_twice_in_all() -> None:
    width = 1000
    story = unwatched(dict.fromkeys(range(width), ()) | {width: tuple(range(width))})
    slices(story)
    for n in range(width):
        story.ends(n, "Retrying", delay=float(n % 7))
    for at in range(7):
        story.wakes(float(at))
    for n in range(width):
        story.ends(n)
    story.wakes()
    assert [run.submission for run in story.sent if run.id[0] == width] == [1, 2]
