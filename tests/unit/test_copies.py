"""Behind which copy of the definitions each run of a message stands."""

from __future__ import annotations

import pickle
import types

import pytest

from dask_taskrunner.backend import Code, RunSpec
from dask_taskrunner.dask_backend.messages import copies_for
from dask_taskrunner.dask_backend.shared import SharedFutures
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.worker.open_flow import open_flow

CODE = Code((b"",))


def message(*runs):
    spec = RunSpec(
        name="work", slug="work", code=CODE, definition=0, arguments=b"", upstream_slugs=(),
        priority=0.0, resources=None, workers=None,
    )  # fmt: skip
    return [
        (Submission(id, 1, 1, 1, tuple(upstream), (1,) * len(upstream)), spec)
        for id, upstream in runs
    ]


def copies(*runs, count=2, earlier=()):
    return copies_for(message(*runs), dict(earlier).get, lambda _: count)[0]


@pytest.mark.parametrize(
    ("many", "count", "expected"),
    [(4, 2, [0, 0, 1, 1]), (5, 2, [0, 0, 0, 1, 1]), (2, 4, [0, 2]), (3, 1, [0, 0, 0]), (1, 4, [0])],
)
def test_what_waits_for_nothing_is_divided_among_all_neighbors_together(many, count, expected):
    assert copies(*(((n, -1), ()) for n in range(many)), count=count) == expected


def test_what_reads_a_result_stands_behind_the_same_copy():
    runs = [((0, -1), ()), ((1, -1), ()), ((2, -1), [(1, -1), (0, -1)]), ((3, -1), [(2, -1)])]
    assert copies(*runs) == [0, 1, 1, 1]


def test_that_was_sent_before_counts_as_well():
    assert copies(((5, -1), [(1, -1)]), ((6, -1), ()), earlier=[((1, -1), 3)], count=4) == [3, 0]
    # Of what nobody knows any more nothing follows.
    assert copies(((5, -1), [(1, -1)]), ((6, -1), ()), count=4) == [0, 2]


def test_children_of_a_list_are_divided_and_children_of_children_stay():
    lists = [((1, n), [(0, -1)]) for n in range(4)]
    assert copies(*lists, earlier=[((0, -1), 1)]) == [0, 0, 1, 1]
    assert copies(*lists, *(((2, n), [(1, n)]) for n in (3, 0))) == [0, 0, 1, 1, 1, 0]


def test_what_is_sent_again_stays_where_it_was():
    # Its next iteration reads what the one before has brought.
    again = message(((1, -1), ()))
    assert copies_for(again, {(1, -1): 2}.get, lambda _: 4, 1) == ([2], 1)
    assert copies(((2, -1), [(1, -1)]), ((3, -1), [(2, -1)]), earlier=[((2, -1), 1)]) == [1, 1]


def test_what_is_sent_one_by_one_is_divided_as_well():
    found, first = [], 0
    for n in range(5):
        chosen, first = copies_for(message(((n, -1), ())), {}.get, lambda _: 4, first)
        found += chosen
    # They go round.
    assert [copy % 4 for copy in found] == [0, 1, 2, 3, 0]
    assert copies_for(message(((9, -1), [(1, -1)])), {(1, -1): 2}.get, lambda _: 4, 3) == ([2], 3)


@pytest.mark.parametrize(
    ("nbytes", "count"), [(1000, 4), (300_000, 3), (600_000, 1), (5_000_000, 1)]
)
def test_of_what_is_large_with_all_that_goes_along_there_are_few_copies(nbytes, count):
    client = types.SimpleNamespace(_scheduler_identity={"n_workers": 4})
    # The definitions themselves are small: the rest is modules that are sent along.
    shared = SharedFutures(client, "run", lambda code: [b"", bytes(nbytes)], forgets=False)
    assert shared.count_of(CODE) == count


def test_what_joins_many_stands_behind_the_first_ones():
    joined = ((2, -1), [(1, n) for n in range(3)])
    assert copies(joined, earlier=[((1, 0), 1), ((1, 1), 0)]) == [1]


def test_equal_copies_are_opened_once_in_a_process():
    data = pickle.dumps(("run", "topic", (), b""))
    first, second = [data], [bytes(bytearray(data))]
    assert open_flow(first) is open_flow(second) is open_flow(first)
    assert first[0] is second[0]
    # What came by itself may be no bytes.
    assert open_flow([memoryview(data)]) is first[0]
