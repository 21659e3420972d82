"""Which workers may run what, and why nothing runs."""

from __future__ import annotations

import pytest

from dask_taskrunner.placement import Need, WorkerView, lacking, why_it_waits, why_nothing_runs

SMALL = WorkerView("tcp://10.0.0.1:33", "w0", 2, {"GPU": 1.0}, 2)
LARGE = WorkerView("tcp://10.0.0.2:34", "w1", 4, {"GPU": 2.0, "SSD": 1.0}, 4)
BOTH = [SMALL, LARGE]


@pytest.mark.parametrize(
    ("resources", "workers", "text"),
    [
        (None, None, None),
        ({"GPU": 2}, None, None),
        ({"GPU": 3}, None, "fit needs GPU=3, and no worker has more than GPU=2"),
        ({"TPU": 1}, None, "fit needs TPU=1, and no worker has that"),
        (None, ("w1",), None),
        (None, ("10.0.0.1",), None),
        (None, ("tcp://10.0.0.2:34",), None),
        (
            None,
            ("w9", "w8"),
            "fit may only run on 'w9' or 'w8', and there is no such worker: there are w0, w1",
        ),
        ({"SSD": 1}, ("w0",), "fit needs SSD=1, and no worker has that"),
    ],
)
def test_what_no_worker_has_is_named(resources, workers, text):
    assert lacking(Need("fit", resources, workers), BOTH) == text


@pytest.mark.parametrize(
    ("needs", "workers", "text"),
    [
        ([Need("a", None, None)], [], "no worker is connected; 1 task run waits"),
        (
            [Need("a", {"TPU": 1}, None), Need("b", None, None)],
            BOTH,
            "a needs TPU=1, and no worker has that",
        ),
        (
            [Need("a", None, None), Need("b", None, None)],
            BOTH,
            "2 task runs wait for a place: all 6 threads of 2 workers are busy",
        ),
        (
            [Need("a", None, None)],
            [SMALL._replace(executing=0)],
            "1 task run waits, and none of 1 workers has begun one",
        ),
        (
            [Need("a", None, None)],
            [SMALL._replace(is_paused=True)],
            "1 task run waits for a place: all 1 workers have paused: their memory is nearly full",
        ),
    ],
)
def test_why_nothing_runs(needs, workers, text):
    assert why_nothing_runs(needs, workers) == text


@pytest.mark.parametrize(
    ("need", "workers", "held", "expected"),
    [
        (Need("a", None, None), [], {}, ("no-worker", "no worker is connected")),
        (
            Need("a", {"TPU": 1}, None),
            BOTH,
            {},
            ("no-worker", "a needs TPU=1, and no worker has that"),
        ),
        # Each is there, and on no worker both.
        (
            Need("a", {"GPU": 2, "SSD": 1}, None),
            [
                WorkerView("tcp://10.0.0.1:33", "w0", 2, {"GPU": 2}, 0),
                WorkerView("tcp://10.0.0.2:34", "w1", 2, {"SSD": 1}, 0),
            ],
            {},
            ("no-worker", "a asks for more than any one worker has"),
        ),
        (
            Need("a", {"DB": 1}, None),
            [WorkerView("tcp://10.0.0.1:33", "w0", 2, {"DB": 2}, 2)],
            {"tcp://10.0.0.1:33": [Need("b", {"DB": 2}, None), Need("c", None, None)]},
            ("limit", "a needs DB=1, and what the workers have of that is taken by b"),
        ),
        # What is left is enough, but there is no thread.
        (
            Need("a", {"DB": 1}, None),
            [WorkerView("tcp://10.0.0.1:33", "w0", 2, {"DB": 3}, 2)],
            {"tcp://10.0.0.1:33": [Need("b", {"DB": 2}, None)]},
            ("busy", "all 2 threads of the 1 worker that a may run on are busy"),
        ),
        # The threads of those that do not suit are nothing to it.
        (
            Need("a", None, ("w1",)),
            [
                WorkerView("tcp://10.0.0.1:33", "w0", 4, {}, 0),
                WorkerView("tcp://10.0.0.2:34", "w1", 1, {}, 1),
            ],
            {},
            ("busy", "all 1 threads of the 1 worker that a may run on are busy"),
        ),
        (
            Need("a", None, None),
            [WorkerView("tcp://10.0.0.1:33", "w0", 4, {}, 1)],
            {},
            ("open", ""),
        ),
        (
            Need("a", None, None),
            [WorkerView("tcp://10.0.0.1:33", "w0", 4, {}, 1, is_paused=True)],
            {},
            (
                "busy",
                "all of the 1 worker that a may run on have paused: their memory is nearly full",
            ),
        ),
    ],
)
def test_why_one_of_them_waits(need, workers, held, expected):
    assert why_it_waits(need, workers, held) == expected
