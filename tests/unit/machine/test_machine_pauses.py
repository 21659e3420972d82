"""Paused task runs that go on, approved or rejected, and the flow run with them."""

from __future__ import annotations

from fakes.machine_story import Story, hooks, sent

CHAIN = {0: (), 1: (0,)}


def paused(**options: object) -> Story:
    """Return a story whose flow run has paused, for 0 has."""
    story = Story(CHAIN, **options)
    story.starts()
    story.ends(0, "Paused", body=False)
    assert story.final == ("Paused", "t0 waits for run.approve('t0')")
    return story


def test_what_is_approved_is_run_whatever_its_trigger_says_and_the_flow_run_goes_on() -> None:
    story = paused(handlers=True)
    assert hooks(story.approves(0)) == [(None, "Paused", "Running"), (0, "Paused", "Pending")]
    assert story.final is None
    assert sent(story.wakes()) == [(0, 2), (1, 2)]
    assert story.last_sent(0).ignores_trigger
    assert not story.last_sent(1).ignores_trigger
    story.end(0, 1)
    assert story.final == ("Success", "reference tasks succeeded")


def test_what_is_approved_keeps_its_run_number() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying")
    story.wakes(10.0)
    story.ends(0, "Paused")
    story.approves(0)
    story.wakes()
    assert story.last_sent(0).run_number == 2


def test_what_is_rejected_is_skipped_and_what_is_behind_it_is_asked() -> None:
    story = paused(handlers=True)
    assert hooks(story.rejects(0)) == [(None, "Paused", "Running"), (0, "Paused", "Skipped")]
    assert story.record(0).header.message == "rejected by the user"
    assert sent(story.wakes()) == [(1, 2)]
    assert story.last_sent(1).upstream == (story.record(0).header,)


def test_one_that_paused_may_go_on_while_others_run() -> None:
    story = Story({0: (), 1: ()}, handlers=True)
    story.starts()
    story.ends(0, "Paused")
    assert hooks(story.approves(0)) == [(0, "Paused", "Pending")]
    assert sent(story.wakes()) == [(0, 2)]


def test_what_was_lost_meanwhile_is_made_again_first() -> None:
    story = Story({0: (), 1: (0,), 2: ()})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Paused")
    story.loses_value(0)
    assert sent(story.approves(1)) == []
    assert sent(story.wakes()) == [(0, 2), (1, 2)]


def test_who_is_not_paused_is_not_let_go_on() -> None:
    story = Story({0: (), 1: (), 2: ()}, roles={2: "outside"})
    story.starts()
    story.ends(0)
    for told in (story.approves, story.rejects):
        # 0 has ended, 1 runs, 2 is not part of this run, and there is no 7.
        assert told(0, 1, 2, 7) == []
    assert story.phases() == "fsp"


def test_a_run_that_has_ended_otherwise_does_not_go_on() -> None:
    story = Story({0: (), 1: ()}, reference={1})
    story.starts()
    story.ends(0, "Paused")
    story.ends(1, "Failed")
    assert story.final == ("Failed", "t1 failed")
    assert story.approves(0) == []
    assert story.rejects(0) == []
    assert story.final == ("Failed", "t1 failed")


def test_a_run_that_was_rejected_all_through_ends_at_once() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Paused")
    story.rejects(0)
    assert story.states() == ["Skipped"]
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_run_that_pauses_again_is_paused_again() -> None:
    story = paused()
    story.approves(0)
    story.wakes()
    story.ends(0, "Paused")
    assert story.final == ("Paused", "t0 waits for run.approve('t0')")


def test_several_that_wait_are_named_and_the_rest_is_not() -> None:
    story = Story(dict.fromkeys(range(4), ()))
    story.starts()
    for n in range(4):
        story.ends(n, "Paused")
    text = "t0, t1, t2 and 1 more wait for run.approve('t0', 't1', 't2', ...)"
    assert story.final == ("Paused", text)
