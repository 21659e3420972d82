"""Lost executions: who pays, what is sent again, and what is told."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, hooks, notes, released, sent

from dask_taskrunner.machine.commands import FetchHeader

CHAIN = {0: (), 1: (0,), 2: (1,)}


# --- who pays ------------------------------------------------------------------------------------


def test_a_run_whose_worker_died_is_sent_again_and_its_cone_behind_it() -> None:
    story = Story(CHAIN)
    story.starts()
    story.begins(0)
    assert released(story.loses(0)) == [0, 1, 2]
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]


def test_the_crash_budget_counts_submissions_and_then_the_run_has_crashed() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=2)
    story.starts()
    for _ in range(3):
        assert story.states()[0] == "Pending"
        story.begins(0, "w9")
        story.loses(0, worker="w9")
        story.wakes()
    assert story.record(0).header.state == "Crashed"
    assert story.record(0).header.message == (
        "its worker died 3 times, last w9 "
        "(memory limit, os._exit or a crash in C code, walltime, or a GIL held too long?)"
    )
    assert story.outcomes(0) == ["worker-lost"] * 3
    # Downstream goes out against that state, so that its trigger is evaluated.
    assert story.last_sent(1).upstream == (story.record(0).header,)
    assert 0 not in story.held()


def test_the_message_counts_the_starts_that_dask_made_by_itself() -> None:
    story = Story({0: ()}, max_crash_retries=1)
    story.starts()
    for _ in range(2):
        story.begins(0)
        story.loses(0, starts=4)
        story.wakes()
    assert story.record(0).header.message.startswith("its worker died 8 times, last w1 (")


def test_without_a_crash_budget_the_first_death_is_the_end() -> None:
    story = Story({0: ()}, max_crash_retries=0)
    story.starts()
    story.begins(0)
    story.loses(0, worker="")
    assert story.record(0).header.message.startswith("its worker died once (")


def test_an_innocent_is_sent_again_uncounted_at_most_twice() -> None:
    story = Story({0: ()}, max_crash_retries=0)
    story.starts()
    for _ in range(2):
        # Nothing says that its body was running on the worker that died.
        story.loses(0)
        story.wakes()
        assert story.record(0).crashes == 0
    story.loses(0)
    assert story.states() == ["Crashed"]
    # What was not known to have begun is one attempt at most: the one that was paid for.
    assert story.outcomes(0) == ["worker-lost"]
    assert story.record(0).attempts()[0].started is None


def test_a_run_known_to_be_running_elsewhere_is_innocent() -> None:
    story = Story({0: ()}, max_crash_retries=0)
    story.starts()
    story.begins(0, "w1")
    story.loses(0, worker="w2")
    assert sent(story.wakes()) == [(0, 2)]
    # The body on w1 was not heard of again; then w1's death is known as well.
    assert story.outcomes(0) == ["running"]
    story.removes("w1")
    assert story.outcomes(0) == ["worker-lost"]


def test_a_run_whose_body_was_on_a_removed_worker_is_guilty() -> None:
    story = Story({0: ()}, max_crash_retries=0)
    story.starts()
    story.begins(0, "w1")
    story.removes("w1", [0])
    assert story.outcomes(0) == ["worker-lost"]
    assert story.states() == ["Pending"]
    story.loses(0, worker="w1")
    assert story.states() == ["Crashed"]
    assert story.outcomes(0) == ["worker-lost"]


def test_lost_data_is_charged_and_its_message_says_so() -> None:
    story = Story({0: ()}, max_crash_retries=1)
    story.starts()
    story.loses(0, "lost", text="lost dependencies")
    assert sent(story.wakes()) == [(0, 2)]
    story.loses(0, "lost", text="lost dependencies")
    assert story.record(0).header.message == "its data was lost 2 times: lost dependencies"
    # No body is known to have begun, and no worker to have died.
    assert story.outcomes(0) == []


def test_a_body_that_was_running_when_its_data_was_lost_was_an_attempt() -> None:
    story = Story({0: ()})
    story.starts()
    story.begins(0)
    story.loses(0, "lost")
    assert story.outcomes(0) == ["worker-lost"]


# --- other ends ----------------------------------------------------------------------------------


def test_any_other_error_is_a_crash_at_once_with_its_text() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.begins(0)
    story.loses(0, "error", text="MemoryError: too much")
    assert story.record(0).header.state == "Crashed"
    assert story.record(0).header.message == "MemoryError: too much"
    assert story.outcomes(0) == ["failed"]
    assert sent(story.wakes()) == [(1, 2)]


def test_what_another_client_cancelled_is_cancelled_and_its_body_may_go_on() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    execution = story.begins(0)
    story.loses(0, "cancelled", text="client-2")
    assert story.record(0).header.state == "Cancelled"
    assert story.record(0).header.message == "by another client: client-2"
    assert sent(story.wakes()) == [(1, 2)]
    assert story.outcomes(0) == ["running"]
    story.ends(0, execution=execution)
    assert story.outcomes(0) == ["success"]
    assert story.states()[0] == "Cancelled"


def test_an_upstreams_error_is_no_news_but_waits_for_the_upstreams_end() -> None:
    story = Story(CHAIN)
    story.starts()
    story.loses(1, "upstream", culprit=0)
    assert story.phases() == "sww"
    story.loses(0, "error")
    assert sent(story.wakes()) == [(1, 2), (2, 2)]
    assert story.last_sent(1).upstream[0].state == "Crashed"


def test_an_upstreams_error_where_that_is_finished_means_that_its_value_was_lost() -> None:
    story = Story(CHAIN)
    story.starts()
    story.ends(0, big=True)
    commands = story.loses(1, "upstream", culprit=0, text="why not")
    assert notes(commands) == ["the result of t0 was lost: why not"]
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert story.record(1).crashes == 0


def test_an_upstreams_error_of_which_nobody_is_known_to_be_guilty_is_paid_by_the_run() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=0)
    story.starts()
    story.ends(0, big=True)
    story.loses(1, "upstream", text="who knows")
    assert story.record(1).header.message == "its data was lost once: who knows"


def test_an_upstreams_error_where_that_was_told_by_value_is_paid_by_the_run() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=0)
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    assert sent(story.wakes()) == [(1, 2)]
    story.loses(1, "upstream", culprit=0)
    assert story.states() == ["Success", "Crashed"]


def test_the_clients_own_states_are_reported_to_handlers_from_what_was_shown() -> None:
    story = Story({0: (), 1: ()}, handlers=True)
    story.starts()
    story.begins(0)
    assert hooks(story.loses(0, "error")) == [(0, "Running", "Crashed")]
    story.ends(1, "Retrying")
    assert hooks(story.wakes(10.0)) == [(1, "Retrying", "Pending")]
    # It has been sent again since, so it retries no more.
    assert hooks(story.loses(1, "error"))[0] == (1, "Pending", "Crashed")


def test_a_retry_that_is_cancelled_is_reported_as_such() -> None:
    story = Story({0: ()}, handlers=True)
    story.starts()
    story.ends(0, "Retrying")
    assert hooks(story.is_cancelled()) == [
        (0, "Retrying", "Cancelled"),
        (None, "Running", "Cancelled"),
    ]


# --- workers -------------------------------------------------------------------------------------


def test_a_removed_worker_is_told_of_with_what_was_assigned_to_it() -> None:
    story = Story({0: (), 1: (), 2: ()})
    story.starts()
    story.ends(2)
    # 2 has finished, 77 is another run's.
    commands = story.removes("w1", [0, 1, 2, 77])
    assert notes(commands) == ["worker w1 was lost with 2 task runs assigned to it"]


@pytest.mark.parametrize(("runs", "expected"), [((), False), ((0,), True)])
def test_what_costs_nothing_or_was_expected_is_not_told(
    runs: tuple[int, ...], expected: bool
) -> None:
    story = Story({0: ()})
    story.starts()
    assert story.removes("w1", runs, expected=expected) == []


def test_a_removal_by_itself_loses_no_run_for_dask_may_start_it_again() -> None:
    story = Story({0: ()})
    story.starts()
    story.begins(0, "w1")
    story.removes("w1", [0])
    assert story.phases() == "s"
    story.ends(0, execution=story.begins(0, "w2"), worker="w2")
    assert story.outcomes(0) == ["worker-lost", "success"]


def test_a_run_that_is_running_elsewhere_is_not_hit_by_a_removal() -> None:
    story = Story({0: ()})
    story.starts()
    story.begins(0, "w2")
    story.removes("w1", [0])
    assert story.states() == ["Running"]


# --- silence -------------------------------------------------------------------------------------


def test_a_finished_future_without_a_word_has_its_header_fetched() -> None:
    story = Story({0: ()})
    story.starts()
    assert story.is_silent(0) == [FetchHeader((0, -1), 1)]


def test_silence_of_what_has_been_heard_of_is_nothing() -> None:
    story = Story({0: (), 1: ()})
    story.starts()
    story.ends(0)
    assert story.is_silent(0) == []


def test_the_same_header_twice_is_news_once() -> None:
    story = Story({0: (), 1: (0,)})
    story.starts()
    first, other = story.header(0, big=True), story.header(0, big=True)
    for header in (first, first, other, first, other):
        story.hears(header)
    assert story.outcomes(0) == ["success", "re-executed"]


def test_what_an_earlier_run_had_cached_may_go_at_nobodys_cost() -> None:
    """It only spares the body: the run goes out once more, without it."""
    story = Story(CHAIN, max_crash_retries=0)
    story.starts()
    assert released(story.loses(0, "cached")) == [0, 1, 2]
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert story.record(0).crashes == 0
    assert story.outcomes(0) == []


# --- processes of a body's own -------------------------------------------------------------------


def test_a_body_whose_own_process_died_is_run_again_on_the_crash_budget() -> None:
    story = Story(CHAIN, max_crash_retries=1)
    story.starts()
    story.begins(0)
    assert released(story.ends(0, "Crashed", message="isolated process ended")) == [0, 1, 2]
    assert sent(story.wakes()) == [(0, 2), (1, 2), (2, 2)]
    assert story.record(0).crashes == 1
    story.ends(0)
    assert story.states()[0] == "Success"
    assert story.outcomes(0) == ["crashed", "success"]


def test_with_that_budget_spent_the_run_has_crashed_and_downstream_is_asked() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=1)
    story.starts()
    for _ in range(2):
        assert story.states()[0] == "Pending"
        story.ends(0, "Crashed")
        story.wakes()
    assert story.states()[0] == "Crashed"
    assert story.outcomes(0) == ["crashed", "crashed"]
    # It has a future with that state, behind which what is downstream stands already.
    assert story.last_sent(1).submission == 2


def test_what_is_made_again_and_dies_with_its_process_is_charged_too() -> None:
    story = Story({0: (), 1: (0,)}, max_crash_retries=1)
    story.starts()
    story.ends(0, big=True)
    story.loses_value(0)
    story.wakes()
    assert story.record(0).crashes == 1
    story.ends(0, "Crashed")
    assert story.record(0).crashes == 2
    story.wakes()
    assert story.last_sent(1).upstream[0].state == "Crashed"
