"""A model cluster whose plans have mapped runs, and the oracle for these.

A child's final state follows from its script and what is upstream of it, as any run's does; a
mapped run's from its children's.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import MapPlan, Plan, PlannedRun
from fakes.model_cluster import ModelCluster
from fakes.model_dask import EPOCH, SimTask
from fakes.model_oracle import Outcome
from fakes.model_states import (
    Script,
    Value,
    before_body,
    header_of,
    result_of,
    state_of,
    waits_for,
)
from fakes.random_flows import random_scripts

#: No mapped run of a random plan has more children.
MOST = 4


@dataclass
class MappedCluster(ModelCluster):
    """What a worker does with mapped runs."""

    #: Of runs that are mapped over: how many elements their results have.
    lengths: Mapping[int, int] = field(default_factory=dict)

    def _execute(self, task: SimTask, number: int, worker: str) -> Value:
        run = task.submission
        upstream = [
            Value.of_header(source) if isinstance(source, Header) else self._value(id, source)
            for id, source in zip(run.upstream_ids, run.upstream, strict=True)
        ]
        at = EPOCH + self.now
        script = self.scripts[run.id]

        def value(state: str, started: float | None = None, **more: object) -> Value:
            return Value(
                header_of(
                    run, state, execution=number, worker=worker, at=at, started=started, **more
                ),
                None,
            )

        if (unfinished := waits_for(upstream)) is not None:
            return value("Pending", more={"waits_for": list(unfinished.id)})
        states = list(_states(upstream, run.widths, len(self._plan_of(run.id).upstream)))
        if (state := before_body(script, [[state] for state in states])) is not None:
            return value(state)
        if run.expands:
            return value("Running", more={"expands": True})
        word = script.at(run.run_number, task.executed > 0)
        state, kind = state_of(word)
        if word == "retry":
            return value(state, at, more={"delay": script.delay})
        if state != "Success":
            return value(state, at)
        result = result_of(run.id, word, [source.result for source in upstream])
        small = pickle.dumps(result) if word == "small" else None
        n = run.id[0]
        more = {"length": self.lengths[n]} if n in self.lengths else {}
        return Value(value(state, at, kind=kind, small=small, more=more).header, result)

    def _value(self, id: TaskRunId, submission: int) -> Value:
        value = self.tasks[id, submission].value
        assert value is not None
        return value

    def _plan_of(self, id: TaskRunId) -> PlannedRun:
        return self.machine.records[id].plan


def _states(upstream: Sequence[Value], widths: Mapping[int, int], count: int) -> Iterator[str]:
    values = iter(upstream)
    for position in range(count):
        if position not in widths:
            header = next(values).header
            if header.state == "Mapped":
                yield from together(list(header.more["counts"]))
            else:
                yield header.state
            continue
        yield from together([next(values).header.state for _ in range(widths[position])])


def together(states: Sequence[str]) -> list[str]:
    """Return the state that children come to, as a trigger sees it; none where there are none."""
    failed = [s for s in states if s in ("Failed", "TriggerFailed", "Crashed")]
    if failed:
        return ["Failed"]
    if "Cancelled" in states:
        return ["Cancelled"]
    if not states:
        return []
    return ["Skipped"] if all(s == "Skipped" for s in states) else ["Success"]


def random_maps(
    rng: random.Random, *, budget: int, again: tuple[str, ...], allowed_failures: int
) -> MappedCluster:
    """Return a cluster whose plan has mapped runs."""
    count = rng.randint(2, 7)
    mapped: list[int] = []
    lengths: dict[int, int] = {}
    runs: list[PlannedRun] = []
    for n in range(count):
        whole = [u for u in range(n) if rng.random() < 0.3]
        maps, upstream = None, [(u, -1) for u in whole]
        if rng.random() < 0.55:
            maps, upstream = _random_map(rng, n, mapped, whole, lengths)
            mapped.append(n)
        lists = frozenset(
            position
            for position, (u, _) in enumerate(upstream)
            if u in mapped
            and (maps is None or position not in maps.by_index)
            and rng.random() < 0.6
        )
        runs.append(
            PlannedRun(
                (n, -1), f"task{n % 3}", f"t{n}", tuple(upstream), budget, maps=maps, lists=lists,
                has_handlers=rng.random() < 0.2, settles=rng.random() < 0.3,
            )
        )  # fmt: skip
    read = {u for run in runs for u, _ in run.upstream}
    reference = frozenset((n, -1) for n in range(count) if n not in read)
    kept = rng.choice((frozenset(), None, reference))
    plan = Plan(tuple(runs), reference, kept)
    names = [*runs, *(run._replace(id=(run.id[0], i)) for run in runs for i in range(MOST))]
    scripts = random_scripts(rng, plan._replace(runs=tuple(names)), again)
    cluster = MappedCluster(plan, scripts, allowed_failures=allowed_failures, lengths=lengths)
    return cluster


def _random_map(
    rng: random.Random, n: int, mapped: list[int], whole: list[int], lengths: dict[int, int]
) -> tuple[MapPlan, list[TaskRunId]]:
    upstream = [(u, -1) for u in whole]
    plain = [u for u in range(n) if u not in mapped and u not in whole]
    others = [u for u in mapped if u not in whole]
    by_index: dict[int, str] = {}
    elements: dict[int, str] = {}
    known: dict[str, int] = {}
    if others and rng.random() < 0.6:
        by_index[len(upstream)] = "x"
        upstream.append((rng.choice(others), -1))
    if plain and rng.random() < 0.5:
        elements[len(upstream)] = "y"
        source = rng.choice(plain)
        lengths.setdefault(source, rng.randint(0, MOST))
        upstream.append((source, -1))
    if not upstream[len(whole) :] or rng.random() < 0.2:
        known["z"] = rng.randint(0, MOST)
    maps = MapPlan(by_index, elements, known, rng.random() < 0.8, len(upstream))
    return maps, upstream


def oracle_of_maps(
    plan: Plan, scripts: Mapping[TaskRunId, Script], lengths: Mapping[int, int]
) -> dict[TaskRunId, Outcome | None]:
    """Return the right end of each run, the children's too; None where it ends unfinished."""
    found: dict[TaskRunId, Outcome | None] = {}
    children: dict[TaskRunId, list[TaskRunId]] = {}
    for run in plan.runs:
        if run.maps is None:
            found[run.id] = _end(run, run.upstream, scripts[run.id], found, children)
            continue
        end, length = _expanded(run, scripts[run.id], found, children, lengths)
        if length is None:
            found[run.id] = end
            continue
        ids = children[run.id] = [(run.id[0], i) for i in range(length)]
        for i, id in enumerate(ids):
            upstream = tuple(
                (u[0], i) if position in run.maps.by_index else u
                for position, u in enumerate(run.upstream)
            )
            found[id] = _end(run, upstream, scripts[id], found, children, id)
        found[run.id] = None if any(found[id] is None for id in ids) else ("Mapped", None)
    return found


def _end(
    run: PlannedRun,
    upstream: Sequence[TaskRunId],
    script: Script,
    found: Mapping[TaskRunId, Outcome | None],
    children: Mapping[TaskRunId, list[TaskRunId]],
    id: TaskRunId | None = None,
) -> Outcome | None:
    states: list[str] = []
    results: list[object] = []
    for position, source in enumerate(upstream):
        outcome = found[source]
        if outcome is None:
            return None
        if outcome[0] != "Mapped":
            states.append(outcome[0])
            results.append(outcome[1])
            continue
        ends = [found[child] for child in children[source]]
        states += together([end[0] for end in ends if end])
        if position in run.lists:
            results += [end[1] for end in ends if end]
        else:
            results.append(None)
    state = before_body(script, [[state] for state in states])
    if state is not None:
        return (state, None)
    word = next(word for word in script.does if word != "retry")
    if word == "pause":
        return None
    ended, _ = state_of(word)
    return (ended, result_of(id or run.id, word, results) if ended == "Success" else None)


def _expanded(  # noqa: C901 (the rule's table, in its order)
    run: PlannedRun,
    script: Script,
    found: Mapping[TaskRunId, Outcome | None],
    children: Mapping[TaskRunId, list[TaskRunId]],
    lengths: Mapping[int, int],
) -> tuple[Outcome | None, int | None]:
    """Return how a mapped run ends without children, or how many it has."""
    maps = run.maps
    assert maps is not None
    by_index = [run.upstream[position] for position in maps.by_index]
    apart = {id for id in by_index if id in children}
    if maps.elements or len(apart) < len(by_index):
        states: list[str] = []
        for id in run.upstream:
            if id in apart:
                continue
            outcome = found[id]
            if outcome is None:
                return None, None
            if outcome[0] == "Mapped":
                states += together([end[0] for child in children[id] if (end := found[child])])
            else:
                states.append(outcome[0])
        state = before_body(script, [[state] for state in states])
        if state is not None:
            return (state, None), None
    all_lengths = [*maps.lengths.values(), *(len(children[id]) for id in apart)]
    for position in (*maps.elements, *maps.by_index):
        id = run.upstream[position]
        if id in apart:
            continue
        outcome = found[id]
        if outcome is None or outcome[0] != "Success" or id[0] not in lengths:
            return ("Failed", None), None
        all_lengths.append(lengths[id[0]])
    if len(set(all_lengths)) > 1 and not maps.zip_shortest:
        return ("Failed", None), None
    return None, min(all_lengths)
