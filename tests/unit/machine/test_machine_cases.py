"""Every event in every phase of a task run: what becomes of the run, and what is commanded.

The run under test is number 1. It stands behind 0 and before 2; 3 stands alone, so that the flow
run goes on whatever happens to the others.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.machine_story import Story

from dask_taskrunner.machine.commands import Command

CHAIN = {0: (), 1: (0,), 2: (1,), 3: ()}


def begun() -> Story:
    story = Story(CHAIN, kept={0, 1})
    story.starts()
    story.ends(0, big=True)
    return story


def waiting() -> Story:
    story = begun()
    # Its upstream's value is being made again: the run was taken back, and waits.
    story.loses_value(0)
    story.wakes()
    story.finds_unfinished(1, 0)
    return story


def queued() -> Story:
    story = begun()
    story.loses(1, "lost")
    return story


def submitted() -> Story:
    return begun()


def delayed() -> Story:
    story = begun()
    story.ends(1, "Retrying")
    return story


def paused() -> Story:
    story = begun()
    story.ends(1, "Paused")
    return story


def finished() -> Story:
    story = begun()
    story.ends(1, big=True)
    return story


def over() -> Story:
    story = begun()
    story.is_cancelled()
    return story


PHASES = {
    make.__name__: make for make in (waiting, queued, submitted, delayed, paused, finished, over)
}

Telling = Callable[[Story], object]
EVENTS: dict[str, Telling] = {
    "began": lambda story: story.begins(1),
    "success": lambda story: story.ends(1, big=True),
    "failure": lambda story: story.ends(1, "Failed"),
    "trigger failure": lambda story: story.ends(1, "TriggerFailed", body=False),
    "skip": lambda story: story.ends(1, "Skipped"),
    "retry": lambda story: story.ends(1, "Retrying"),
    "pause": lambda story: story.ends(1, "Paused"),
    "unfinished": lambda story: story.finds_unfinished(1, 0),
    "silence": lambda story: story.is_silent(1),
    "killed": lambda story: story.loses(1, "killed"),
    "data lost": lambda story: story.loses(1, "lost"),
    "upstream error": lambda story: story.loses(1, "upstream", culprit=0),
    "cancelled": lambda story: story.loses(1, "cancelled"),
    "error": lambda story: story.loses(1, "error"),
    "worker removed": lambda story: story.removes("w1", [1]),
    "value lost": lambda story: story.loses_value(1),
    "timer": lambda story: story.wakes(),
    "timer when due": lambda story: story.wakes(11.0),
    "cancel": lambda story: story.is_cancelled(),
    "cluster lost": lambda story: story.loses_cluster(),
}

#: event -> phase before -> phase after; a phase that is not named does not change.
MOVES: dict[str, dict[str, str]] = {
    "began": {},
    "success": {"submitted": "finished"},
    "failure": {"submitted": "finished", "finished": "queued"},
    "trigger failure": {"submitted": "finished", "finished": "queued"},
    "skip": {"submitted": "finished"},
    "retry": {"submitted": "delayed", "finished": "queued"},
    "pause": {"submitted": "paused", "finished": "queued"},
    # 0 is finished by the record, so its value was lost: it goes out again, and 1 behind it.
    "unfinished": {"submitted": "queued", "finished": "queued"},
    "silence": {},
    "killed": {"submitted": "queued"},
    "data lost": {"submitted": "queued"},
    "upstream error": {"submitted": "queued"},
    "cancelled": {"submitted": "finished"},
    "error": {"submitted": "finished"},
    "worker removed": {},
    "value lost": {"finished": "queued"},
    "timer": {"queued": "submitted"},
    "timer when due": {"queued": "submitted", "delayed": "submitted"},
    "cancel": dict.fromkeys(PHASES, "finished"),
    "cluster lost": {
        **dict.fromkeys(("waiting", "queued", "submitted", "delayed", "paused"), "paused"),
        "finished": "finished",
    },
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", PHASES)
def test_each_event_moves_a_run_in_each_phase_where_the_table_says(phase: str, event: str) -> None:
    story = PHASES[phase]()
    before = story.record(1).header
    EVENTS[event](story)
    stays = "finished" if phase == "over" else phase
    assert story.record(1).phase == MOVES[event].get(phase, stays)
    # The first finished state is for good.
    assert before is None or story.record(1).header is before


@pytest.mark.parametrize("event", EVENTS)
def test_nothing_is_commanded_after_the_end(event: str) -> None:
    story = over()
    answer = EVENTS[event](story)
    assert answer == [] or event == "began"
    assert story.sent[-1].submission == 1


@pytest.mark.parametrize(
    "event", [name for name in EVENTS if name not in ("cancel", "cluster lost")]
)
def test_news_of_an_older_submission_changes_no_state(event: str) -> None:
    story = begun()
    story.loses(1, "lost")
    story.wakes()
    assert story.record(1).submission == 2
    told = {
        "began": lambda: story.begins(1, submission=1),
        "silence": lambda: story.is_silent(1, submission=1),
        "killed": lambda: story.loses(1, "killed", submission=1),
        "data lost": lambda: story.loses(1, "lost", submission=1),
        "upstream error": lambda: story.loses(1, "upstream", submission=1),
        "cancelled": lambda: story.loses(1, "cancelled", submission=1),
        "error": lambda: story.loses(1, "error", submission=1),
        "value lost": lambda: story.loses_value(1, submission=1),
        "success": lambda: story.ends(1, submission=1),
        "failure": lambda: story.ends(1, "Failed", submission=1),
        "trigger failure": lambda: story.ends(1, "TriggerFailed", submission=1, body=False),
        "skip": lambda: story.ends(1, "Skipped", submission=1),
        "retry": lambda: story.ends(1, "Retrying", submission=1),
        "pause": lambda: story.ends(1, "Paused", submission=1),
        "unfinished": lambda: story.ends(1, "Pending", submission=1, waits_for=[0, -1]),
    }
    answer = told.get(event, lambda: EVENTS[event](story))()
    assert story.phases() == "fsss"
    assert story.states() == ["Success", "Pending", "Pending", "Pending"]
    commands: list[Command] = [] if isinstance(answer, int) else answer  # type: ignore[assignment]
    assert [type(command).__name__ for command in commands] in ([], ["Note"])


def test_a_state_that_is_no_end_fails_the_run_instead_of_hanging_it() -> None:
    # A state handler may put any state in the place of the pipeline's.
    for state in ("Running", "Pending", "Scheduled", "CachedState"):
        story = begun()
        story.ends(1, state)
        assert story.record(1).phase == "finished"
        assert story.states()[1] == "Failed"
        assert story.record(1).header.message == f"it ended as {state}(), which is no end"
        # Dependents get that state by value, for the future holds the other one.
        story.wakes()
        assert story.last_sent(2).upstream == (story.record(1).header,)
