"""Small flows, and everything that may happen to them in every order: all stories end alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes.every_order import ends_of_every_order
from fakes.mapped_plans import Over
from fakes.model_cluster import ModelCluster
from fakes.model_oracle import flow_state, oracle
from fakes.model_states import Script
from fakes.random_flows import make_plan

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import Plan

pytestmark = pytest.mark.many

PAIR = {0: (), 1: (0,)}
FORK = {0: (), 1: (0,), 2: (0,)}
DIAMOND = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}
BIG = Script(("big",))

CASES: dict[str, tuple[dict[int, tuple[int, ...]], dict[int, Script], list[tuple[str, int]]]] = {
    "a diamond": (DIAMOND, {}, []),
    "an arm of a diamond retries": (DIAMOND, {1: Script(("retry", "big"))}, []),
    "two readers retry": (FORK, {1: Script(("retry", "big")), 2: Script(("retry", "big"))}, []),
    "an arm fails and the end runs all the same": (
        DIAMOND,
        {0: BIG, 1: Script(("fail",)), 3: Script(trigger="all_finished")},
        [("double", 1)],
    ),
    "news is lost": (PAIR, {0: BIG}, [("drop", 2)]),
    "news is doubled": (PAIR, {0: Script(("retry", "big"))}, [("double", 1)]),
    "news is lost and doubled": (PAIR, {0: BIG}, [("drop", 1), ("double", 1)]),
    "a worker dies": (PAIR, {0: BIG}, [("kill", 1), ("report", 1)]),
    "a worker dies under a run": (PAIR, {0: Script(("retry", "big"))}, [("report and kill", 1)]),
    "a worker retires": (PAIR, {0: BIG}, [("retire", 1)]),
    "a value is lost": (PAIR, {0: BIG, 1: BIG}, [("vanish", 1)]),
    "dask executes again": (PAIR, {0: BIG}, [("execute again", 2)]),
    "dask executes again, and it comes to nothing": (
        PAIR,
        {0: Script(("big",), again="retry")},
        [("execute again", 1), ("double", 1)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_comes_in_whatever_order_the_end_is_the_same(case: str) -> None:
    upstream, scripts, faults = CASES[case]
    plan = make_plan(upstream, max_crash_retries=10)
    filled = {run.id: scripts.get(run.id[0], Script()) for run in plan.runs}
    right = {id: outcome and outcome[0] for id, outcome in oracle(plan, filled).items()}
    stories = 0
    for cluster in ends_of_every_order(lambda: ModelCluster(plan, filled), faults):
        stories += 1
        machine = cluster.machine
        assert {id: r.header and r.header.state for id, r in machine.records.items()} == right
        assert machine.final is not None
        assert machine.final.state == flow_state(plan, right)
    assert stories > 0


RETRIES = Script(("retry", "big"))
TWO = Over(lengths=(2,))
REDUCE = make_plan({0: (), 1: (0,)}, maps={0: TWO}, lists={1: (0,)}, max_crash_retries=10)
LINE = make_plan(
    {0: (), 1: (0,), 2: (1,)},
    maps={0: TWO, 1: Over(by_index=(0,))},
    lists={2: (1,)},
    max_crash_retries=10,
)
OVER_LIST = make_plan(
    {0: (), 1: (0,), 2: (1,)},
    maps={1: Over(elements=(0,))},
    lists={2: (1,)},
    max_crash_retries=10,
)
LIST = {(0, -1): Script(("list1",))}

MAPPED: dict[str, tuple[Plan, dict[TaskRunId, Script], list[tuple[str, int]]]] = {
    "a child retries": (REDUCE, {(0, 0): RETRIES}, []),
    "a child fails, the other retries": (REDUCE, {(0, 0): RETRIES, (0, 1): Script(("fail",))}, []),
    "a child's news is lost": (REDUCE, {}, [("drop", 1)]),
    "a child retries, and a worker dies": (REDUCE, {(0, 0): RETRIES}, [("kill", 1)]),
    "a child's value is lost": (REDUCE, {}, [("vanish", 1)]),
    "the first of a line of children retries": (LINE, {(0, 0): RETRIES}, []),
    "the list is lost": (OVER_LIST, LIST, [("vanish", 1)]),
    "the list retries, and a worker dies": (
        OVER_LIST,
        {(0, -1): Script(("retry", "list1"))},
        [("kill", 1)],
    ),
    "dask executes again": (OVER_LIST, LIST, [("execute again", 1), ("double", 1)]),
}


@pytest.mark.parametrize("case", MAPPED)
def test_whatever_comes_in_whatever_order_a_map_and_its_reduce_end_the_same(case: str) -> None:
    plan, scripts, faults = MAPPED[case]
    filled = {(n, child): BIG for n in range(3) for child in range(-1, 2)} | scripts
    right = {id: outcome and outcome[0] for id, outcome in oracle(plan, filled).items()}
    stories = 0
    for cluster in ends_of_every_order(lambda: ModelCluster(plan, filled), faults):
        stories += 1
        machine = cluster.machine
        assert {id: r.header and r.header.state for id, r in machine.records.items()} == right
        assert machine.final is not None
        assert machine.final.state == flow_state(plan, right)
    assert stories > 0


@pytest.mark.parametrize("faults", [[("error", 1)], [("cancel by another", 1)]])
def test_whatever_is_broken_for_good_no_order_hangs(faults: Sequence[tuple[str, int]]) -> None:
    plan = make_plan(FORK)
    scripts = {run.id: BIG for run in plan.runs}
    ends = {
        tuple(r.header.state for r in cluster.machine.records.values() if r.header)
        for cluster in ends_of_every_order(lambda: ModelCluster(plan, scripts), faults)
    }
    assert ("Success", "Success", "Success") in ends
    assert len(ends) == 4
