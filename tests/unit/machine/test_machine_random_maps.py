"""Random runs of random plans with mapped runs: nothing hangs, nothing contradicts the rules."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import pytest
from fakes.mapped_cluster import MappedCluster, oracle_of_maps, random_maps
from fakes.random_flows import Walk
from test_machine_random import BATCHES, HARMFUL, HARMLESS, check_attempts, seeds

from dask_taskrunner.machine.machine import Machine


def make_walk(
    seed: int, *, budget: int, kinds: frozenset[str], again: tuple[str, ...] = ("retry",)
) -> Walk:
    rng = random.Random(seed)
    cluster = random_maps(rng, budget=budget, again=again, allowed_failures=rng.choice((0, 0, 1)))
    return Walk(cluster, rng, faults=rng.randint(0, 12), kinds=kinds)


def walked(walk: Walk, seed: int) -> MappedCluster:
    cluster = walk.cluster
    assert isinstance(cluster, MappedCluster)
    try:
        walk.walk()
        check_attempts(cluster)
    except Exception:
        print(f"seed {seed}\n{cluster.plan}\n{cluster.story()}")
        raise
    return cluster


def check_against_oracle(cluster: MappedCluster) -> None:
    right = oracle_of_maps(cluster.plan, cluster.scripts, cluster.lengths)
    records = cluster.machine.records
    assert set(right) == set(records)
    for id, record in records.items():
        outcome = right[id]
        assert (record.header and record.header.state) == (outcome and outcome[0]), id
        if record.header is not None and record.header.small is not None and outcome:
            assert pickle.loads(record.header.small) == outcome[1], id


@pytest.mark.parametrize("batch", range(BATCHES))
def test_with_large_budgets_every_run_ends_as_the_oracle_says(batch: int) -> None:
    for seed in seeds(batch):
        cluster = walked(make_walk(seed, budget=1000, kinds=HARMLESS), seed)
        try:
            check_against_oracle(cluster)
        except AssertionError:
            print(f"seed {seed}\n{cluster.plan}\n{cluster.story()}")
            raise


@pytest.mark.parametrize("batch", range(BATCHES))
def test_with_small_budgets_and_any_fault_every_run_ends(batch: int) -> None:
    for seed in seeds(batch):
        walk = make_walk(seed, budget=seed % 3, kinds=HARMFUL, again=("retry", "fail", "pause"))
        cluster = walked(walk, seed)
        for record in cluster.machine.records.values():
            assert record.phase in ("finished", "paused", "waiting", "expanded")


@pytest.mark.parametrize("how", ["cancel", "lose cluster"])
def test_a_run_that_is_broken_off_at_any_moment_ends_at_once(how: str) -> None:
    for seed in seeds(0):
        walk = make_walk(seed, budget=1, kinds=HARMFUL)
        walk.breaks_off, walk.after = (how,), walk.rng.randint(0, 40)
        cluster = walked(walk, seed)
        final = cluster.machine.final
        assert final is not None
        if final.state == "Cancelled" and final.message == "cancelled by the user":
            assert {record.phase for record in cluster.machine.records.values()} == {"finished"}


def test_a_log_replayed_gives_the_same_commands() -> None:
    for seed in seeds(1):
        cluster = walked(make_walk(seed, budget=1, kinds=HARMFUL), seed)
        again = Machine(cluster.plan)
        assert [again.handle(event) for event, _ in cluster.log] == [
            commands for _, commands in cluster.log
        ]


def test_the_random_maps_are_worth_something() -> None:
    seen: Counter[str] = Counter()
    for seed in (*seeds(2), *seeds(3), *seeds(4)):
        cluster = walked(make_walk(seed, budget=1, kinds=HARMFUL), seed)
        for record in cluster.machine.records.values():
            if record.length is not None:
                seen["expanded"] += 1
                seen["empty"] += not record.length
                seen["by index"] += bool(record.plan.maps and record.plan.maps.by_index)
            if record.plan.maps is not None and record.header is not None:
                seen[record.header.state] += 1
            seen["child"] += record.family is not None
            seen["lists"] += bool(record.plan.lists)
    for what in ("expanded", "empty", "by index", "child", "lists", "Mapped", "Failed"):
        assert seen[what] >= 10, seen
