"""What a mapped run comes to, how a flow run with one ends, and what is told on the way."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, hooks, released, sent
from fakes.mapped_plans import Over

OVER_TWO = Over(lengths=(2,))
BY_INDEX = Over(by_index=(0,))


def alone(**options: object) -> Story:
    """Return a story of a mapped run with two children, and of 1, which keeps the flow going."""
    story = Story({0: (), 1: ()}, maps={0: OVER_TWO}, **options)
    story.starts()
    story.wakes()
    return story


def changes(story: Story, n: int) -> list[tuple[str, str]]:
    return [(e.old, e.new) for e in story.machine.history if e.task_run == (n, -1)]


# --- what the children have come to --------------------------------------------------------------


def test_what_a_mapped_run_comes_to_counts_its_children() -> None:
    story = Story({0: (), 1: ()}, maps={0: Over(lengths=(6,))})
    story.starts()
    story.wakes()
    ends = ("Skipped", "Failed", "Success", "TriggerFailed", "Failed", "Looped")
    for child, state in enumerate(ends[:5]):
        story.ends((0, child), state)
    assert story.record(0).header is None
    story.cancels((0, 5))
    header = story.record(0).header
    assert header.message == "1 Success, 2 Failed, 1 TriggerFailed, 1 Cancelled, 1 Skipped"
    assert header.more["counts"] == {
        "Success": 1, "Failed": 2, "TriggerFailed": 1, "Cancelled": 1, "Skipped": 1,
    }  # fmt: skip
    assert (header.is_successful, header.is_failed, header.is_cancelled) == (False, True, True)


def test_the_first_child_that_failed_is_named_with_its_own_cause() -> None:
    story = alone()
    story.ends((0, 1), "TriggerFailed", root_cause=["clean", "ValueError: why"])
    story.hears(story.header((0, 0), "Failed")._replace(message="KeyError: 'a'"))
    assert story.record(0).header.more["root_cause"] == ["t0[0]", "KeyError: 'a'"]
    story = alone()
    story.ends((0, 0), big=True)
    story.ends((0, 1), "TriggerFailed", root_cause=["clean", "ValueError: why"])
    assert story.record(0).header.more["root_cause"] == ["clean", "ValueError: why"]


def test_where_nothing_failed_there_is_no_cause() -> None:
    story = alone()
    story.end((0, 0), (0, 1))
    assert "root_cause" not in story.record(0).header.more


def test_the_history_has_each_change_of_the_mapped_run_and_of_its_children() -> None:
    story = alone()
    assert changes(story, 0) == [("Pending", "Running")]
    (entry,) = [e for e in story.machine.history if e.task_run == (0, -1)]
    assert (entry.header.message, entry.header.more) == ("0 of 2 finished", {"children": 2})
    story.end((0, 0), (0, 1))
    assert changes(story, 0) == [("Pending", "Running"), ("Running", "Mapped")]
    of_children = [
        (e.task_run, e.slug) for e in story.machine.history if (e.task_run or (1,))[0] == 0
    ]
    assert of_children[1:3] == [((0, 0), "t0[0]"), ((0, 1), "t0[1]")]


def test_the_children_are_counted_and_the_mapped_run_once_it_has_none() -> None:
    story = Story({0: (), 1: (0,)}, maps={1: Over(elements=(0,))})
    story.starts()
    assert story.machine.counts["task1"] == {"Pending": 1}
    story.ends(0, big=True, length=3)
    story.wakes()
    story.may_expand(1)
    assert +story.machine.counts["task1"] == {"Pending": 3}
    story.wakes()
    story.ends((1, 0), "Failed")
    story.end((1, 1), (1, 2))
    assert +story.machine.counts["task1"] == {"Failed": 1, "Success": 2}


# --- paused --------------------------------------------------------------------------------------


def test_a_mapped_run_is_paused_where_a_child_is_and_the_rest_have_finished() -> None:
    story = alone()
    story.ends((0, 1), "Paused")
    assert story.states()[0] == "Running"
    story.end((0, 0))
    record = story.record(0)
    assert (record.shown, record.retry_header.message) == ("Paused", "t0[1] paused")
    story.ends(1)
    assert story.final == ("Paused", "t0[1] waits for run.approve('t0[1]')")


def test_several_paused_children_are_counted() -> None:
    story = alone()
    story.ends((0, 0), "Paused")
    story.ends((0, 1), "Paused")
    assert story.record(0).retry_header.message == "t0[0] and 1 more paused"


def test_a_paused_run_stays_so_as_long_as_one_of_its_children_is() -> None:
    story = alone(handlers=True)
    story.ends((0, 0), "Paused")
    story.ends((0, 1), "Paused")
    assert hooks(story.cancels((0, 0))) == [((0, 0), "Paused", "Cancelled")]
    assert story.states()[0] == "Paused"


def test_a_mapped_run_goes_on_where_a_value_of_it_is_made_again_and_pauses_once_more() -> None:
    story = Story({0: (), 1: (), 2: (0,)}, maps={0: OVER_TWO}, lists={2: (0,)}, handlers=True)
    story.starts()
    story.wakes()
    story.ends((0, 1), "Paused")
    assert hooks(story.end((0, 0))) == [(0, "Running", "Paused")]
    assert hooks(story.loses_value((0, 0))) == [(0, "Paused", "Running")]
    assert story.states()[0] == "Running"
    story.wakes()
    story.end((0, 0))
    assert changes(story, 0) == [
        *[("Pending", "Running"), ("Running", "Paused")],
        *[("Paused", "Running"), ("Running", "Paused")],
    ]


def test_a_mapped_run_has_ended_where_its_paused_child_is_cancelled() -> None:
    story = alone(handlers=True)
    story.ends((0, 1), "Paused")
    story.end((0, 0))
    assert hooks(story.cancels((0, 1))) == [
        ((0, 1), "Paused", "Cancelled"),
        (0, "Paused", "Mapped"),
    ]
    assert changes(story, 0)[-1] == ("Paused", "Mapped")


def test_a_child_that_is_approved_goes_on_and_the_mapped_run_with_it() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)}, handlers=True)
    story.starts()
    story.wakes()
    story.end((0, 0))
    story.ends((0, 1), "Paused")
    assert story.final[0] == "Paused"
    assert hooks(story.approves((0, 1))) == [
        (None, "Paused", "Running"),
        ((0, 1), "Paused", "Pending"),
        (0, "Paused", "Running"),
    ]
    assert sent(story.wakes()) == [((0, 1), 2)]
    story.end((0, 1))
    assert sent(story.wakes()) == [(1, 1)]
    story.ends(1)
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_child_that_is_rejected_is_skipped_and_the_mapped_run_has_ended() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0))
    story.ends((0, 1), "Paused")
    story.rejects((0, 1))
    assert story.record(0).header.message == "1 Success, 1 Skipped"
    assert sent(story.wakes()) == [(1, 1)]


def test_what_waits_for_a_paused_child_is_left_where_it_is() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={0: OVER_TWO, 1: BY_INDEX}, lists={2: (1,)})
    story.starts()
    story.wakes()
    story.ends((0, 0), "Paused")
    story.end((0, 1), (1, 1))
    assert story.states()[:3] == ["Paused", "Running", "Pending"]
    assert story.final == ("Paused", "t0[0] waits for run.approve('t0[0]')")


# --- cancelled -----------------------------------------------------------------------------------


def test_a_cancel_ends_the_children_and_what_had_none_yet() -> None:
    story = Story(
        {0: (), 1: (), 2: (1,), 3: (0,)},
        maps={0: OVER_TWO, 2: Over(elements=(1,))},
        lists={3: (0,)},
    )
    story.starts()
    story.wakes()
    story.end((0, 0))
    assert released(story.is_cancelled()) == [(0, 0), (0, 1), 1][1:]
    assert story.states() == [
        "Mapped",
        "Cancelled",
        "Cancelled",
        "Cancelled",
        "Success",
        "Cancelled",
    ]
    assert story.record(0).header.message == "1 Success, 1 Cancelled"
    assert story.final == ("Cancelled", "cancelled by the user")
    assert story.machine.wake_at is None


def test_a_cancel_ends_a_run_that_is_asked_about_its_trigger() -> None:
    story = Story({0: (), 1: (0,)}, maps={1: Over(elements=(0,))})
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    assert released(story.is_cancelled()) == [1]
    assert story.states() == ["Success", "Cancelled"]
    # It keeps what it was to be mapped over, for a resume.
    assert story.held() == {0}


def test_a_cancel_while_a_child_is_made_again_leaves_all_as_it_was() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 0))
    story.is_cancelled()
    assert story.states() == ["Mapped", "Cancelled", "Success", "Success"]
    assert story.phases() == "ffff"


def test_to_cancel_a_mapped_run_is_to_cancel_its_children() -> None:
    story = Story({0: (), 1: (0,), 2: ()}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 1))
    assert released(story.cancels(0)) == [(0, 0)]
    assert story.record(0).header.message == "1 Success, 1 Cancelled"
    assert sent(story.wakes()) == [(1, 1)]


def test_to_cancel_a_mapped_run_without_children_is_to_cancel_it() -> None:
    story = Story({0: (), 1: (0,), 2: ()}, maps={1: Over(elements=(0,))})
    story.starts()
    story.cancels(1)
    assert story.states() == ["Pending", "Cancelled", "Pending"]
    # Its list comes too late.
    assert sent(story.ends(0, length=2)) == []
    assert story.record(1).length is None


def test_to_cancel_one_child_is_to_cancel_that_one() -> None:
    story = alone()
    story.cancels((0, 0))
    assert story.children(0) == ["Cancelled", "Pending"]
    story.end((0, 1))
    assert story.record(0).header.is_cancelled


# --- without a cluster ---------------------------------------------------------------------------


def test_where_the_cluster_is_lost_what_had_finished_stays_and_nothing_is_known_of_the_rest() -> (
    None
):
    story = Story({0: (), 1: (), 2: ()}, maps={0: OVER_TWO, 2: OVER_TWO})
    story.starts()
    story.wakes()
    story.end((0, 0), (2, 0), (2, 1))
    story.loses_cluster()
    assert story.states()[:3] == ["Pending", "Pending", "Mapped"]
    assert (story.children(0), story.children(2)) == (["Success", "Pending"], ["Success"] * 2)
    texts = [story.record(n).retry_header.message for n in (0, (0, 1))]
    assert texts == [
        "not known: no answer; last heard: 1 of 2 finished",
        "not known: no answer; last heard: submitted",
    ]
    assert story.final[0] == "Crashed"
    assert story.held() == set()


def test_where_the_cluster_is_lost_under_a_child_that_is_made_again_it_stays_finished() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: OVER_TWO}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 0))
    story.loses_cluster()
    assert story.states() == ["Mapped", "Pending", "Success", "Success"]
    assert story.phases() == "fpff"


def test_a_run_that_an_error_of_ours_breaks_is_cancelled_with_its_children() -> None:
    story = alone()
    story.machine.give_up(1.0, "error in dask_taskrunner: why")
    assert story.states() == ["Cancelled"] * 4


# --- the flow run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "final"),
    [
        (("Success", "Failed"), ("Failed", "t0 failed")),
        (("Cancelled", "TriggerFailed"), ("Failed", "t0 failed")),
        (("Success", "Cancelled"), ("Cancelled", "t0 cancelled")),
        (("Success", "Skipped"), ("Success", "reference tasks succeeded")),
        (("Paused", "Failed"), ("Paused", "t0[0] waits for run.approve('t0[0]')")),
    ],
)
def test_a_mapped_reference_task_is_what_its_children_are(
    ends: tuple[str, str], final: tuple[str, str]
) -> None:
    story = Story({0: ()}, maps={0: OVER_TWO})
    story.starts()
    story.wakes()
    for child, state in enumerate(ends):
        story.ends((0, child), state)
    assert story.final == final


def test_a_success_with_failures_counts_children_and_not_what_they_are_children_of() -> None:
    story = Story({0: (), 1: (0,)}, maps={0: Over(lengths=(3,))}, lists={1: (0,)})
    story.starts()
    story.wakes()
    story.end((0, 0))
    story.ends((0, 1), "Failed")
    story.ends((0, 2), "Failed")
    story.wakes()
    story.ends(1)
    text = "reference tasks succeeded; 2 of 4 task runs failed: t0[1], t0[2]"
    assert story.final == ("Success", text)


def test_a_mapped_run_that_failed_by_itself_is_counted_as_one() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, maps={1: Over(elements=(0,))}, reference={2})
    story.starts()
    story.ends(0, no_length="")
    story.wakes()
    story.may_expand(1)
    story.wakes()
    story.ends(2)
    assert story.final == ("Success", "reference tasks succeeded; 1 of 3 task runs failed: t1")


# --- handlers ------------------------------------------------------------------------------------


def test_of_a_mapped_run_the_client_reports_every_change_that_it_makes() -> None:
    story = Story({0: ()}, maps={0: OVER_TWO}, handlers=True)
    assert hooks(story.starts()) == [(None, "Pending", "Running"), (0, "Pending", "Running")]
    story.wakes()
    # What becomes of a child, the worker has told its handlers.
    assert hooks(story.end((0, 0))) == []
    assert hooks(story.end((0, 1))) == [
        (0, "Running", "Mapped"),
        (None, "Running", "Success"),
    ]


def test_of_a_run_whose_trigger_was_asked_the_worker_has_told_that_it_runs() -> None:
    story = Story({0: (), 1: (0,)}, maps={1: Over(elements=(0,))}, handlers=True)
    story.starts()
    story.ends(0, length=1)
    story.wakes()
    assert hooks(story.may_expand(1)) == []
    story.wakes()
    assert hooks(story.end((1, 0)))[0] == (1, "Running", "Mapped")


def test_of_a_child_the_client_reports_what_it_decides() -> None:
    story = alone(handlers=True)
    story.begins((0, 0))
    assert hooks(story.loses((0, 0), "error")) == [((0, 0), "Running", "Crashed")]
    story.ends((0, 1), "Retrying")
    assert hooks(story.wakes(10.0)) == [((0, 1), "Retrying", "Pending")]


def test_a_hook_of_a_child_is_called_by_the_childs_name() -> None:
    story = alone(handlers=True)
    (command,) = [c for c in story.loses((0, 1), "error") if type(c).__name__ == "CallHook"]
    assert (command.id, command.slug) == ((0, 1), "t0[1]")


def test_without_elements_running_and_mapped_are_both_reported() -> None:
    story = Story({0: (), 1: ()}, maps={0: Over(lengths=(0,))}, handlers=True)
    assert hooks(story.starts())[1:] == [(0, "Pending", "Running"), (0, "Running", "Mapped")]
