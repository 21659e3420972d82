"""Thousands of random runs of random flows: nothing hangs, nothing contradicts the rules.

The model cluster checks the machine after every event; here stands what must be true at the end.
A failure prints its seed and its whole story.
"""

from __future__ import annotations

import os
import pickle
import random
from collections import Counter

import pytest
from fakes.model_cluster import ModelCluster
from fakes.model_oracle import flow_state, oracle
from fakes.random_flows import Walk, random_plan, random_scripts
from fakes.random_maps import random_maps

from dask_taskrunner.headers import Header
from dask_taskrunner.machine.events import TaskRunEnded, ValueLost
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.states import STATE_CLASSES, Finished

pytestmark = pytest.mark.many

SEED = 20261122
#: Batches of so many runs, so that a failure is found, and told of, where it is. 100 are the
#: 20,000 runs by which a change of the machine is judged.
BATCHES, RUNS = int(os.environ.get("RANDOM_BATCHES", "10")), 100
#: Faults after which the right outcome is the oracle's, as long as somebody's budget pays.
HARMLESS = frozenset(
    {
        "double", "drop", "report", "kill", "kill under", "report and kill", "retire", "vanish",
        "execute again",
    }
)  # fmt: skip
HARMFUL = HARMLESS | {"error", "cancel by another"}


def make_walk(
    seed: int, *, budget: int, kinds: frozenset[str], again: tuple[str, ...] = ("retry",)
) -> Walk:
    rng = random.Random(seed)
    if seed % 2:
        plan, scripts = random_maps(rng, max_crash_retries=budget, again=again)
    else:
        plan = random_plan(rng, max_crash_retries=budget)
        scripts = random_scripts(rng, plan, again)
    cluster = ModelCluster(plan, scripts, allowed_failures=rng.choice((0, 0, 1)))
    return Walk(cluster, rng, faults=rng.randint(0, 12), kinds=kinds)


def walked(walk: Walk, seed: int) -> ModelCluster:
    """Walk, and check what is true at the end of any run."""
    cluster = walk.cluster
    try:
        walk.walk()
        check_history(cluster)
        check_attempts(cluster)
    except Exception:
        print(f"seed {seed}\n{cluster.story()}")
        raise
    return cluster


def check_history(cluster: ModelCluster) -> None:
    """The history is a chain for each run, and its sum is what the counts say."""
    shown = dict.fromkeys(cluster.machine.records, "Pending")
    flow = "Pending"
    for entry in cluster.machine.history:
        if entry.task_run is None:
            assert entry.old == flow
            flow = entry.new
            continue
        assert entry.old == shown[entry.task_run], entry
        assert not issubclass(STATE_CLASSES[entry.old], Finished), entry
        shown[entry.task_run] = entry.new
    counts: dict[str, Counter[str]] = {}
    for id, record in cluster.machine.records.items():
        # Of a mapped task the children count, once they are there.
        if record.length is None:
            counts.setdefault(record.plan.name, Counter())[shown[id]] += 1
    shown_counts = {name: +counter for name, counter in cluster.machine.counts.items() if +counter}
    assert shown_counts == counts
    assert cluster.machine.final is not None
    assert flow == cluster.machine.final.state


def check_attempts(cluster: ModelCluster) -> None:
    """Each execution of a body that was heard of is an attempt, once."""
    heard: dict[object, set[int]] = {id: set() for id in cluster.machine.records}
    for event, _ in cluster.log:
        if isinstance(event, TaskRunEnded) and event.header and event.header.started is not None:
            heard[event.id].add(event.header.execution)
    for id, record in cluster.machine.records.items():
        written = [v.execution for v in record.values if isinstance(v, Header)]
        assert sorted(written) == sorted(heard[id]), id
        assert record.plan.maps is None or not record.values, f"{id} is mapped, and had a body"


def check_against_oracle(cluster: ModelCluster) -> None:
    """Every state and every held result is the only right one."""
    right = oracle(cluster.plan, cluster.scripts)
    machine = cluster.machine
    assert machine.records.keys() == right.keys()
    for id, record in machine.records.items():
        outcome = right[id]
        assert (record.header and record.header.state) == (outcome and outcome[0]), id
        if record.header is None or outcome is None:
            continue
        if record.header.state == "Mapped":
            children = (right[child] for child in right if child[0] == id[0] and child != id)
            assert record.header.more["counts"] == Counter(child[0] for child in children if child)
        if record.header.small is not None:
            assert pickle.loads(record.header.small) == outcome[1], id
        elif record.header.kind and cluster.plan.keeps(id):
            assert id in cluster.held, id
            value = cluster.tasks[id, cluster.held[id]].value
            # What is executed again after the end is for whoever fetches it to look at.
            if value is not None and value.header.is_successful:
                assert value.result == outcome[1], id
    assert machine.final is not None
    states = {id: outcome[0] if outcome else None for id, outcome in right.items()}
    assert machine.final.state == flow_state(cluster.plan, states)


def seeds(batch: int) -> range:
    return range(SEED + batch * RUNS, SEED + (batch + 1) * RUNS)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_with_large_budgets_every_run_ends_as_the_oracle_says(batch: int) -> None:
    for seed in seeds(batch):
        cluster = walked(make_walk(seed, budget=1000, kinds=HARMLESS), seed)
        try:
            check_against_oracle(cluster)
        except AssertionError:
            print(f"seed {seed}\n{cluster.story()}")
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
    for seed in range(SEED, SEED + 3 * RUNS):
        walk = make_walk(seed, budget=1, kinds=HARMFUL)
        walk.breaks_off, walk.after = (how,), walk.rng.randint(0, 30)
        cluster = walked(walk, seed)
        final = cluster.machine.final
        assert final is not None
        if final.state in ("Cancelled", "Crashed") and final.message != "cancelled":
            for record in cluster.machine.records.values():
                assert record.phase in ("finished", "paused")


def test_a_log_replayed_gives_the_same_commands() -> None:
    for seed in range(SEED, SEED + RUNS):
        cluster = walked(make_walk(seed, budget=1, kinds=HARMFUL), seed)
        again = Machine(cluster.plan)
        assert [again.handle(event) for event, _ in cluster.log] == [
            commands for _, commands in cluster.log
        ]
        assert again.history == cluster.machine.history


def test_the_random_runs_are_worth_something() -> None:
    # Were the walks to miss what they are for, all of the above would hold of nothing.
    outcomes: Counter[str] = Counter()
    for seed in range(SEED, SEED + 2 * RUNS):
        cluster = walked(make_walk(seed, budget=1, kinds=HARMFUL), seed)
        for record in cluster.machine.records.values():
            outcomes.update(attempt.outcome for attempt in record.attempts())
            outcomes[record.header.state if record.header else record.phase] += 1
            outcomes["lost for good"] += record.by_value is not None
            outcomes["children"] += record.family is not None
            outcomes["no children"] += record.length == 0
            outcomes["asked"] += record.plan.maps is not None and record.submission > 0
            outcomes["asked again"] += record.plan.maps is not None and record.submission > 1
        for event, _ in cluster.log:
            lost = isinstance(event, ValueLost) and event.id[1] >= 0
            outcomes["child's value lost"] += lost
    for what in (
        "success", "retrying", "re-executed", "worker-lost", "paused", "Crashed", "Cancelled",
        "TriggerFailed", "Skipped", "waiting", "lost for good", "Mapped", "children", "no children",
        "asked", "child's value lost",
    ):  # fmt: skip
        assert outcomes[what] >= 10, outcomes
    for what in ("asked again", "expanded"):
        assert outcomes[what] >= 3, outcomes
