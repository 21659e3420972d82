"""Task runs that ask to run again with what they have so far, each time behind the time before."""

from __future__ import annotations

from fakes.machine_story import Story, notes, released, sent, settled
from fakes.mapped_plans import Over

CHAIN = {0: (), 1: (0,), 2: (1,)}


def looped(**options: object) -> Story:
    """Return a story in which 1, which has read 0, asks to go on for the first time."""
    story = Story(CHAIN, **options)
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Looped", loop_count=1)
    return story


def iteration(story: Story, n: int = 1) -> tuple[int, int, int]:
    """Return the submission behind which a run was sent last, which time it is, and its number."""
    run = story.last_sent(n)
    return run.loop_from, run.loop_count, run.run_number


def test_a_run_goes_on_behind_what_it_has_so_far_and_what_is_behind_it_waits_for_the_end() -> None:
    story = Story(CHAIN)
    story.starts()
    story.ends(0, big=True)
    # Its own future is not let go: the next time begins with what is there.
    assert released(story.ends(1, "Looped", loop_count=1)) == [2]
    assert story.states() == ["Success", "Looped", "Pending"]
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    assert iteration(story) == (1, 2, 1)
    assert iteration(story, 2) == (0, 1, 1)
    story.ends(1, "Looped", loop_count=2)
    story.wakes()
    assert iteration(story) == (2, 3, 1)
    story.end(1, 2)
    assert story.outcomes(1) == ["looped", "looped", "success"]
    assert story.final == ("Success", "reference tasks succeeded")


def test_how_often_it_has_gone_round_is_counted_where_nobody_says() -> None:
    story = looped()
    story.wakes()
    story.ends(1, "Looped")
    story.wakes()
    assert iteration(story) == (2, 3, 1)


def test_a_retry_repeats_its_own_time_and_the_next_one_has_all_its_retries() -> None:
    story = looped()
    story.wakes()
    assert released(story.ends(1, "Retrying")) == [1, 2]
    assert story.states()[1] == "Retrying"
    story.wakes(10.0)
    assert iteration(story) == (1, 2, 2)
    story.ends(1, "Looped", loop_count=2)
    story.wakes()
    assert iteration(story) == (3, 3, 1)


def test_the_end_of_a_loop_is_told_for_what_it_began_with_can_go() -> None:
    story = looped()
    story.wakes()
    assert settled(story.ends(1, big=True)) == [1]


def test_the_history_has_each_time() -> None:
    story = looped()
    story.wakes()
    story.ends(1, big=True, execution=story.begins(1))
    entries = [(e.old, e.new) for e in story.machine.history if e.task_run == (1, -1)]
    assert entries == [("Pending", "Looped"), ("Looped", "Running"), ("Running", "Success")]


def test_a_worker_that_dies_under_a_time_costs_that_time_alone() -> None:
    story = looped()
    story.wakes()
    story.begins(1, "w9")
    story.loses(1, worker="w9")
    story.wakes()
    assert iteration(story) == (1, 2, 1)


def test_where_the_time_before_was_lost_the_run_begins_at_its_beginning() -> None:
    story = looped()
    story.wakes()
    story.loses(1, "lost")
    assert sent(story.wakes()) == [(1, 3), (2, 3)]
    assert iteration(story) == (0, 1, 1)


def test_where_the_time_before_is_lost_for_good_the_run_has_crashed() -> None:
    story = looped(max_crash_retries=0)
    story.wakes()
    story.loses(1, "lost")
    assert story.states()[1] == "Crashed"


def test_a_loop_whose_result_is_lost_begins_at_its_beginning() -> None:
    # What it began with the last time was let go when it ended, and so was what it had read.
    story = looped(max_crash_retries=1)
    story.wakes()
    story.ends(1, big=True)
    assert notes(story.loses_value(1)) == ["the result of t1 was lost: lost dependencies"]
    assert sent(story.wakes()) == [(0, 2), (1, 3), (2, 3)]
    assert iteration(story) == (0, 1, 1)
    # It goes round again, and keeps the state that it had.
    header, history = story.record(1).header, len(story.machine.history)
    story.ends(0, big=True)
    story.ends(1, "Looped", loop_count=1)
    assert sent(story.wakes()) == [(1, 4), (2, 4)]
    assert iteration(story) == (3, 2, 1)
    assert settled(story.ends(1, big=True)) == [1]
    assert story.record(1).header is header
    assert len(story.machine.history) == history


def test_what_a_loop_reads_is_lost_before_the_next_time_and_what_it_has_is_kept() -> None:
    story = looped()
    assert story.record(1).phase == "queued"
    assert released(story.loses_value(0)) == [0]
    assert story.record(1).future
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert iteration(story) == (1, 2, 1)


def test_what_a_loop_reads_is_lost_in_its_second_time_and_that_is_repeated() -> None:
    story = looped()
    story.wakes()
    assert released(story.loses_value(0)) == [0, 1, 2]
    assert sent(story.wakes()) == [(0, 2), (1, 3), (2, 3)]
    assert iteration(story) == (1, 2, 1)


def test_a_cancel_lets_go_of_what_a_loop_has_so_far() -> None:
    story = looped()
    assert released(story.is_cancelled()) == [1]
    assert story.states() == ["Success", "Cancelled", "Cancelled"]


def test_a_loop_that_fails_ends_as_any_run() -> None:
    story = looped()
    story.wakes()
    story.ends(1, "Failed")
    assert story.states()[1] == "Failed"
    assert story.outcomes(1) == ["looped", "failed"]


def test_children_loop_each_by_itself() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: Over(lengths=(2,))}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.ends((0, 0), "Looped", loop_count=1)
    assert story.children(0) == ["Looped", "Pending"]
    assert sent(story.wakes()) == [((0, 0), 2)]
    assert story.last_sent((0, 0)).loop_from == 1
    story.end((0, 0), (0, 1))
    assert sent(story.wakes()) == [(1, 1)]
