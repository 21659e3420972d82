"""Random plans that grow, and closed ones that begin in their middle or lean on other runs."""

from __future__ import annotations

import random
from dataclasses import replace

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import Plan, PlannedRun, Role
from fakes.growing_cluster import GrowingCluster, first_send, value_elsewhere
from fakes.model_dask import EPOCH
from fakes.model_states import Script, header_of
from fakes.random_flows import make_plan, random_scripts
from fakes.random_maps import Shape, random_shape, with_children


def random_growth(
    seed: int, rng: random.Random, *, budget: int, again: tuple[str, ...], is_exact: bool
) -> GrowingCluster:
    """Return a cluster whose plan is open in three cases of four; half of the others have maps."""
    is_open = seed % 4 > 0
    count = rng.randint(2, 10)
    roles = random_roles(rng, count)
    elsewhere = {n for n in roles if roles[n] != "outside"}
    if seed % 8 == 0:
        shape = random_shape(rng, count, elsewhere)
    else:
        density = rng.choice((0.15, 0.35, 0.6))
        shape = Shape(
            {
                n: () if n in elsewhere else tuple(u for u in range(n) if rng.random() < density)
                for n in range(count)
            }
        )
    upstream = shape.upstream
    needed = {u for sources in upstream.values() for u in sources} | elsewhere
    some = needed | set(rng.sample(range(count), count // 2))
    plan = make_plan(
        upstream,
        kept=None if rng.random() < 0.5 else some,
        max_crash_retries=budget,
        handlers=rng.random() < 0.3,
        settles=set(rng.sample(range(count), count // 2)),
        roles=roles,
        is_open=is_open,
        **shape.options,
    )
    scripts = with_roles(rng, plan, random_scripts(rng, plan, again))
    scripts = with_children(rng, shape, scripts, again)
    runs = [_with_given(run, rng, scripts) for run in plan.runs]
    first, *later = _cut(rng, runs) if is_open else [runs]
    forever = {run.id for run in runs if rng.random() < 0.2 and plan.keeps(run.id)}
    if is_exact:
        # What was let go cannot be had again, not even to make again what has read it.
        forever |= {(n, -1) for n in elsewhere}
    return GrowingCluster(
        plan._replace(runs=tuple(first)),
        scripts,
        allowed_failures=rng.choice((0, 0, 1)),
        batches=[tuple(batch) for batch in later],
        kept_for_good=frozenset(forever) if rng.random() < 0.5 or is_exact else frozenset(),
        is_exact=is_exact,
    )


def random_roles(rng: random.Random, count: int) -> dict[int, Role]:
    roles: dict[int, Role] = {}
    for n in range(count):
        role = rng.choices(("run", "given", "foreign", "outside"), (12, 2, 2, 1))[0]
        if role != "run":
            roles[n] = role  # type: ignore[assignment]
    return roles


def with_roles(
    rng: random.Random, plan: Plan, scripts: dict[TaskRunId, Script]
) -> dict[TaskRunId, Script]:
    """Return the scripts, of which those not run here come to the same whenever one looks."""
    for run in plan.runs:
        if run.role in ("given", "foreign"):
            word = rng.choice(("small", "big", "big", "big", "fail", "skip", "cancel"))
            scripts[run.id] = replace(scripts[run.id], does=(word,), again=None)
    return scripts


def _with_given(
    run: PlannedRun, rng: random.Random, scripts: dict[TaskRunId, Script]
) -> PlannedRun:
    if run.role == "given":
        return run._replace(given=value_elsewhere(run.id, scripts[run.id]).header)
    if run.role == "run" and rng.random() < 0.2:
        return run._replace(given=_pending(run, rng))
    return run


def _pending(run: PlannedRun, rng: random.Random) -> Header:
    state = rng.choice(("Pending", "Retrying"))
    more = {"scheduled_time": EPOCH + rng.choice((-1.0, 0.5, 3.0)), "last_run_number": 1}
    return header_of(first_send(run.id), state, more=more if state == "Retrying" else {})


def _cut(rng: random.Random, runs: list[PlannedRun]) -> list[list[PlannedRun]]:
    """Return the runs in batches: what is there from the beginning, and what comes later."""
    batches: list[list[PlannedRun]] = [[]]
    for run in runs:
        if rng.random() < 0.5:
            batches.append([])
        batches[-1].append(run)
    return batches
