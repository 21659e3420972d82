"""What a flow run must come to: where nothing is lost for good, there is one right outcome.

It is found from the plan and the scripts alone, whatever happens on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import Plan, PlannedRun
from fakes.mapped_plans import child_plan
from fakes.model_states import Elements, Script, before_body, result_of, state_of

#: The name of a state's class, and the result.
Outcome: TypeAlias = tuple[str, object]
NOTHING_FORCED: Mapping[TaskRunId, Outcome | None] = MappingProxyType({})
FAILED = ("Failed", "TriggerFailed", "Crashed")


def oracle(
    plan: Plan,
    scripts: Mapping[TaskRunId, Script],
    forced: Mapping[TaskRunId, Outcome | None] = NOTHING_FORCED,
) -> dict[TaskRunId, Outcome | None]:
    """Return the right final state and result of each run; None where it ends unfinished.

    Of some it may be known otherwise. Mapped runs have their children behind them.
    """
    found = _Oracle(scripts, forced)
    for run in plan.runs:
        if run.id in forced:
            found.outcomes[run.id] = forced[run.id]
        elif run.maps is None:
            found.outcomes[run.id] = found.of_body(run.id, run.upstream, run.lists)
        else:
            found.take_family(run)
    return found.outcomes


@dataclass
class _Oracle:
    scripts: Mapping[TaskRunId, Script]
    forced: Mapping[TaskRunId, Outcome | None]
    outcomes: dict[TaskRunId, Outcome | None] = field(default_factory=dict)
    #: Mapped runs that have children -> how many.
    lengths: dict[TaskRunId, int] = field(default_factory=dict)

    def _children(self, id: TaskRunId) -> list[TaskRunId]:
        return [(id[0], map_index) for map_index in range(self.lengths[id])]

    def _seen(self, id: TaskRunId) -> list[str] | None:
        """Return the states that a trigger sees of a run; None where it is unfinished."""
        if self.outcomes[id] is None:
            return None
        ids = self._children(id) if id in self.lengths else [id]
        return [outcome[0] for of in ids if (outcome := self.outcomes[of]) is not None]

    def _result(self, id: TaskRunId) -> object:
        outcome = self.outcomes[id]
        return None if outcome is None else outcome[1]

    def of_body(
        self,
        id: TaskRunId,
        upstream: Sequence[TaskRunId],
        lists: frozenset[int],
        elements: frozenset[int] = frozenset(),
    ) -> Outcome | None:
        """Return what a run comes to that has a body."""
        seen = [self._seen(source) for source in upstream]
        if None in seen:
            return None
        script = self.scripts[id]
        state = before_body(script, [states for states in seen if states is not None])
        if state is not None:
            return state, None
        word = next((word for word in script.does if word != "retry"), script.does[-1])
        assert word != "retry", "this one never ends"
        state, _ = state_of(word)
        if word == "pause":
            return None
        if state != "Success":
            return state, None
        inputs: list[object] = []
        for position, source in enumerate(upstream):
            value = self._result(source)
            if position in elements and isinstance(value, Elements):
                value = value[id[1]]
            if position in lists and source in self.lengths:
                value = tuple(self._result(child) for child in self._children(source))
            inputs.append(value)
        return state, result_of(id, word, inputs)

    def take_family(self, run: PlannedRun) -> None:
        """Find out what a mapped run and its children come to."""
        maps = run.maps
        assert maps is not None
        expanded = {at for at in maps.by_index if run.upstream[at] in self.lengths}
        # Where there are no children to ask their triggers, its own is asked.
        known = {*maps.lengths.values(), *(self.lengths[run.upstream[at]] for at in expanded)}
        is_empty = 0 in known and len(expanded) < len(run.upstream)
        if maps.elements or expanded != set(maps.by_index) or is_empty:
            # Its trigger is asked about all but that.
            sources = [id for at, id in enumerate(run.upstream) if at not in expanded]
            seen = [self._seen(id) for id in sources]
            if None in seen:
                self.outcomes[run.id] = None
                return
            told = [states for states in seen if states is not None]
            state = before_body(self.scripts[run.id], told)
            if state is not None:
                self.outcomes[run.id] = state, None
                return
        length = self._length(run)
        if length is None:
            self.outcomes[run.id] = "Failed", None
            return
        self.lengths[run.id] = length
        for child in self._children(run.id):
            if child in self.forced:
                self.outcomes[child] = self.forced[child]
            else:
                self.outcomes[child] = self.of_body(child, *child_plan(run, child[1]))
        unfinished = any(self.outcomes[child] is None for child in self._children(run.id))
        self.outcomes[run.id] = None if unfinished else ("Mapped", None)

    def _length(self, run: PlannedRun) -> int | None:
        """Return how many children a mapped run has; None where it cannot have any."""
        maps = run.maps
        assert maps is not None
        lengths = [self.lengths.get(run.upstream[at]) for at in maps.by_index]
        for at in maps.elements:
            value = self._result(run.upstream[at])
            lengths.append(len(value) if isinstance(value, Elements) else None)
        known = [length for length in (*lengths, *maps.lengths.values()) if length is not None]
        differ = len(set(known)) > 1 and not maps.zip_shortest
        return None if None in lengths or differ else min(known)


def flow_state(plan: Plan, states: Mapping[TaskRunId, str | None]) -> str:
    """Return the flow run's right state, given its task runs' and their children's."""
    of_reference: list[str | None] = []
    for id in plan.reference:
        if states[id] == "Mapped":
            of_reference += [state for child, state in states.items() if child[0] == id[0]]
        else:
            of_reference.append(states[id])
    if any(state in FAILED for state in of_reference):
        return "Failed"
    if None in of_reference:
        return "Paused"
    return "Cancelled" if "Cancelled" in of_reference else "Success"
