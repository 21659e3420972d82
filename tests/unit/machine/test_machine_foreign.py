"""Task runs that belong to another run: they hold this one open, and end there."""

from __future__ import annotations

from fakes.machine_story import Story, known, released, sent

PAIR = {0: (), 1: (0,)}


def with_foreign(upstream: dict[int, tuple[int, ...]], **options: object) -> Story:
    return Story(upstream, roles={0: "foreign"}, **options)


def test_a_foreign_run_is_not_sent_and_holds_the_run_open() -> None:
    story = with_foreign({0: (), 1: (0,), 2: ()}, reference={2})
    assert sent(story.starts()) == [(2, 1)]
    assert story.phases() == "Fws"
    story.ends(2)
    assert story.final is None
    assert story.machine.wake_at is None


def test_a_foreign_run_that_ended_with_a_small_result_goes_by_value() -> None:
    header = known(0)
    story = with_foreign(PAIR)
    story.starts()
    story.ends_elsewhere(0, header)
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream == (header,)
    story.ends(1)
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_foreign_run_that_ended_with_a_large_result_goes_by_its_future() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.ends_elsewhere(0, known(0, big=True))
    story.wakes()
    assert story.last_sent(1).upstream == (1,)
    assert released(story.ends(1)) == [0, 1]


def test_a_foreign_run_that_failed_is_told_of_by_value() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.ends_elsewhere(0, known(0, "Failed", has_exception=True))
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream[0].is_complete


def test_a_foreign_run_that_its_own_run_left_unfinished_has_failed_here() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.ends_elsewhere(0, None)
    header = story.record(0).header
    assert header is not None
    assert (header.state, header.message) == (
        "Failed",
        "t0 has no result: its own run ended, or let go of it, before",
    )
    assert sent(story.wakes()) == [(1, 1)]
    assert story.last_sent(1).upstream == (header,)


def test_a_foreign_run_that_is_cancelled_meanwhile_stays_so() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.cancels(0)
    assert story.states() == ["Cancelled", "Pending"]
    assert story.ends_elsewhere(0, known(0)) == []
    assert story.states() == ["Cancelled", "Pending"]
    assert sent(story.wakes()) == [(1, 1)]


def test_a_cancel_does_not_wait_for_a_foreign_run() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.is_cancelled()
    assert story.states() == ["Cancelled", "Cancelled"]
    assert story.final is not None


def test_of_a_foreign_run_nothing_is_known_when_the_cluster_is_lost() -> None:
    story = with_foreign(PAIR)
    story.starts()
    story.loses_cluster()
    assert story.phases() == "pp"
    assert story.ends_elsewhere(0, known(0)) == []
    assert story.states() == ["Pending", "Pending"]


def test_the_end_of_a_foreign_run_is_news_once() -> None:
    story = with_foreign(PAIR)
    story.starts()
    header = known(0)
    story.ends_elsewhere(0, header)
    assert story.ends_elsewhere(0, known(0, "Failed")) == []
    assert story.ends_elsewhere(0, None) == []
    assert story.record(0).header is header


def test_the_end_of_a_run_that_is_not_known_or_not_foreign_is_no_news() -> None:
    story = Story(PAIR)
    story.starts()
    assert story.ends_elsewhere(77, known(77)) == []
    assert story.ends_elsewhere(0, known(0)) == []
    assert story.phases() == "ss"


def test_a_result_from_another_run_that_is_lost_is_not_made_again() -> None:
    story = Story(PAIR, roles={0: "foreign"})
    story.starts()
    story.ends_elsewhere(0, known(0, big=True))
    story.wakes()
    story.loses_value(0)
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream[0].state == "Crashed"
