"""Which workers may run what, and why nothing runs."""

from __future__ import annotations

import pytest

from dask_taskrunner.placement import Need, WorkerView, lacking, why_nothing_runs

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
    ],
)
def test_why_nothing_runs(needs, workers, text):
    assert why_nothing_runs(needs, workers) == text
