"""What need not wait for each other runs on all workers, and chains stay where they are."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from distributed import get_worker

from dask_taskrunner import Flow, task

pytestmark = pytest.mark.cluster

#: What a module keeps, as a user's may.
KEPT = []


@task
def sleeps(x):
    time.sleep(0.02)
    return x


@task
def keeps(x):
    KEPT.append(x)
    time.sleep(0.02)
    return len(KEPT), id(KEPT), get_worker().address


def workers_of(run, slugs):
    return Counter(run[slug].attempts[-1].worker for slug in slugs)


@pytest.mark.parametrize("known", [False, True])
def test_a_fan_out_is_divided_among_the_workers(runner, known):
    with Flow("fan") as flow:
        for n in range(40):
            sleeps(n)
    # Dask moves no task of which it knows that it is over soon.
    for _ in range(1 + known):
        run = runner.run(flow)
    shares = workers_of(run, run)
    assert len(shares) == 2
    assert min(shares.values()) >= 10


def test_children_are_divided_among_the_workers(runner):
    with Flow("map") as flow:
        sleeps.map(list(range(40)))
        sleeps.map(sleeps([*range(40)]))
    run = runner.run(flow)
    for name in ("sleeps", "sleeps-3"):
        shares = Counter(child.attempts[-1].worker for child in run[name].children)
        assert min(shares.values(), default=0) >= 10, (name, shares)
        assert len(shares) == 2


def test_a_chain_stays_on_its_worker(runner):
    with Flow("chains") as flow:
        for n in range(4):
            last = sleeps(n)
            for _ in range(5):
                last = sleeps(last)
    run = runner.run(flow)
    links = list(run)
    chains = [links[n : n + 6] for n in range(0, 24, 6)]
    moves = sum(len(workers_of(run, chain)) - 1 for chain in chains)
    assert moves <= 1, [workers_of(run, chain) for chain in chains]


def test_what_a_module_keeps_is_kept_once_on_a_worker(runner):
    with Flow("kept") as flow:
        found = [keeps(n) for n in range(20)]
    run = runner.run(flow)
    kept = Counter(run[one].result()[1:] for one in found)
    # One list for each worker, though there are as many copies of what they are made from.
    assert len({worker for _, worker in kept}) == len(kept) == 2
