"""Random walks through plans that grow, and through runs that are given, foreign or outside.

As in the other random walks everything is checked after each event; here stands what must be true
at the end. Every result is dropped at some moment, but for a few that are held for good.
"""

from __future__ import annotations

import pickle
import random
from collections import Counter, defaultdict

import pytest
from fakes.growing_cluster import GrowingCluster
from fakes.model_oracle import flow_state, oracle
from fakes.random_flows import Walk
from fakes.random_growth import random_growth

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.events import TaskRunEnded
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.states import STATE_CLASSES, Finished

pytestmark = pytest.mark.many

SEED = 20261125
BATCHES, RUNS = 5, 120
#: What people do; it changes no outcome but in ways that the cluster knows of.
ASKED = frozenset({"want", "read", "cancel one", "abandon"})
HARMLESS = ASKED | {
    "double", "drop", "report", "kill", "kill under", "report and kill", "retire", "vanish",
    "execute again",
}  # fmt: skip
HARMFUL = HARMLESS | {"error", "cancel by another"}


def walked(
    seed: int,
    *,
    budget: int,
    kinds: frozenset[str],
    again: tuple[str, ...] = ("retry",),
    is_exact: bool = False,
    breaks_off: str | None = None,
) -> GrowingCluster:
    """Walk, and check what is true at the end of any run."""
    rng = random.Random(seed)
    cluster = random_growth(seed, rng, budget=budget, again=again, is_exact=is_exact)
    walk = Walk(cluster, rng, faults=rng.randint(0, 12), kinds=kinds)
    if breaks_off is not None:
        walk.breaks_off, walk.after = (breaks_off,), rng.randint(0, 30)
    try:
        walk.walk()
        check_history(cluster)
        check_attempts(cluster)
        check_memory(cluster)
        if is_exact:
            check_against_oracle(cluster)
    except Exception:
        print(f"seed {seed}\n{cluster.story()}")
        raise
    return cluster


def check_history(cluster: GrowingCluster) -> None:
    """The history is a chain for each run, and its end is what the run shows."""
    shown: dict[TaskRunId | None, str] = defaultdict(lambda: "Pending")
    for entry in cluster.all_history:
        assert entry.old == shown[entry.task_run], entry
        assert entry.task_run is None or not issubclass(STATE_CLASSES[entry.old], Finished), entry
        shown[entry.task_run] = entry.new
    for id, record in cluster.machine.records.items():
        assert record.shown == shown[id]
    assert cluster.machine.final is not None
    assert shown[None] == cluster.machine.final.state


def check_attempts(cluster: GrowingCluster) -> None:
    """Each execution of a body that was heard of is an attempt, once."""
    heard: dict[TaskRunId, set[int]] = defaultdict(set)
    for event, _ in cluster.log:
        if isinstance(event, TaskRunEnded) and event.header and event.header.started is not None:
            heard[event.id].add(event.header.execution)
    for id, record in cluster.machine.records.items():
        written = [v.execution for v in record.values if isinstance(v, Header)]
        assert sorted(written) == sorted(heard[id]), id


def check_memory(cluster: GrowingCluster) -> None:
    """What has finished and is held by nobody is there only for what may be sent again."""
    records = cluster.machine.records
    if not cluster.plan.is_open:
        assert {id for id in records if id[1] < 0} == cluster.runs.keys()
        return
    needed = {
        id for id, record in records.items() if cluster.handles[id] or record.phase != "finished"
    }
    for id in reversed(list(records)):
        if id in needed and records[id].needs_upstream:
            needed.update(records[id].plan.upstream)
    assert records.keys() == needed
    assert not cluster.forgotten & records.keys()
    assert {name for name, counts in cluster.machine.counts.items() if +counts} == {
        record.plan.name for record in records.values()
    }


def check_against_oracle(cluster: GrowingCluster) -> None:
    """Every state and every held result is the only right one, of what is forgotten as well."""
    right = oracle(cluster.whole, cluster.scripts, cluster.forced)
    finals = cluster.finals()
    for id, outcome in right.items():
        header = finals.get(id)
        assert (header and header.state) == (outcome and outcome[0]), id
        if header is None or outcome is None:
            continue
        if header.small is not None:
            assert pickle.loads(header.small) == outcome[1], id
        elif header.kind and cluster.holds(id):
            value = cluster.tasks[id, cluster.held[id]].value
            if value is not None and value.header.is_successful:
                assert value.result == outcome[1], id
    assert cluster.machine.final is not None
    states = {id: outcome[0] if outcome else None for id, outcome in right.items()}
    assert cluster.machine.final.state == flow_state(cluster.plan, states)


def seeds(batch: int) -> range:
    return range(SEED + batch * RUNS, SEED + (batch + 1) * RUNS)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_with_large_budgets_every_run_ends_as_the_oracle_says(batch: int) -> None:
    for seed in seeds(batch):
        walked(seed, budget=1000, kinds=HARMLESS, is_exact=True)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_with_small_budgets_and_any_fault_every_run_ends(batch: int) -> None:
    for seed in seeds(batch):
        cluster = walked(seed, budget=seed % 3, kinds=HARMFUL, again=("retry", "fail", "pause"))
        for record in cluster.machine.records.values():
            assert record.phase in ("finished", "paused", "waiting", "expanded")


@pytest.mark.parametrize("how", ["cancel", "lose cluster"])
def test_a_run_that_is_broken_off_at_any_moment_ends_at_once(how: str) -> None:
    for seed in range(SEED, SEED + RUNS):
        cluster = walked(seed, budget=1, kinds=HARMFUL, breaks_off=how)
        for record in cluster.machine.records.values():
            if record.plan.role == "outside":
                assert record.phase == "paused"


def test_a_log_replayed_gives_the_same_commands() -> None:
    for seed in range(SEED, SEED + RUNS // 2):
        cluster = walked(seed, budget=1, kinds=HARMFUL)
        again = Machine(cluster.plan)
        assert [again.handle(event) for event, _ in cluster.log] == [
            commands for _, commands in cluster.log
        ]


def test_the_random_runs_are_worth_something() -> None:
    # Were the walks to miss what they are for, all of the above would hold of nothing.
    seen: Counter[str] = Counter()
    for seed in range(SEED, SEED + RUNS):
        cluster = walked(seed, budget=1, kinds=HARMFUL)
        seen.update(type(event).__name__ for event, _ in cluster.log)
        seen.update(type(command).__name__ for _, commands in cluster.log for command in commands)
        seen.update(header.state for header in cluster.finals().values())
        seen.update(run.role for run in cluster.runs.values())
        seen["forgotten"] += len(cluster.forgotten)
        seen["empty at the end"] += cluster.plan.is_open and not cluster.machine.records
        seen["left at the end"] += len(cluster.machine.records)
        seen["given up"] += len(cluster.given_up & cluster.forgotten)
        seen["sent again"] += sum(n > 1 for _, n in cluster.tasks)
    for what in (
        "RunsAdded", "NoMoreRuns", "ForeignEnded", "ResultsWanted", "ResultsDropped",
        "RunsCancelled", "HistoryRead", "Settled", "Forget", "given", "foreign", "outside",
        "Success", "Failed", "Cancelled", "TriggerFailed", "Skipped", "forgotten",
        "empty at the end", "left at the end", "given up", "ValueLost",
    ):  # fmt: skip
        assert seen[what] >= 10, (what, seen)
