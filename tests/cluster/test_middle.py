"""Flow runs that begin in their middle, and cached results, on worker processes."""

from __future__ import annotations

import os
from datetime import timedelta

import numpy as np
import pytest
from distributed import Client, Event
from marks import eventually, is_whole
from watched import kill, tasks_on, worker_pids

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    MissingResult,
    Parameter,
    ResultReleased,
    TaskRunnerWarning,
    cache_validators,
    context,
    exceptions,
    states,
    task,
    triggers,
)
from dask_taskrunner.states import CachedState, Failed, Retrying, Skipped, Success

pytestmark = pytest.mark.cluster

HOUR = timedelta(hours=1)
ROWS = np.arange(50_000)


@pytest.fixture
def workers(client):
    return sorted(client.nthreads())


@task
def extract():
    return np.arange(50_000)


@task
def clean(rows, by=1):
    return rows * by


@task
def total(rows):
    return int(rows.sum())


@task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
def look(x):
    return repr(x.exception) if isinstance(x, MissingResult) else x


def etl():
    with Flow("etl") as flow:
        total(clean(extract()))
    return flow


# --- states that are given -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "seen"),
    [
        (Success(5), 5),
        (Success("x" * 100_000), "x" * 100_000),
        (Skipped(), "None"),
        (Skipped(7), 7),
        (Failed(exception=ValueError("of yesterday")), "ValueError('of yesterday')"),
        (states.Cancelled(message="enough"), "None"),
    ],
    ids=["small", "large", "skipped", "skipped with a result", "failed", "cancelled"],
)
def test_a_state_that_is_given_is_what_its_readers_get(runner, client, state, seen):
    with Flow("given") as flow:
        look(extract())
    run = runner.run(flow, task_states={"extract": state}, return_tasks=["look"])
    assert run.result("look") == seen
    assert type(run["extract"].state) is type(state)
    assert run["extract"].attempts == []


def test_an_array_that_is_given_goes_by_value_and_is_whole(runner, client):
    rows = ROWS.copy()
    run = runner.run(etl(), start_tasks=["clean"], task_states={"extract": Success(rows)})
    assert run.result() == ROWS.sum()
    assert run.result("extract") is rows


def test_a_result_stays_on_the_workers_from_run_to_run(runner, client, marks):
    @task
    def make():
        return Heavy(marks)

    @task
    def size(heavy):
        return len(heavy.data)

    def flow():
        with Flow("heavy") as flow:
            size(make())
        return flow

    earlier = runner.run(flow(), return_tasks=["make"])
    # Another flow object of the same slugs, by another runner on the same client.
    with DaskTaskRunner(client=client) as other:
        run = other.run(flow(), task_states={"make": earlier.states["make"]})
        assert run.result() == 100_000
        assert run["make"].state.is_successful()
        assert run.table("make")[0]["worker"] == earlier.table("make")[0]["worker"]
    assert os.getpid() not in marks.pids("opened")
    again = runner.run(flow(), start_tasks="size", task_states=earlier.states)
    assert again.result() == 100_000
    # Nobody reads it any more, and this run was not asked to keep it.
    assert not again._driver.channel.holds(again._plan.ids["make"])
    assert earlier._driver.channel.holds(earlier._plan.ids["make"])


class Heavy:
    """Tells where it was opened."""

    def __init__(self, marks):
        self.marks = marks
        self.data = b"x" * 100_000

    def __setstate__(self, state):
        vars(self).update(state)
        self.marks.add("opened")


def test_a_result_that_was_released_is_told_before_anything_is_sent(runner, client):
    earlier = runner.run(etl())
    assert eventually(lambda: not tasks_on(client)), tasks_on(client)
    with pytest.raises(ResultReleased, match=r"keep it with return_tasks=\['clean'\]"):
        runner.run(etl(), start_tasks=["total"], task_states={"clean": earlier["clean"].state})
    assert runner.last_run is earlier
    assert not tasks_on(client)
    kept = runner.run(etl(), return_tasks=["clean"])
    kept.release()
    with pytest.raises(ResultReleased):
        runner.run(etl(), task_states={"clean": kept["clean"].state})


def test_a_result_of_another_client_is_told_before_anything_is_sent(runner, cluster):
    earlier = runner.run(etl(), return_tasks=["clean"])
    with Client(cluster, set_as_default=False) as other, DaskTaskRunner(client=other) as second:
        with pytest.raises(ResultReleased, match="another Dask client"):
            second.run(etl(), task_states={"clean": earlier["clean"].state})
        assert second.last_run is None
        by_value = Success(earlier["clean"].result())
        assert second.run(etl(), task_states={"clean": by_value}).result() == ROWS.sum()


def test_a_header_of_a_cluster_that_is_gone_starts_no_new_one(client, monkeypatch):
    from dask_taskrunner.dask_backend import connecting

    with DaskTaskRunner(client=client) as runner:
        earlier = runner.run(etl(), return_tasks=["clean"])
    monkeypatch.setattr(connecting, "LocalCluster", None)
    with pytest.raises(ResultReleased):
        etl().run(task_states={"clean": earlier["clean"].state})


def test_a_given_result_that_went_with_its_worker_is_made_again_by_dask(
    runner, client, cluster, marks
):
    @task
    def make():
        marks.add("make")
        return list(range(10_000))

    @task
    def size(rows):
        return len(rows)

    with Flow("lost") as flow:
        size(make())
    earlier = runner.run(flow, return_tasks=["make"])
    kill(worker_pids(client)[earlier["make"].attempts[0].worker])
    run = runner.run(flow, start_tasks=["size"], task_states={"make": earlier["make"].state})
    assert run.result() == 10_000
    assert marks.count("make") == 2
    assert eventually(lambda: is_whole(cluster))


# --- a part of a flow ----------------------------------------------------------------------------


def test_a_diamond_that_is_started_in_one_arm_retries_there_alone(runner, client, marks):
    @task
    def source():
        marks.add("source")
        return ROWS

    @task(max_retries=2, retry_delay=0.1)
    def flaky(rows):
        marks.add("flaky")
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return rows * 2

    @task
    def other(rows):
        marks.add("other")
        return rows

    @task
    def join(a, b):
        return int((a + b).sum())

    with Flow("diamond") as flow:
        rows = source()
        join(flaky(rows), other(rows))
    first = runner.run(flow, return_tasks=["source", "other"])
    assert first.result() == 3 * ROWS.sum()
    run = runner.run(flow, start_tasks=["flaky"], task_states=first.states)
    assert run.result() == 3 * ROWS.sum()
    assert (marks.count("source"), marks.count("other"), marks.count("flaky")) == (1, 1, 6)
    assert [attempt.outcome for attempt in run["flaky"].attempts] == [
        "retrying", "retrying", "success",
    ]  # fmt: skip
    assert run.state.is_successful()
    with pytest.raises(exceptions.MissingTaskState, match="'source'"):
        runner.run(flow, start_tasks=["flaky"], task_states={"other": first["other"].state})


def test_a_retry_and_a_cached_state_go_on_where_they_were(runner, client):
    @task(max_retries=5)
    def number():
        return context.task_run_number

    with Flow("number") as flow:
        number()
        total(extract())
    cached = CachedState(cached_result=np.ones(100_000), cached_inputs={})
    given = {"number": Retrying(last_run_number=4), "extract": cached}
    run = runner.run(flow, task_states=given)
    assert run.result("number") == 5
    assert run.result("total") == 100_000
    assert run["extract"].state.message == "cached result"


def test_two_upstream_runs_of_one_name_in_two_earlier_runs_stay_two(runner, client):
    first, second = (runner.run(etl(), return_tasks=["extract"]) for _ in range(2))

    @task(trigger=triggers.some_successful(at_least=2))
    def join(a, b):
        return int((a + b).sum())

    with Flow("both") as flow:
        join(extract(), extract())
    given = {"extract": first["extract"].state, "extract-2": second["extract"].state}
    assert runner.run(flow, task_states=given).result() == 2 * ROWS.sum()


# --- cached results ------------------------------------------------------------------------------


def counting(marks, **options):
    """Return a flow with a cached task that counts its bodies."""

    @task(name="made", **({"cache_for": HOUR} | options))
    def made(rows):
        marks.add("made")
        return rows * 2

    def flow(first=0):
        with Flow("cached") as flow:
            Parameter("day", default=1)
            total(made(extract_from(first)))
        return flow

    return flow


@task
def extract_from(first):
    return np.arange(first, first + 50_000)


def test_the_next_run_takes_a_result_from_where_it_lies(runner, client, marks):
    flow = counting(marks)
    first, second = runner.run(flow()), runner.run(flow())
    assert first.result() == second.result() == 2 * ROWS.sum()
    assert marks.count("made") == 1
    assert second["made"].state.message == "cached result"
    assert runner.run(flow(7)).result() != first.result()
    assert marks.count("made") == 2
    runner.clear_cache()
    runner.run(flow(7))
    assert marks.count("made") == 3


def test_a_cached_result_is_taken_over_by_another_worker(runner, client, workers, marks):
    """With what it is compared with, in its wire form."""
    flow = counting(marks)
    first = runner.run(flow())
    maker = first["made"].attempts[0].worker

    def wait(name):
        Event(name).wait(30)

    blocker = client.submit(wait, "maker is busy", workers=[maker], pure=False)
    try:
        second = runner.run(flow())
    finally:
        Event("maker is busy", client=client).set()
    blocker.result()
    Event("maker is busy", client=client).clear()
    (entry,) = [e for e in second.history if e.slug == "made" and e.new == "Success"]
    assert entry.header.worker != maker
    assert second["made"].state.message == "cached result"
    assert second.result() == first.result()
    assert marks.count("made") == 1


@pytest.mark.parametrize(
    ("validator", "other_rows", "other_day"),
    [
        (cache_validators.all_inputs, 2, 1),
        (cache_validators.all_parameters, 1, 2),
        (cache_validators.duration_only, 1, 1),
        (cache_validators.never_use, 2, 2),
        (cache_validators.partial_inputs_only(["rows"]), 2, 1),
        (cache_validators.partial_inputs_only(["other"]), 1, 1),
        (cache_validators.partial_parameters_only(["day"]), 1, 2),
    ],
    ids=repr,
)
def test_validators_are_asked_on_the_worker(runner, marks, validator, other_rows, other_day):
    """Each with the inputs and parameters of then and now: how many bodies have run?"""
    flow = counting(marks, cache_validator=validator)
    runner.run(flow())
    runner.run(flow(5))
    assert marks.count("made") == other_rows
    runner.clear_cache()
    runner.run(flow())
    before = marks.count("made")
    runner.run(flow(), day=2)
    assert marks.count("made") == before + other_day - 1


def test_a_result_that_has_expired_is_let_go_and_made_anew(runner, client, marks):
    with Flow("short") as flow:

        @task(cache_for=timedelta(seconds=0.5))
        def made():
            marks.add("made")
            return ROWS

        made()
    runner.run(flow, keep="none")
    assert any("made" in str(key) for key in tasks_on(client))
    assert eventually(lambda: not tasks_on(client), 5), tasks_on(client)
    runner.run(flow, keep="none")
    assert marks.count("made") == 2


def test_edited_code_is_not_spared(runner, marks):
    def flow(factor):
        @task(name="made", cache_for=HOUR)
        def made():
            marks.add("made")
            return ROWS * factor

        with Flow("edited") as flow:
            total(made())
        return flow

    assert [runner.run(flow(n)).result() for n in (1, 2, 1, 2)] == [
        n * ROWS.sum() for n in (1, 2, 1, 2)
    ]
    assert marks.count("made") == 2


def test_a_cached_result_that_is_gone_is_made_anew(runner, client, marks):
    flow = counting(marks)
    runner.run(flow(), keep="none")
    (entry,) = runner._cache._entries.values()
    client.cancel([entry.future], force=True)
    assert eventually(lambda: entry.future.status == "cancelled")
    assert runner.run(flow()).state.is_successful()
    assert marks.count("made") == 2


def test_a_cached_result_that_goes_while_a_run_waits_for_others_costs_that_run_nothing(
    runner, client, marks
):
    @task
    def gate(name):
        Event(name).wait(30)
        return 1

    @task(cache_for=HOUR, cache_validator=cache_validators.duration_only, max_crash_retries=0)
    def made(x):
        marks.add("made")
        return ROWS

    def flow(name):
        with Flow("gone") as flow:
            total(made(gate(name)))
        return flow

    Event("open", client=client).set()
    runner.run(flow("open"), keep="none")
    run = runner.start(flow("closed"))
    assert eventually(
        lambda: any(str(key).count("made") and run.run_id in str(key) for key in tasks_on(client))
    )
    (entry,) = runner._cache._entries.values()
    client.cancel([entry.future], force=True)
    assert eventually(lambda: entry.future.status == "cancelled")
    Event("closed", client=client).set()
    assert run.wait(20).state.is_successful()
    assert run.result() == ROWS.sum()
    assert marks.count("made") == 2
    for name in ("open", "closed"):
        Event(name, client=client).clear()


def test_a_cached_result_does_not_outlive_its_runner(client, cluster, marks):
    assert eventually(lambda: is_whole(cluster))
    flow = counting(marks)
    with DaskTaskRunner(client=client) as first:
        run = first.run(flow(), keep="none")
        assert any("made" in str(key) for key in tasks_on(client))
    assert run.state.is_successful()
    assert eventually(lambda: not tasks_on(client), 5), tasks_on(client)
    with DaskTaskRunner(client=client) as second:
        second.run(flow())
    assert marks.count("made") == 2
    assert eventually(lambda: not tasks_on(client), 5), tasks_on(client)


def test_a_run_without_a_runner_of_its_own_is_warned_that_nothing_is_cached(client, marks):
    flow = counting(marks)()
    match = "cache_for has no effect here"
    with client.as_current(), pytest.warns(TaskRunnerWarning, match=match) as caught:
        flow.run()
    assert caught[0].filename == __file__
    assert eventually(lambda: not tasks_on(client), 5), tasks_on(client)
