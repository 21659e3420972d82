"""The report of a run on worker processes says what these did."""

from __future__ import annotations

import json
import re
import time

import pytest

from dask_taskrunner import Flow, context, task

pytestmark = pytest.mark.cluster


@task
def numbers(n):
    return list(range(n))


@task(max_retries=1, retry_delay=0.1)
def work(x):
    time.sleep(0.01)
    if x % 5 == 0 and context.task_run_number == 1:
        raise ConnectionError("the line is busy")
    return x


@task
def total(xs):
    return sum(xs)


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_there_is_a_lane_for_each_thread_and_in_none_does_anything_overlap(
    runner, client, tmp_path
):
    with Flow("etl") as flow:
        total(work.map(numbers(40)))
    run = runner.run(flow)
    data = data_of(run.report(tmp_path / "run.html").read_text(encoding="utf-8"))
    threads = client.nthreads()
    by_worker = {}
    for lane in data["lanes"]:
        worker, _, place = lane.rpartition(" #")
        by_worker.setdefault(worker, []).append(int(place))
    for worker, places in by_worker.items():
        assert places == list(range(1, len(places) + 1))
        assert len(places) <= threads[worker]
    assert len(data["bars"]) == 2 + 40 + 8
    ends = {}
    for _, lane, available, started, ended, _ in sorted(data["bars"], key=lambda bar: bar[3]):
        assert available <= started <= ended
        assert ends.get(lane, 0.0) <= started
        ends[lane] = ended
    retried = [
        since_placed
        for since_placed, bar in zip(data["waits"], data["bars"], strict=True)
        if bar[2] - since_placed[0] > 0.05
    ]
    # Each of them waited until its retry was due.
    assert len(retried) == 8
