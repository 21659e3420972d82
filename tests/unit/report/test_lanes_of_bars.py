"""What was executed is put into lanes, and in a lane nothing overlaps."""

from __future__ import annotations

import itertools
import random

from dask_taskrunner.report.lanes import Lane, Span, in_lanes


def test_what_follows_takes_the_same_lane():
    placed, lanes = in_lanes([Span("w0", 0.0, 1.0), Span("w0", 1.0, 2.0)])
    assert lanes == [Lane("w0", 0)]
    assert [one.lane for one in placed] == [0, 0]


def test_what_runs_beside_it_takes_another():
    placed, lanes = in_lanes([Span("w0", 0.0, 3.0), Span("w0", 1.0, 2.0), Span("w0", 2.5, 4.0)])
    assert lanes == [Lane("w0", 0), Lane("w0", 1)]
    assert [one.lane for one in placed] == [0, 1, 1]


def test_two_that_are_equal_in_all_that_they_say_are_two():
    """Attempts of different task runs may have begun and ended at the same times."""
    placed, lanes = in_lanes([Span("w0", 0.0, 1.0)] * 3)
    assert len(lanes) == 3
    assert sorted(one.lane for one in placed) == [0, 1, 2]


def test_the_lanes_of_a_worker_stand_together():
    spans = [Span("w0", 0, 9), Span("w1", 1, 9), Span("w0", 2, 9), Span("w1", 3, 9)]
    placed, lanes = in_lanes(spans)
    assert lanes == [Lane("w0", 0), Lane("w0", 1), Lane("w1", 0), Lane("w1", 1)]
    assert [one.lane for one in placed] == [0, 2, 1, 3]


def test_clocks_that_are_read_one_after_the_other_make_no_second_lane():
    placed, lanes = in_lanes([Span("w0", 0.0, 1.0005), Span("w0", 1.0, 2.0)])
    assert len(lanes) == 1
    assert placed[1].started == 1.0005


def test_what_is_over_before_the_clock_has_moved_ends_where_it_begins():
    (_, second), _ = in_lanes([Span("w0", 0.0, 1.0005), Span("w0", 1.0, 1.0001)])
    assert second.started == second.ended == 1.0005


def test_without_anything_there_is_no_lane():
    assert in_lanes([]) == ([], [])


def test_nothing_ever_overlaps():
    for seed in range(200):
        rng = random.Random(seed)
        spans = []
        for _ in range(rng.randint(1, 60)):
            started = rng.choice([rng.random(), rng.randint(0, 9) / 10])
            length = rng.choice([0.0, 0.0004, 0.05, rng.random()])
            spans.append(Span(rng.choice("abc"), started, started + length))
        placed, lanes = in_lanes(spans)
        by_lane = {}
        for span, at in zip(spans, placed, strict=True):
            assert lanes[at.lane].worker == span.worker
            assert span.started <= at.started <= span.started + 0.001
            assert at.ended >= at.started
            by_lane.setdefault(at.lane, []).append(at)
        for own in by_lane.values():
            own.sort(key=lambda at: (at.started, at.ended))
            for one, other in itertools.pairwise(own):
                assert one.ended <= other.started
        # No more than were seen at a time, by those who read clocks as exactly as this does.
        for worker in {span.worker for span in spans}:
            there = [span for span in spans if span.worker == worker]
            most = max(sum(one.started <= at.started <= one.ended for one in there) for at in there)
            assert sum(lane.worker == worker for lane in lanes) <= most
