"""What mapped tasks move between worker processes, and what is left of it after a death."""

from __future__ import annotations

import logging
import os

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from marks import eventually, is_whole
from traffic import Traffic, moved_between_workers
from watched import assert_nothing_left, kill, worker_pids

from dask_taskrunner import DaskTaskRunner, Flow, task, unmapped

pytestmark = pytest.mark.cluster

MEGABYTE = 1_000_000


@task
def chunks(count, size):
    return [np.full(size, i, dtype=np.uint8) for i in range(count)]


@task
def first_of(chunk):
    return int(chunk[0])


@task
def total(xs):
    return sum(xs)


@task
def inc(x, by=1):
    return x + by


# --- what moves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", ["mapped", "results"])
def test_results_of_children_stay_where_they_are(runner, monkeypatch, reads):
    @task
    def grow(x):
        return np.full(MEGABYTE, x, dtype=np.uint8)

    with Flow("stay") as flow:
        grown = grow.map([1, 2, 3, 4])
        if reads == "mapped":
            total(first_of.map(grown))
        else:
            task(lambda xs: sum(int(x[0]) for x in xs))(grown)
    traffic = Traffic(monkeypatch)
    assert runner.run(flow).result() == 10
    assert traffic.bytes < MEGABYTE


def test_elements_are_taken_where_the_list_lies(runner, client):
    @task(workers=sorted(client.nthreads())[0])
    def here(x):
        return os.getpid(), int(x[0])

    with Flow("here") as flow:
        made = chunks(8, MEGABYTE, task_args={"workers": sorted(client.nthreads())[0]})
        here.map(made)
    before = moved_between_workers(client)
    found = runner.run(flow).result()
    assert [x for _, x in found] == list(range(8))
    assert moved_between_workers(client) - before < MEGABYTE


def test_the_children_of_an_earlier_run_are_read_where_they_are(runner, monkeypatch):
    @task
    def grow(x):
        return np.full(MEGABYTE, x, dtype=np.uint8)

    with Flow("middle") as flow:
        total(first_of.map(grow.map([1, 2, 3, 4])))
    first = runner.run(flow, keep="all")
    traffic = Traffic(monkeypatch)
    run = runner.run(flow, task_states={"grow": first["grow"].state}, keep="none")
    assert run["total"].result() == 10
    assert traffic.bytes < MEGABYTE
    assert not any(child.attempts for child in run["grow"].children)
    first.release()


def test_a_map_over_a_future_moves_nothing_through_the_client(runner, monkeypatch):
    traffic = Traffic(monkeypatch)
    made = runner.submit(made_of("list", 10))
    futures = runner.map(first_of, made)
    assert len(futures) == 10
    assert futures.results(timeout=20) == list(range(10))
    with Flow("rows") as flow:
        made_of("list", 5)()
    run = runner.run(flow)
    assert runner.map(first_of, run["made"]).results(timeout=20) == list(range(5))
    theirs = runner.client.submit(made_of("array", 4).run)
    assert runner.map(first_of, theirs).results(timeout=20) == list(range(4))
    assert traffic.bytes < MEGABYTE
    del theirs


# --- large lists ---------------------------------------------------------------------------------


def made_of(kind, count):
    @task
    def made():
        rows = [np.full(MEGABYTE, i, dtype=np.uint8) for i in range(count)]
        return {"list": rows, "array": np.stack(rows), "Series": pd.Series(rows)}[kind]

    return made


@pytest.mark.parametrize("kind", ["list", "array", "Series"])
def test_of_a_large_list_a_worker_gets_the_elements_that_it_needs(runner, client, kind):
    with Flow("large") as flow:
        total(first_of.map(made_of(kind, 60)()))
    before = moved_between_workers(client)
    run = runner.run(flow)
    assert run.result() == sum(range(60))
    workers = {child.attempts[0].worker for child in run["first_of"].children}
    moved = moved_between_workers(client) - before
    # Uncut, all of it would have to be where anything of it is needed.
    assert len(workers) == 2
    assert moved < 45 * MEGABYTE


def test_split_above_says_from_when_on_a_list_is_cut(runner, client):
    with Flow("whole") as flow:
        made = made_of("list", 30)()
        total(first_of.map(made, task_args={"split_above": float("inf")}))
    before = moved_between_workers(client)
    run = runner.run(flow)
    assert run.result() == sum(range(30))
    workers = {child.attempts[0].worker for child in run["first_of"].children}
    assert (moved_between_workers(client) - before >= 30 * MEGABYTE) == (len(workers) == 2)


def test_two_lists_are_cut_each_and_what_is_passed_whole_is_not(runner):
    @task
    def check(x, y, whole, xs):
        return x, y, len(whole), sum(xs)

    with Flow("several") as flow:
        xs, ys = made_numbers(10), made_numbers(12)
        children = inc.map(xs)
        check.map(
            xs, ys, unmapped(xs), unmapped(children),
            task_args={"split_above": 0, "zip_shortest": True},
        )  # fmt: skip
        check.map(
            inc.map(xs), ys, unmapped("ab"), unmapped(children),
            task_args={"split_above": 0, "zip_shortest": True, "name": "second"},
        )  # fmt: skip
    run = runner.run(flow)
    assert run["check"].result() == [(i, i, 10, 55) for i in range(10)]
    assert run["second"].result() == [(i + 1, i, 2, 55) for i in range(10)]


@task
def made_numbers(count):
    return list(range(count))


# --- deaths --------------------------------------------------------------------------------------


@pytest.fixture
def mortal():
    """A runner on a cluster of the test's own: see test_losses.py."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": 0},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert eventually(lambda: is_whole(cluster))
        with DaskTaskRunner(client=client) as runner:
            yield runner
        assert_nothing_left(client)


def test_a_large_list_may_go_with_its_worker_after_it_was_cut(mortal, marks):
    made = made_of("list", 30)

    @task(max_crash_retries=5)
    def look(chunk):
        if marks.add("look") == 8:
            marks.wait("killed")
        return int(chunk[0])

    with Flow("cut") as flow:
        total(look.map(made()))
    run = mortal.start(flow)
    marks.wait("look", 8)
    kill(worker_pids(mortal.client)[run["made"].attempts[0].worker])
    marks.add("killed")
    run.wait(60)
    assert run.result() == sum(range(30))


def test_a_large_constant_survives_all_workers_that_hold_it(mortal, marks):
    constant = os.urandom(MEGABYTE)

    @task(max_crash_retries=5)
    def look(x, data):
        if marks.add("look") > 8:
            marks.wait("killed")
        return len(data)

    with Flow("survives") as flow:
        total(look.map(list(range(20)), unmapped(constant)))
    run = mortal.start(flow)
    # One waits: Dask may have put them all where the constant lies.
    marks.wait("look", 9)
    for pid in worker_pids(mortal.client).values():
        kill(pid)
    marks.add("killed")
    run.wait(60)
    assert run.result() == 20 * len(constant)
