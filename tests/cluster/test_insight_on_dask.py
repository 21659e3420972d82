"""What a run on real workers tells of itself: the figures of a fake have no noise."""

from __future__ import annotations

import logging
import random
import time

import pytest
from distributed import Client, LocalCluster
from marks import eventually

from dask_taskrunner import DaskTaskRunner, Flow, exceptions, task

pytestmark = pytest.mark.cluster


@task
def sleeps(seconds):
    time.sleep(seconds)


@pytest.fixture
def of_single_threads():
    """Return a runner on so many single-threaded workers."""
    made = []

    def start(workers):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        made.append(cluster)
        client = Client(cluster, set_as_default=False)
        made.append(client)
        made.append(DaskTaskRunner(client=client))
        return made[-1]

    yield start
    for one in reversed(made):
        one.close()


def warm(runner):
    """Have every worker import what it needs: that is no part of the flow that is measured."""
    with Flow("warm") as flow:
        for _ in range(8):
            sleeps(0.1)
    runner.run(flow)


@pytest.mark.slow
def test_sixty_sleeping_tasks_measured_on_four_workers_tell_how_long_two_take(of_single_threads):
    durations = random.Random(1)
    with Flow("sleep") as flow:
        for _ in range(60):
            sleeps(durations.uniform(0.05, 0.5))
    runner = of_single_threads(4)
    warm(runner)
    measured = runner.run(flow)
    runner = of_single_threads(2)
    warm(runner)
    took = runner.run(flow).critical_path().seconds
    predicted = measured.what_if(workers=2)
    assert predicted.workers == 2
    assert predicted.seconds == pytest.approx(took, rel=0.15)


@task(resources={"DB": 1})
def reads(marks):
    marks.add("reads")
    marks.wait("done")


@task
def first(marks):
    marks.wait("reads")


@task
def uses(marks):
    marks.add("uses")
    marks.wait("done")


@task(resources={"GPU": 1})
def fits():
    pass


def test_the_workers_tell_why_what_was_sent_does_not_begin(marks):
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            resources={"DB": 1},
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskTaskRunner(client=client) as runner,
    ):
        with Flow("limits") as flow:
            # Or both threads might be taken before one of those that read has begun.
            begun = first(marks)
            for _ in range(2):
                reads(marks)
                uses(marks, upstream_tasks=[begun])
            sleeps(0, upstream_tasks=[fits()])
        with pytest.warns(exceptions.UnsatisfiableWarning, match="fits needs GPU=1"):
            run = runner.start(flow)
        marks.wait("reads")
        marks.wait("uses")

        def why(*slugs):
            # Which of those that are alike begins is Dask's choice.
            told = [run.explain(slug).root_cause for slug in slugs]
            return sorted((one.kind, one.text) for one in told)

        # Bodies are heard of after a moment, and how busy a worker is comes with its heartbeats.
        reading, using = ("reads", "reads-2"), ("uses", "uses-2")
        assert eventually(lambda: [kind for kind, _ in why(*reading)] == ["limit", "running"])
        assert " needs DB=1, and what the workers have of that is taken by" in why(*reading)[0][1]
        assert eventually(lambda: [kind for kind, _ in why(*using)] == ["busy", "running"])
        assert "all 2 threads of the 1 worker that uses" in why(*using)[0][1]
        assert why("sleeps") == [("no-worker", "fits needs GPU=1, and no worker has that")]
        run.cancel()
        marks.add("done")
        run.wait(20)


def test_the_critical_path_of_a_run_on_workers_explains_all_its_time(runner):
    with Flow("chain") as flow:
        sleeps(0.3, upstream_tasks=[sleeps(0.5)])
        sleeps(0.1)
    warm(runner)
    run = runner.run(flow)
    path = run.critical_path()
    # Dask may put what is alone behind either of the others: so what ended last is asked for.
    ended = {slug: run[slug].attempts[-1].ended - run.history[0].at for slug in run}
    assert path[-1].slug == max(ended, key=ended.get)
    assert sum(path.spent.values()) == pytest.approx(path.seconds, abs=0.01)
    assert path.slack["sleeps-3"] == pytest.approx(
        max(ended.values()) - ended["sleeps-3"], abs=0.01
    )
    assert path.slack["sleeps"] == pytest.approx(path.slack["sleeps-2"], abs=0.05)
    for step in path:
        assert step.running == pytest.approx(run.table(step.slug)[0]["seconds"], abs=0.01)


def test_what_an_input_took_on_its_way_is_told(runner, client):
    @task
    def makes():
        return bytes(60_000_000)

    @task
    def reads(data):
        return len(data)

    first, second = sorted(client.scheduler_info()["workers"])[:2]
    with Flow("move") as flow:
        data = makes(task_args={"workers": [first]})
        here = reads(data, task_args={"workers": [first]})
        there = reads(data, task_args={"workers": [second]})
    run = runner.run(flow)
    made = run[data].attempts[-1].ended
    # The flow's definition may come from another worker as well, before.
    came = [
        [one for one in run[slug].attempts[-1].fetched if one[1] > made] for slug in (here, there)
    ]
    assert came[0] == []
    # With it, or by itself, comes the copy of the definition behind which it stands.
    begin, end = min(came[1])[0], max(end for _, end in came[1])
    assert made <= begin < end <= run[there].attempts[-1].started
    assert run.explain(there).spent["fetching"] == pytest.approx(end - begin, rel=0.5)
