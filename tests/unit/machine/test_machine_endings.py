"""How a flow run ends: by its reference tasks, by a cancel, with its cluster."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story, hooks, released, sent

from dask_taskrunner.machine.commands import Finish
from dask_taskrunner.machine.endings import clock
from dask_taskrunner.machine.events import TimerFired


def ended(states: dict[int, str], *, reference: set[int] | None = None) -> tuple[str, str | None]:
    """Return the end of a flow run whose task runs stand beside each other."""
    story = Story(
        dict.fromkeys(states, ()), reference=reference or set(states), max_crash_retries=0
    )
    story.starts()
    for n, state in states.items():
        story.ends(n, state)
    assert story.final is not None
    return story.final


# --- by the reference tasks ----------------------------------------------------------------------


def test_all_reference_tasks_succeeded() -> None:
    assert ended({0: "Success", 1: "Skipped"}) == ("Success", "reference tasks succeeded")


@pytest.mark.parametrize("state", ["Failed", "TriggerFailed", "TimedOut", "Crashed"])
def test_any_failure_of_a_reference_task_is_the_runs_before_all_else(state: str) -> None:
    end = ended({0: "Success", 1: state, 2: "Paused", 3: "Cancelled"})
    assert end == ("Failed", "t1 failed")


def test_an_unfinished_reference_task_pauses_the_run_before_a_cancelled_one() -> None:
    assert ended({0: "Paused", 1: "Cancelled"}) == ("Paused", "t0 waits for run.approve('t0')")


def test_a_cancelled_reference_task_cancels_the_run() -> None:
    assert ended({0: "Success", 1: "Cancelled"}) == ("Cancelled", "t1 cancelled")


def test_a_green_run_that_holds_failures_says_so() -> None:
    states = {0: "Success", 1: "Failed", 2: "TriggerFailed", 3: "Success"}
    assert ended(states, reference={0}) == (
        "Success",
        "reference tasks succeeded; 2 of 4 task runs failed: t1, t2",
    )


def test_a_message_names_a_few_and_counts_the_rest() -> None:
    assert ended(dict.fromkeys(range(5), "Failed")) == ("Failed", "t0, t1, t2 and 2 more failed")


def test_what_nobody_refers_to_may_stay_paused() -> None:
    end = ended({0: "Success", 1: "Paused"}, reference={0})
    assert end == ("Success", "reference tasks succeeded")


def test_a_run_goes_on_while_anything_can_advance() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0, "Paused")
    story.ends(1, "Retrying")
    assert story.final is None
    story.wakes(10.0)
    assert story.final is None
    story.ends(1)
    assert story.final == ("Paused", "t0 waits for run.approve('t0')")


def test_what_waits_for_a_paused_run_is_not_sent() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(0, "Paused", body=False)
    assert story.phases() == "pww"
    assert story.final == ("Paused", "t0 waits for run.approve('t0')")


def test_the_end_is_one_command_and_the_last_entry_of_the_history() -> None:
    story = Story({0: ()}, handlers=True)
    assert hooks(story.starts()) == [(None, "Pending", "Running")]
    commands = story.ends(0)
    assert hooks(commands) == [(None, "Running", "Success")]
    assert isinstance(commands[-1], Finish)
    assert [type(command).__name__ for command in commands] == ["Release", "CallHook", "Finish"]
    last = story.machine.history[-1]
    assert (last.task_run, last.old, last.new) == (None, "Running", "Success")
    assert story.machine.wake_at is None


def test_without_handlers_none_are_called() -> None:
    story = Story({0: ()})
    assert hooks(story.starts()) == []
    assert hooks(story.ends(0)) == []


# --- cancel --------------------------------------------------------------------------------------

CANCELLED = ("Cancelled", "cancelled by the user")


def test_a_cancel_ends_every_unfinished_run_in_one_step() -> None:
    story = Story({0: (), 1: (0,), 2: (), 3: (), 4: ()}, kept={0})
    story.starts()
    story.ends(0, big=True)
    story.ends(2, "Retrying")
    story.ends(3, "Paused")
    commands = story.is_cancelled()
    assert story.states() == ["Success", *["Cancelled"] * 4]
    assert story.final == CANCELLED
    assert released(commands) == [1, 4]
    assert isinstance(commands[-1], Finish)
    assert story.machine.wake_at is None


def test_a_timer_that_fires_after_a_cancel_wakes_nothing() -> None:
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying")
    story.is_cancelled()
    assert story.wakes(20.0) == []
    assert story.states() == ["Cancelled"]


def test_a_cancelled_run_keeps_what_a_resume_needs() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.is_cancelled()
    assert story.held() == {0}


def test_a_cancel_between_two_slices_takes_effect_there() -> None:
    story = Story(dict.fromkeys(range(1200), ()))
    story.starts()
    story.wakes()
    assert len(story.sent) == 1000
    commands = story.is_cancelled()
    assert len(released(commands)) == 1000
    assert story.wakes() == []
    assert len(story.sent) == 1000


def test_a_cancelled_run_whose_code_was_running_says_where_and_its_end_is_heard_of() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    execution = story.begins(0, "w7")
    story.is_cancelled()
    assert story.record(0).header.message == "asked to stop; its code was running on w7"
    assert story.record(1).header.message == "cancelled by the user"
    assert story.outcomes(0) == ["running"]
    story.ends(0, execution=execution, worker="w7")
    assert story.outcomes(0) == ["success"]
    assert story.states() == ["Cancelled", "Cancelled"]


def test_a_body_of_which_the_report_came_after_the_cancel_is_known_to_be_running() -> None:
    story = Story({0: ()})
    story.starts()
    story.is_cancelled()
    execution = story.begins(0)
    assert story.outcomes(0) == ["running"]
    story.ends(0, execution=execution)
    assert story.outcomes(0) == ["success"]
    # A report that was overtaken by the end says nothing new.
    story.begins(0, execution=execution)
    assert story.outcomes(0) == ["success"]


def test_a_value_that_was_being_made_again_is_not_waited_for_after_a_cancel() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.is_cancelled()
    assert story.states() == ["Success", "Cancelled"]
    assert story.phases() == "ff"
    assert story.held() == set()


def test_a_second_end_changes_nothing() -> None:
    story = Story({0: ()})
    story.starts()
    story.is_cancelled()
    story.loses_cluster()
    story.is_cancelled("again")
    story.removes("w1", [0])
    assert story.final == CANCELLED


def test_a_reason_of_ones_own() -> None:
    story = Story({0: ()})
    story.starts()
    story.is_cancelled("the runner closed")
    assert story.record(0).header.message == "the runner closed"
    assert story.final == ("Cancelled", "the runner closed")


# --- the cluster ---------------------------------------------------------------------------------


def test_with_the_cluster_lost_what_has_finished_keeps_its_state_and_the_rest_is_not_known() -> (
    None
):
    story = Story({0: (), 1: (), 2: (), 3: (2,), 4: (3,)})
    story.starts()
    story.ends(0, big=True)
    story.begins(1, "w7")
    story.ends(2, "Retrying")
    story.now = 60.0
    story.loses_cluster()
    assert story.final == ("Crashed", f"the cluster was lost at {clock(WALL + 60)}: no answer")
    assert story.states() == ["Success", *["Pending"] * 4]
    messages = [story.record(n).retry_header.message for n in range(1, 5)]
    assert messages == [
        "not known: no answer; last heard: running on w7",
        "not known: no answer; last heard: delayed",
        "not known: no answer; last heard: waiting",
        "not known: no answer; last heard: waiting",
    ]
    assert story.held() == set()
    # What is said of each is in the history, also where it only was pending before.
    assert {entry.task_run for entry in story.machine.history[-6:-1]} >= {(3, -1), (4, -1)}


def test_what_was_never_sent_is_told_as_such() -> None:
    story = Story(dict.fromkeys(range(501), ()))
    story.starts()
    story.loses_cluster()
    assert story.record(500).retry_header.message == "not known: no answer; it was not sent"


def test_with_the_cluster_lost_a_value_in_the_making_is_a_state_that_is_known() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.loses_cluster()
    assert story.phases() == "fp"
    assert story.states() == ["Success", "Pending"]


def test_nothing_is_released_or_sent_on_a_lost_cluster() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    commands = story.loses_cluster()
    assert [type(command).__name__ for command in commands] == ["Finish"]
    assert sent(story.wakes()) == []


def test_a_time_is_written_as_people_read_it() -> None:
    assert clock(0) == "1970-01-01 00:00:00 UTC"


# --- an error of our own -------------------------------------------------------------------------


def test_a_machine_that_is_broken_cancels_what_is_not_finished_and_says_why() -> None:
    story = Story({0: (), 1: (), 2: (), 3: (2,)}, handlers=True)
    story.starts()
    story.ends(0, big=True)
    story.begins(1, "w7")
    story.ends(2, "Retrying")
    # Whatever it is that is broken:
    story.record(3).unopened_upstream = 77
    commands = story.machine.give_up(5.0, "error in dask_taskrunner: KeyError: 1")
    assert story.states() == ["Success", "Cancelled", "Cancelled", "Cancelled"]
    assert story.final == ("Crashed", "error in dask_taskrunner: KeyError: 1")
    assert hooks(commands) == [(None, "Running", "Crashed")]
    assert isinstance(commands[-1], Finish)
    assert story.machine.history[-1].new == "Crashed"
    assert story.outcomes(1) == ["running"]
    assert story.machine.handle(TimerFired(20.0)) == []
