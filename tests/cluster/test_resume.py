"""Resumed flow runs on worker processes: what is held stays where it is, and workers are killed."""

from __future__ import annotations

import logging
import os
import re

import numpy as np
import pytest
from distributed import Client, LocalCluster
from marks import eventually, is_whole
from watched import kill, tasks_on, worker_pids

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    OptionError,
    Parameter,
    context,
    expand,
    states,
    task,
    unmapped,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def cluster():
    """A cluster of the test's own, for workers are killed; see the tests of losses."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={"allowed_failures": 0},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        yield client


COUNT = 6


class Bodies:
    """Tasks that leave marks; which of them fail, a mark says."""

    def __init__(self, marks) -> None:
        @task
        def rows(count):
            marks.add("rows")
            return [np.full(10_000, n) for n in range(count)]

        @task
        def clean(x):
            marks.add("clean", context.slug)
            if x[0] == 3 and not marks.count("mended"):
                raise ValueError("three")
            return x + 1

        @task
        def fit(x, by):
            marks.add("fit", context.slug)
            return x * by

        @task
        def total(xs):
            marks.add("total")
            return int(sum(x.sum() for x in xs))

        @task
        def report(rows):
            marks.add("report")
            if not marks.count("mended"):
                raise ValueError("not mended")
            return len(rows)

        self.rows, self.clean, self.fit, self.total, self.report = rows, clean, fit, total, report

    def flow(self):
        with Flow("etl") as flow:
            made = self.rows(COUNT)
            self.total(self.fit.map(self.clean.map(made), unmapped(Parameter("by", default=2))))
            self.report(made)
        return flow


#: What `total` comes to.
TOTAL = 2 * 10_000 * sum(range(1, COUNT + 1))


def counted(marks):
    return {name: marks.count(name) for name in ("rows", "clean", "fit", "total", "report")}


def test_one_failed_child_runs_again_with_what_is_behind_it(runner, client, marks):
    bodies = Bodies(marks)
    first = runner.run(bodies.flow())
    assert first["clean"].state.counts == {"Success": COUNT - 1, "Failed": 1}
    before = counted(marks)
    marks.add("mended")
    # The flow is built anew, as after an edit.
    run = runner.run(bodies.flow(), resume=first)
    assert run.result() == {"total": TOTAL, "report": COUNT}
    after = counted(marks)
    assert {name: after[name] - before[name] for name in after} == {
        "rows": 0, "clean": 1, "fit": 1, "total": 1, "report": 1,
    }  # fmt: skip
    assert run.notes[0].text == "reuses 11 task runs, runs 4"
    assert len(run.notes) == 1
    assert marks.texts("clean")[-1] == "clean[3]"
    assert run.counts == {"Success": 2 * COUNT + 3}


def test_workers_that_are_killed_between_the_runs_cost_what_they_held(
    runner, client, cluster, marks
):
    bodies = Bodies(marks)
    first = runner.run(bodies.flow())
    before = counted(marks)
    marks.add("mended")
    # Both, for each may have a copy.
    pids = worker_pids(client)
    for pid in pids.values():
        kill(pid)
    assert eventually(lambda: not set(pids) & set(client.scheduler_info()["workers"]))
    run = runner.run(bodies.flow(), resume=first)
    assert run.result() == {"total": TOTAL, "report": COUNT}
    after = counted(marks)
    assert after["total"] - before["total"] == 1
    assert after["report"] - before["report"] == 1
    # What was held is made again, and what that had been made of: by Dask, or here where Dask has
    # given it up, because it had begun on the second worker when that one was killed.
    assert after["rows"] > before["rows"]
    assert after["fit"] - before["fit"] >= COUNT
    assert after["clean"] - before["clean"] >= COUNT
    first_line, second = [note.text for note in run.notes][:2]
    said = re.fullmatch(
        r"reuses (\d+) task runs?, runs 4(?:, computes (\d+) again .*)?", first_line
    )
    assert int(said[1]) + int(said[2] or 0) >= 11
    assert second.startswith(("lost with a worker, and made again by Dask", "computed again"))
    assert eventually(lambda: is_whole(cluster))


def test_results_that_are_gone_are_computed_again_on_the_cluster(runner, client, marks):
    bodies = Bodies(marks)
    marks.add("mended")
    first = runner.run(bodies.flow(), keep="none")
    assert eventually(lambda: not tasks_on(client)), tasks_on(client)
    before = counted(marks)
    run = runner.run(bodies.flow(), resume=first, rerun=["fit[2]"])
    assert run.result("total") == TOTAL
    after = counted(marks)
    assert {name: after[name] - before[name] for name in after} == {
        "rows": 1, "clean": COUNT, "fit": COUNT, "total": 1, "report": 0,
    }  # fmt: skip
    assert run.notes[0].text == (
        "reuses 1 task run, runs 2, computes 12 again because their results are gone"
    )


def test_workers_that_are_killed_while_the_rest_runs_cost_no_more(runner, client, cluster, marks):
    bodies = Bodies(marks)
    first = runner.run(bodies.flow())
    marks.add("mended")

    @task(name="total")
    def waits(xs):
        if marks.add("waits") == 1:
            marks.wait("killed")
        return int(sum(x.sum() for x in xs))

    bodies.total = waits
    run = runner.start(bodies.flow(), resume=first)
    # The earlier run may be forgotten: what it held this one holds.
    del first
    marks.wait("waits")
    for pid in worker_pids(client).values():
        kill(pid)
    marks.add("killed")
    assert run.wait(30).state.is_successful()
    assert run.result("total") == TOTAL
    assert eventually(lambda: is_whole(cluster))


def test_a_child_of_a_large_list_that_runs_alone_reads_its_element(runner, client, marks):
    @task
    def rows():
        return [np.full(500_000, n) for n in range(8)]

    @task
    def clean(x):
        marks.add("clean", context.slug)
        if x[0] == 5 and not marks.count("mended"):
            raise ValueError("five")
        return int(x.sum())

    with Flow("large") as flow:
        clean.map(rows())
    first = runner.run(flow)
    marks.add("mended")
    run = runner.run(flow, resume=first)
    assert run.result() == [500_000 * n for n in range(8)]
    assert marks.texts("clean")[8:] == ["clean[5]"]


def test_a_changed_parameter_reruns_what_takes_it(runner, client, marks):
    bodies = Bodies(marks)
    marks.add("mended")
    first = runner.run(bodies.flow(), by=5, return_tasks=["clean"])
    before = counted(marks)
    kept = runner.run(bodies.flow(), resume=first)
    assert counted(marks) == before
    assert kept.parameters == {"by": 5}
    run = runner.run(bodies.flow(), resume=first, by=2)
    assert run.result("total") == TOTAL
    after = counted(marks)
    assert {name: after[name] - before[name] for name in after} == {
        "rows": 0, "clean": 0, "fit": COUNT, "total": 1, "report": 0,
    }  # fmt: skip


def test_a_run_that_lost_its_worker_for_good_is_resumed(runner, client, cluster, marks):
    """The task kills its worker until it is mended: it crashed, and runs again."""

    @task(max_crash_retries=0)
    def dies(rows):
        marks.add("dies")
        if not marks.count("mended"):
            # Long enough to be known to be running there.
            import time

            time.sleep(0.3)
            os._exit(1)
        return len(rows)

    @task
    def rows():
        marks.add("rows")
        return list(range(10_000))

    with Flow("crash") as flow:
        dies(rows())
    first = runner.run(flow)
    assert type(first["dies"].state) is states.Crashed
    marks.add("mended")
    assert eventually(lambda: is_whole(cluster))
    run = runner.run(flow, resume=first)
    assert run.result() == 10_000
    assert run.notes[0].text == "reuses 1 task run, runs 1"


def test_a_cancelled_run_goes_on_where_it_was(runner, client, marks):
    @task
    def step(n):
        marks.add("step", f"{context.flow_run_id} {context.slug}")
        if n[0] == 4:
            marks.add("reached")
            marks.wait("open")
        return n

    @task
    def rows():
        return [np.full(10_000, n) for n in range(COUNT)]

    @task
    def total(xs):
        return int(sum(x[0] for x in xs))

    with Flow("cancelled") as flow:
        total(step.map(rows()))
    first = runner.start(flow)
    marks.wait("reached")
    done = eventually(
        lambda: [c.slug for c in first["step"].children if c.state.is_successful()][:4]
    )
    assert len(done) >= 1
    first.cancel()
    first.wait(20)
    marks.add("open")
    done = [child.slug for child in first["step"].children if child.state.is_successful()]
    assert eventually(lambda: not first.still_running)
    run = runner.run(flow, resume=first)
    assert run.result() == sum(range(COUNT))
    again = [text.split()[1] for text in marks.texts("step") if text.startswith(run.run_id)]
    assert sorted([*again, *done]) == [f"step[{n}]" for n in range(COUNT)]


def test_what_had_grown_is_read_where_its_result_lies(runner, client, marks):
    @task
    def make():
        marks.add("make")
        return np.arange(50_000)

    @task
    def grows():
        marks.add("grows")
        with Flow("inner") as inner:
            make()
        return expand(inner)

    @task
    def reads(rows):
        if not marks.count("mended"):
            raise ValueError("no")
        return int(rows.sum())

    with Flow("grown") as flow:
        reads(grows())
    first = runner.run(flow)
    marks.add("mended")
    run = runner.run(flow, resume=first)
    assert run.result() == np.arange(50_000).sum()
    assert (marks.count("make"), marks.count("grows")) == (1, 1)
    assert run.notes[0].text == "reuses 1 task run, runs 1"


def test_another_runner_of_the_same_client_may_resume(runner, client, marks):
    bodies = Bodies(marks)
    with DaskTaskRunner(client=client) as other:
        first = other.run(bodies.flow())
        marks.add("mended")
        run = runner.run(bodies.flow(), resume=first)
        assert run.result("total") == TOTAL
        assert run.notes[0].text == "reuses 11 task runs, runs 4"
    # That one has closed: what it held is gone, but what is small.
    before = counted(marks)
    again = runner.run(bodies.flow(), resume=first)
    assert again.result("total") == TOTAL
    assert counted(marks)["rows"] == before["rows"] + 1
    assert "again because their results are gone" in again.notes[0].text


def test_a_run_of_another_client_cannot_be_resumed(runner, cluster, marks):
    bodies = Bodies(marks)
    first = runner.run(bodies.flow())
    with Client(cluster, set_as_default=False) as other, DaskTaskRunner(client=other) as second:
        with pytest.raises(OptionError, match="another Dask client"):
            second.run(bodies.flow(), resume=first)
        assert second.last_run is None


def test_a_lost_cluster_leaves_what_its_record_has(marks):

    from dask_taskrunner import ClusterLost

    @task
    def small():
        marks.add("small")
        return 5

    @task
    def large(n):
        marks.add("large")
        return np.full(10_000, n)

    @task
    def waits(rows, n):
        marks.add("reached")
        marks.wait("open")
        return int(rows.sum()) + n

    with Flow("lost") as flow:
        n = small()
        waits(large(n), n)

    def cluster():
        return LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )  # fmt: skip

    first_cluster = cluster()
    try:
        with Client(first_cluster, set_as_default=False) as client:
            runner = DaskTaskRunner(client=client)
            first = runner.start(flow)
            marks.wait("reached")
            first_cluster.close()
            with pytest.raises(ClusterLost):
                first.wait(20)
            marks.add("open")
            runner.close()
    finally:
        first_cluster.close()
    with (
        cluster() as second_cluster,
        Client(second_cluster, set_as_default=False) as client,
        DaskTaskRunner(client=client) as runner,
    ):
        run = runner.run(flow, resume=first)
        assert run.result() == 50_005
    assert (marks.count("small"), marks.count("large")) == (1, 2)
    assert run.notes[0].text == (
        "reuses 1 task run, runs 1, computes 1 again because its result is gone"
    )
