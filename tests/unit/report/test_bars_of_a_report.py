"""What is on the timeline: every execution, with what it waited for."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story

from dask_taskrunner.insight.readings import read
from dask_taskrunner.insight.snapshots import snapshot_of
from dask_taskrunner.logs import LogStore
from dask_taskrunner.report.contents import contents


def heard(story, n, began, ended, state="Success", *, worker="w1", submission=None, **more):
    story.now = ended
    header = story.header(n, state, worker=worker, submission=submission)
    header = header._replace(started=WALL + began, seconds=ended - began)
    story.hears(header._replace(more={**header.more, **more}))


def told(story, **options):
    snapshot = snapshot_of(story.machine)
    ids = [id for id in snapshot.records if id[1] < 0]
    reading = read(snapshot.records, snapshot.history)
    return contents(snapshot.in_order(ids), reading, {}, LogStore(), **options)


def bars(data):
    """Each bar as what ran, what came of it, and its times."""
    return [
        (data["rows"][row][0], data["outcomes"][outcome], data["lanes"][lane], *times)
        for row, lane, *times, outcome in data["bars"]
    ]


def test_a_retry_has_a_bar_for_each_attempt_and_the_wait_between_them():
    story = Story({0: ()})
    story.starts()
    heard(story, 0, 1.0, 2.0, "Retrying", delay=3.0)
    story.now = 5.0
    story.wakes()
    heard(story, 0, 6.0, 7.0)
    data = told(story)
    assert bars(data) == [
        ("t0", "retrying", "w1 #1", 0.0, 1.0, 2.0),
        ("t0", "success", "w1 #1", 5.0, 6.0, 7.0),
    ]
    # It waited for the retry from 2 to 5, and then there was a place.
    assert data["waits"] == [[0.0, 0.0], [2.0, 5.0]]
    assert data["details"][0]["attempts"] == [
        [data["outcomes"].index("retrying"), data["texts"].index("w1"), 0, 1.0],
        [data["outcomes"].index("success"), data["texts"].index("w1"), 0, 1.0],
    ]


def test_what_waited_for_a_place_says_until_when():
    story = Story({0: (), 1: ()})
    story.starts()
    heard(story, 0, 0.0, 4.0)
    heard(story, 1, 4.5, 5.0)
    data = told(story)
    assert data["bars"][1][2:5] == [0.0, 4.5, 5.0]
    assert data["waits"][1] == [0.0, 4.0]


def test_when_inputs_came_from_other_workers_stands_behind_the_waits():
    story = Story({0: (), 1: (0,)})
    story.starts()
    heard(story, 0, 0.0, 1.0)
    fetched = [[WALL + 1.5, WALL + 2.5], [WALL + 2.0, WALL + 3.0]]
    heard(story, 1, 4.0, 5.0, worker="w2", fetched=fetched)
    assert told(story)["waits"][1] == [1.0, 1.0, 1.5, 3.0]


def test_what_was_executed_once_more_after_its_end_is_there_too():
    story = Story({0: (), 1: (0,)})
    story.starts()
    heard(story, 0, 0.0, 1.0)
    heard(story, 0, 2.0, 3.0, worker="w2", submission=1)
    heard(story, 1, 3.5, 4.0)
    assert bars(told(story)) == [
        ("t0", "success", "w1 #1", 0.0, 0.0, 1.0),
        ("t0", "re-executed", "w2 #1", 2.0, 2.0, 3.0),
        ("t1", "success", "w1 #1", 1.0, 3.5, 4.0),
    ]


def test_what_runs_has_run_until_the_report_was_written():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.now = 1.0
    story.begins(0)
    data = told(story, until=WALL + 4.0, goes_on=True)
    assert bars(data) == [("t0", "running", "w1 #1", 1.0, 1.0, 4.0)]
    assert data["goes_on"]


def test_a_clock_that_is_ahead_makes_no_bar_that_ends_before_it_begins():
    story = Story({0: ()})
    story.starts()
    story.now = 9.0
    story.begins(0)
    assert bars(told(story, until=WALL + 4.0)) == [("t0", "running", "w1 #1", 4.0, 4.0, 4.0)]


@pytest.mark.parametrize("on_path", [(), ("t1",)])
def test_what_is_on_the_path_is_named_by_its_rows(on_path):
    story = Story({0: (), 1: (0,)})
    story.starts()
    assert told(story, path=on_path)["path"] == ([1] if on_path else [])
