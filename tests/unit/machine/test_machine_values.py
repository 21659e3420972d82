"""Values of finished runs that are lost, made again, or made otherwise by a second execution."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, notes, released, sent

from dask_taskrunner.headers import to_state

CHAIN = {0: (), 1: (0,), 2: (1,)}


# --- values --------------------------------------------------------------------------------------


def test_a_lost_value_that_somebody_needs_is_made_again_under_the_number_it_had() -> None:
    story = Story(CHAIN)
    story.starts()
    story.ends(0, "Retrying", delay=0.0)
    story.wakes()
    story.ends(0, big=True)
    header = story.record(0).header
    commands = story.loses_value(0)
    assert notes(commands) == ["the result of t0 was lost: lost dependencies"]
    assert released(commands) == [0, 1, 2]
    assert sent(story.wakes()) == [(0, 3), (1, 3), (2, 3)]
    assert story.last_sent(0).run_number == 2
    story.ends(0, big=True)
    assert story.record(0).header is header
    assert story.outcomes(0) == ["retrying", "success", "re-executed"]


def test_a_lost_value_that_nobody_needs_is_not_made_again() -> None:
    story = Story({0: (), 1: (0,), 2: ()})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, "Failed")
    # It is held for a resume only.
    assert released(story.loses_value(0)) == [0]
    assert sent(story.wakes()) == []


def test_a_lost_value_that_is_kept_is_made_again_for_its_own_sake() -> None:
    story = Story({0: (), 1: ()}, kept={0})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    assert sent(story.wakes()) == [(0, 2)]
    story.ends(1)
    assert story.final is None
    story.ends(0, big=True)
    assert story.final == ("Success", "reference tasks succeeded")
    assert story.held() == {0}


def test_a_value_made_again_that_nobody_needs_any_more_is_let_go() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    # The reader's end was on its way when the value was lost.
    story.loses(1, "error")
    assert story.final is None
    story.ends(0, big=True)
    assert story.final is not None


def test_what_is_gone_upstream_is_made_again_first() -> None:
    story = Story({0: (), 1: (0,), 2: (1,), 3: (2,)})
    story.starts()
    for n in (0, 1, 2):
        story.ends(n, big=True)
    assert story.held() == {2, 3}
    story.loses_value(2)
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_a_small_result_upstream_is_not_made_again_but_goes_by_value() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(0)
    story.ends(1, big=True)
    story.loses_value(1)
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    assert story.last_sent(1).upstream == (story.record(0).header,)


def test_a_failure_upstream_is_not_made_again_but_goes_by_value() -> None:
    # Its exception was too large for the header, and has gone with its future.
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(0, "Failed", has_exception=True, type="ValueError", traceback="Traceback ...")
    story.ends(1, big=True)
    assert 0 not in story.held()
    story.loses_value(1)
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    (by_value,) = story.last_sent(1).upstream
    assert by_value.is_complete
    exception = to_state(by_value, "t0").exception
    assert exception.original_type == "ValueError"
    assert exception.traceback == "Traceback ..."


def test_the_making_of_a_long_chain_is_bounded_by_no_stack() -> None:
    length = 3000
    story = Story({n: (n - 1,) if n else () for n in range(length + 1)})
    story.machine.validate = list  # type: ignore[method-assign]  # every event would look at all
    story.starts()
    while story.machine.wake_at is not None:
        story.wakes()
    for n in range(length):
        story.ends(n, big=True)
    story.loses_value(length - 1)
    assert story.phases() == "q" * (length + 1)


def test_a_value_that_no_body_made_is_made_again_on_nobodys_budget_twice() -> None:
    # It was cached by an earlier run, and went with it.
    story = Story({0: (), 1: (0,)}, max_crash_retries=0)
    story.starts()
    for submission in (1, 2):
        story.ends(0, body=False, big=True)
        story.loses_value(0)
        assert sent(story.wakes()) == [(0, submission + 1), (1, submission + 1)]
    assert (story.record(0).crashes, story.record(0).innocent) == (0, 2)
    story.ends(0, body=False, big=True)
    story.loses_value(0)
    assert sent(story.wakes()) == [(1, 4)]
    assert story.last_sent(1).upstream[0].state == "Crashed"


def test_a_failure_whose_future_is_lost_is_told_by_value_and_costs_nothing() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Failed", has_exception=True, type="ValueError")
    story.loses_value(0)
    assert story.record(0).crashes == 0
    assert sent(story.wakes()) == [(1, 2)]
    (by_value,) = story.last_sent(1).upstream
    assert by_value.state == "Failed"
    assert by_value.is_complete


def test_a_value_that_cannot_be_made_again_is_a_crash_to_its_readers_only() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=1)
    story.starts()
    story.ends(0, big=True)
    header = story.record(0).header
    story.loses_value(0)
    story.wakes()
    story.ends(0, "Failed")
    assert story.record(0).header is header
    assert story.states()[0] == "Success"
    assert sent(story.wakes()) == [(1, 3)]
    (by_value,) = story.last_sent(1).upstream
    assert (by_value.state, by_value.message) == (
        "Crashed",
        (
            "the result of t0 was lost with worker w1 and could not be made again: "
            "made again, it ended as Failed: None"
        ),
    )


def test_what_dies_while_it_is_made_again_is_sent_again_while_the_budget_lasts() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=2)
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.begins(0)
    story.loses(0)
    assert sent(story.wakes()) == [(0, 3), (1, 3)]
    story.begins(0)
    story.loses(0)
    assert sent(story.wakes()) == [(1, 4)]
    assert story.last_sent(1).upstream[0].state == "Crashed"


def test_what_is_being_made_again_and_finds_its_upstream_unfinished_pays_nothing() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)}, kept={0})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, big=True)
    story.loses_value(1)
    story.wakes()
    crashes = story.record(1).crashes
    story.finds_unfinished(1, 0)
    assert story.record(1).crashes == crashes
    assert sent(story.wakes()) == [(0, 2), (1, 3), (2, 3)]


def test_a_run_that_found_a_released_upstream_unfinished_goes_out_against_its_header() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Failed", has_exception=True)
    story.loses_value(0)
    story.wakes()
    story.finds_unfinished(1, 0)
    assert sent(story.wakes()) == [(1, 3)]


def test_an_unfinished_upstream_that_is_not_known_is_waited_for_no_longer() -> None:
    story = Story({0: ()})
    story.starts()
    story.finds_unfinished(0, 77)
    assert sent(story.wakes()) == [(0, 2)]


def test_a_value_that_was_let_go_already_cannot_be_lost() -> None:
    # Kept, but small: it came with its header.
    story = Story({0: (), 1: (0,), 2: ()}, kept={0})
    story.starts()
    story.ends(0)
    assert released(story.ends(1)) == [0, 1]
    assert story.loses_value(0) == []
    assert sent(story.wakes()) == []


def test_the_loss_of_a_value_that_has_been_made_again_since_is_no_news() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.ends(0, big=True)
    assert story.loses_value(0, submission=1) == []
    assert story.phases() == "fs"


# --- executed again ------------------------------------------------------------------------------


def test_a_second_execution_that_succeeded_is_an_attempt_and_a_note() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    assert notes(story.ends(0, big=True, worker="w2")) == ["t0 was executed again by Dask on w2"]
    assert story.phases() == "fs"
    assert story.outcomes(0) == ["success", "re-executed"]


@pytest.mark.parametrize("state", ["Retrying", "Failed", "Paused", "TimedOut", "Cancelled"])
def test_a_second_execution_that_did_not_succeed_means_a_lost_value(state: str) -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    commands = story.ends(0, state)
    assert notes(commands)[1] == f"the result of t0 was lost: executed again, it ended as {state}"
    assert sent(story.wakes()) == [(0, 2), (1, 2)]
    assert story.states()[0] == "Success"


@pytest.mark.parametrize("state", ["Failed", "TriggerFailed", "Cancelled", "Skipped"])
def test_a_second_execution_that_comes_to_the_same_loses_nothing(state: str) -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, state)
    story.ends(0, state)
    assert story.phases() == "fs"
    assert sent(story.wakes()) == []


def test_an_empty_second_execution_is_no_attempt_but_loses_the_value() -> None:
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.ends(0, big=True)
    story.ends(1, big=True)
    story.finds_unfinished(1, 0)
    assert story.outcomes(1) == ["success"]
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]


def test_what_was_made_again_may_be_executed_again_as_well() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=5)
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.ends(0, big=True)
    story.ends(0, "Failed")
    assert sent(story.wakes()) == [(0, 3), (1, 3)]
    assert story.outcomes(0) == ["success", "re-executed", "re-executed"]


def test_a_late_execution_of_what_has_been_let_go_loses_nothing() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.ends(0, "Failed", submission=1)
    assert story.phases() == "ss"
    assert story.outcomes(0) == ["success", "re-executed"]


def test_a_late_execution_of_an_older_submission_loses_no_newer_value() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    story.ends(0, big=True)
    story.ends(0, "Failed", submission=1)
    assert story.phases() == "fs"
    assert story.outcomes(0) == ["success", "re-executed", "re-executed"]


def test_a_value_lost_after_the_end_is_not_made_again() -> None:
    story = Story({0: ()}, kept={0})
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    assert story.phases() == "f"
    assert story.held() == {0}


def test_a_second_execution_after_the_end_is_an_attempt_and_nothing_more() -> None:
    story = Story({0: ()}, kept={0})
    story.starts()
    story.ends(0, big=True)
    assert story.final is not None
    assert story.ends(0, "Failed") == []
    assert story.outcomes(0) == ["success", "re-executed"]
    assert story.states() == ["Success"]
