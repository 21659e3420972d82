"""Random plans, and random walks through what may happen to them."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import Plan, PlannedRun, Role
from fakes.mapped_plans import NO_LISTS, NO_MAPS, Over, with_maps
from fakes.model_cluster import ModelCluster, Move
from fakes.model_states import Script

#: So many steps without an end are a hang.
PATIENCE = 5000
NO_ROLES: Mapping[int, Role] = MappingProxyType({})
NOTHING_GIVEN: Mapping[int, Header] = MappingProxyType({})


def make_runs(
    upstream: Mapping[int, tuple[int, ...]],
    *,
    max_crash_retries: int = 2,
    handlers: bool = False,
    settles: Collection[int] = (),
    roles: Mapping[int, Role] = NO_ROLES,
    given: Mapping[int, Header] = NOTHING_GIVEN,
    maps: Mapping[int, Over] = NO_MAPS,
    lists: Mapping[int, Collection[int]] = NO_LISTS,
) -> tuple[PlannedRun, ...]:
    """Return runs from position -> positions upstream; see :func:`with_maps` for mapped ones."""
    runs = tuple(
        PlannedRun(
            id=(n, -1),
            name=f"task{n % 3}",
            slug=f"t{n}",
            upstream=tuple((u, -1) for u in sorted(sources)),
            max_crash_retries=max_crash_retries,
            has_handlers=handlers,
            settles=n in settles,
            role=roles.get(n, "run"),
            given=given.get(n),
        )
        for n, sources in sorted(upstream.items())
    )
    return with_maps(runs, maps, lists) if maps else runs


def make_plan(
    upstream: Mapping[int, tuple[int, ...]],
    *,
    reference: set[int] | None = None,
    kept: set[int] | None = frozenset(),  # type: ignore[assignment]
    handlers: bool = False,
    is_open: bool = False,
    **options: Any,
) -> Plan:
    """Return a plan of such runs; the terminal ones are the reference, of an open plan none."""
    runs = make_runs(upstream, handlers=handlers, **options)
    inner = {u for sources in upstream.values() for u in sources}
    chosen = set(upstream) - inner if reference is None and not is_open else reference or set()
    wanted = None if kept is None else frozenset((n, -1) for n in kept)
    return Plan(runs, frozenset((n, -1) for n in chosen), wanted, handlers, is_open)


def random_plan(rng: random.Random, *, max_crash_retries: int) -> Plan:
    """Return a plan of up to nine runs."""
    count = rng.randint(1, 9)
    density = rng.choice((0.15, 0.35, 0.6))
    upstream = {n: tuple(u for u in range(n) if rng.random() < density) for n in range(count)}
    everything = range(count)
    return make_plan(
        upstream,
        reference=rng.choice((None, set(rng.sample(everything, rng.randint(1, count))))),
        kept=rng.choice((set(), None, set(rng.sample(everything, rng.randint(0, count))))),
        max_crash_retries=max_crash_retries,
        handlers=rng.random() < 0.3,
    )


def random_scripts(rng: random.Random, plan: Plan, again: Sequence[str]) -> dict[TaskRunId, Script]:
    """Return what each body does."""
    return {run.id: script_of(rng, again) for run in plan.runs}


def script_of(rng: random.Random, again: Sequence[str]) -> Script:
    """Return what one body does."""
    ends = ("small", "big", "big", "big", "fail", "skip", "pause", "cancel")
    weights = (5, 5, 5, 5, 2, 1, 0.5, 0.5)
    retries = rng.choice((0, 0, 0, 1, 1, 2, 4))
    end = rng.choices(ends, weights)[0]
    return Script(
        does=("retry",) * retries + (end,),
        trigger=rng.choice(("all_successful", "all_successful", "all_finished")),
        again=rng.choice((None, None, *again)),
        delay=rng.choice((0.0, 0.5, 2.0)),
    )


@dataclass
class Walk:
    """One random walk from a run's start until nothing can happen any more."""

    cluster: ModelCluster
    rng: random.Random
    #: How many faults there are to be at most.
    faults: int
    #: Which kinds of fault there may be.
    kinds: frozenset[str]
    #: How the run is broken off, and after how many steps.
    breaks_off: Move | None = None
    after: int = 0

    def walk(self) -> None:
        cluster, rng = self.cluster, self.rng
        cluster.start()
        for step in range(PATIENCE):
            if self.breaks_off is not None and step == self.after:
                cluster.do(self.breaks_off)
            if self.faults and rng.random() < 0.15:
                self._fault()
                continue
            moves = cluster.moves()
            if not moves and step >= self.after:
                break
            if moves:
                cluster.do(rng.choice(moves))
        assert cluster.machine.final is not None, "the run hangs"
        assert not cluster.moves(), "the run has no end"

    def _fault(self) -> None:
        faults = [move for move in self.cluster.faults() if move[0] in self.kinds]
        if faults:
            self.faults -= 1
            # First what kind: else the kinds that fit many tasks would crowd out the others.
            kind = self.rng.choice(sorted({str(move[0]) for move in faults}))
            self.cluster.do(self.rng.choice([move for move in faults if move[0] == kind]))
