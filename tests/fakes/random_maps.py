"""Random plans with mapped runs: over constants, lists and each other, with reduces behind them."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import Plan
from fakes.mapped_plans import Over
from fakes.model_states import Script
from fakes.random_flows import make_plan, random_scripts, script_of

#: No mapped run has more children.
MOST = 3


@dataclass
class Shape:
    """What stands behind what."""

    upstream: dict[int, tuple[int, ...]] = field(default_factory=dict)
    maps: dict[int, Over] = field(default_factory=dict)
    lists: dict[int, tuple[int, ...]] = field(default_factory=dict)
    #: Those whose results have elements.
    returns_list: list[int] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        return {"maps": self.maps, "lists": self.lists}


def random_shape(rng: random.Random, count: int, elsewhere: Collection[int] = ()) -> Shape:
    """Return a shape of so many tasks, of which some have their states from elsewhere."""
    shape = Shape()
    density = rng.choice((0.2, 0.4))
    for n in range(count):
        kind = rng.choice(("list", "mapped", "mapped", "plain"))
        sources = {u for u in range(n) if rng.random() < density}
        if n in elsewhere:
            kind, sources = rng.choice(("list", "plain")), set()
        if kind == "mapped":
            over = shape.maps[n] = random_over(rng, sources, shape)
            sources |= {*over.by_index, *over.elements, *(u for own in over.own for u in own)}
        elif kind == "list":
            shape.returns_list.append(n)
        shape.upstream[n] = tuple(sources)
        shape.lists[n] = tuple(u for u in sources if u in shape.maps and rng.random() < 0.6)
    return shape


def random_over(rng: random.Random, sources: set[int], shape: Shape) -> Over:
    """Return what a task is mapped over; some sources only order it, or are passed to all."""
    by_index = {u for u in shape.maps if rng.random() < 0.5}
    elements = {u for u in shape.returns_list if rng.random() < 0.4}
    # What has no elements is mapped over as well.
    elements |= {u for u in sources - shape.maps.keys() if rng.random() < 0.1}
    lengths, own = [], []
    if not by_index | elements or rng.random() < 0.2:
        lengths.append(rng.choice((2, 2, 2, 2, 0, 1, MOST)))
    if sources and rng.random() < 0.2:
        most = sorted(sources)
        own = [tuple(rng.sample(most, rng.randint(0, min(2, len(most))))) for _ in range(2)]
    return Over(
        tuple(sorted(by_index)),
        tuple(sorted(elements)),
        tuple(lengths),
        rng.random() < 0.5,
        tuple(own),
        child_bytes=(10, 20, 30),
    )


def random_maps(
    rng: random.Random, *, max_crash_retries: int, again: Sequence[str]
) -> tuple[Plan, dict[TaskRunId, Script]]:
    """Return a plan of up to seven tasks, of which some are mapped, and what the bodies do."""
    count = rng.randint(2, 7)
    shape = random_shape(rng, count)
    everything = range(count)
    plan = make_plan(
        shape.upstream,
        reference=rng.choice((None, set(rng.sample(everything, rng.randint(1, count))))),
        kept=rng.choice((set(), None, set(rng.sample(everything, rng.randint(0, count))))),
        max_crash_retries=max_crash_retries,
        handlers=rng.random() < 0.3,
        settles=set(rng.sample(everything, count // 2)),
        **shape.options,
    )
    return plan, with_children(rng, shape, random_scripts(rng, plan, again), again)


def with_children(
    rng: random.Random, shape: Shape, scripts: dict[TaskRunId, Script], again: Sequence[str]
) -> dict[TaskRunId, Script]:
    """Return the scripts, with those of children, and of bodies that return lists."""
    for n in shape.returns_list:
        scripts[n, -1] = _returning_list(rng, scripts[n, -1])
    for n in shape.maps:
        # The trigger of all of them is the task's.
        trigger = scripts[n, -1].trigger
        for child in range(MOST):
            scripts[n, child] = replace(script_of(rng, again), trigger=trigger)
    return scripts


def _returning_list(rng: random.Random, script: Script) -> Script:
    """Return a script that ends, where it succeeds, with something that has elements."""
    *before, word = script.does
    if word not in ("small", "big"):
        return script
    length = rng.choice((2, 2, 2, 2, 0, 1, MOST))
    return replace(script, does=(*before, f"{'few' if word == 'small' else 'list'}{length}"))
