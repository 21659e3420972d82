"""Starts a plan in its middle: which task runs are run, which have a state, which stay outside.

All that is missing for that is found here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dask_taskrunner.backend import Constant, RunSpec
from dask_taskrunner.exceptions import MissingTaskState, OptionError
from dask_taskrunner.given_children import read_state
from dask_taskrunner.given_states import Given, Share
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.tasks import Node, Task
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import PlannedRun, Role
from dask_taskrunner.packing import Packer
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.states import Pending


def start_in_the_middle(
    flow: Flow,
    plan: FlowPlan,
    start_tasks: Any,
    task_states: Any,
    share: Share,
    packer: Packer,
) -> FlowPlan:
    """Return a plan in which not everything is run from the beginning.

    Parameters
    ----------
    flow : Flow
        What the plan is of.
    plan : FlowPlan
        Of a run from the beginning.
    start_tasks : iterable of tasks or None
        Exactly these and all downstream of them are run; None for all that has no final state.
    task_states : mapping or None
        Task -> its state.
    share : callable
        Makes one more future of a future of an earlier run's.
    packer : Packer
        Weighs what is sent.

    Raises
    ------
    UnknownTask
        The flow does not have such a task.
    OptionError
        What is given cannot be.
    MissingTaskState
        Something that is run stands behind something outside that has no finished state.
    ResultReleased
        The result that an earlier run's header stands for cannot be had.
    """
    started = None if start_tasks is None else _read_start(flow, plan, start_tasks)
    middle = _Middle(
        plan,
        started,
        _read_states(flow, plan, {} if task_states is None else task_states),
        packer,
        share,
    )
    middle.check_upstream()
    return middle.plan()


def _read_start(flow: Flow, plan: FlowPlan, tasks: Any) -> frozenset[TaskRunId]:
    # A slug would be taken for a list of letters, and a task cannot be iterated over.
    if isinstance(tasks, (str, Node, Task)) or not isinstance(tasks, Iterable):
        tasks = [tasks]
    started = frozenset(plan.ids[flow.resolve_task(task).slug] for task in tasks)
    if not started:
        raise OptionError(
            "start_tasks names no task, so nothing would run; leave it out to run all"
        )
    return started


def _read_states(flow: Flow, plan: FlowPlan, states: Any) -> dict[TaskRunId, Given]:
    if not isinstance(states, Mapping):
        raise OptionError(
            f"task_states must be a dict of states by task or slug, not {states!r}; "
            "such as {'extract': Success(result=...)}"
        )
    found: dict[TaskRunId, Given] = {}
    for task, state in states.items():
        slug = flow.resolve_task(task).slug
        id = plan.ids[slug]
        if id in found:
            raise OptionError(f"task_states has two states for {slug!r}")
        given = read_state(
            slug,
            state,
            is_mapped=plan.tasks[id[0]].is_mapped,
            is_mapped_over=plan.specs[id].is_mapped_over,
        )
        if given is not None:
            found[id] = given
    return found


class _Middle:
    """One plan on its way."""

    def __init__(
        self,
        plan: FlowPlan,
        started: frozenset[TaskRunId] | None,
        states: Mapping[TaskRunId, Given],
        packer: Packer,
        share: Share,
    ) -> None:
        self._plan = plan
        self._started = started
        self._states = states
        self._packer = packer
        self._share = share
        self._running = self._find_running()
        #: What a task run that is run stands directly behind.
        self._read = {
            source
            for run in plan.machine.runs
            if run.id in self._running
            for source in run.upstream
        }
        #: Results that were given by value: they are here.
        self._values: dict[TaskRunId, object] = {}

    def _find_running(self) -> set[TaskRunId]:
        runs = self._plan.machine.runs
        if self._started is None:
            finished = {id for id, given in self._states.items() if given.is_finished}
            return {run.id for run in runs} - finished
        running: set[TaskRunId] = set(self._started)
        for run in runs:
            if not running.isdisjoint(run.upstream):
                running.add(run.id)
        # Somebody else's future among the arguments is no task of the flow: it goes along.
        needed = {source for run in runs if run.id in running for source in run.upstream}
        return running | {id for id in needed if self._plan.specs[id].foreign is not None}

    def _role(self, id: TaskRunId) -> Role:
        if id in self._running:
            return "run"
        given = self._states.get(id)
        return "given" if given is not None and given.is_finished else "outside"

    def check_upstream(self) -> None:
        """Raise `MissingTaskState` where something upstream of what is run is not known."""
        runs = self._plan.machine.runs
        missing = [
            (run.slug, source)
            for run in runs
            if run.id in self._running
            for source in run.upstream
            if self._role(source) == "outside"
        ]
        if not missing:
            return
        task, source = missing[0]
        slug, given = self._plan.specs[source].slug, self._states.get(source)
        known = "no state of it is given" if given is None else f"its state is {given.state!r}"
        others = sorted({self._plan.specs[id].slug for _, id in missing} - {slug})
        more = f" The same goes for {', '.join(map(repr, others))}." if others else ""
        raise MissingTaskState(
            f"{task!r} needs a finished state of {slug!r}, which is upstream of it and not part of "
            f"this run; {known}. Pass task_states={{{slug!r}: run[{slug!r}].state}} with an "
            f"earlier run's, or Success(result=...); or begin there: start_tasks=[{slug!r}].{more}"
        )

    def plan(self) -> FlowPlan:
        """Return the whole plan."""
        old = self._plan.machine
        runs, specs = [], dict(self._plan.specs)
        for run in old.runs:
            placed, specs[run.id] = self._placed(run, specs[run.id])
            given = self._states.get(run.id)
            if placed.role == "given" and given is not None and given.children is not None:
                placed = placed._replace(children=self._children(placed, specs, given.children))
            runs.append(placed)
        name_upstream(runs, specs)
        reference = self._reference()
        # What was kept for those that decided is kept for those that do.
        kept = old.kept
        if kept is not None and old.reference <= kept:
            kept |= reference
        machine = old._replace(runs=tuple(runs), reference=reference, kept=kept)
        return self._plan._replace(machine=machine, specs=specs, given_values=self._values)

    def _placed(self, run: PlannedRun, spec: RunSpec) -> tuple[PlannedRun, RunSpec]:
        """Return what machine and cluster are told of one task run."""
        role, given = self._role(run.id), self._states.get(run.id)
        run = run._replace(role=role)
        if role == "given":
            assert given is not None
            return self._given(run, spec, given, run.id in self._read)
        if role == "outside":
            known = given
            # What another run is running is not running here.
            if known is None or known.state.is_running():
                known = Given(run.slug, Pending(message="not part of this run"))
            # It reads nothing: what is upstream of it need not be held for it.
            return run._replace(given=known.header(run.id), upstream=()), spec
        if self._started is not None:
            # From the beginning, whatever else is known of it.
            return run, spec._replace(ignores_trigger=run.id in self._started)
        if given is None:
            return run, spec
        run = run._replace(given=given.header(run.id))
        first = given.to_begin_with(self._packer)
        if isinstance(first, Constant):
            return run._replace(settles=True), spec._replace(cached=first)
        return run, spec._replace(initial=first)

    def _children(
        self, run: PlannedRun, specs: dict[TaskRunId, RunSpec], given: Sequence[Given]
    ) -> tuple[PlannedRun, ...]:
        """Return the children of a mapped run that is not run here; their specs are put in."""
        children = []
        spec = specs[run.id]._replace(maps=None, arguments=b"", constants=(), upstream_slugs=())
        is_read = run.id in self._read
        for i, one in enumerate(given):
            id = (run.id[0], i)
            child = run._replace(id=id, slug=one.slug, upstream=(), maps=None, children=None)
            placed, specs[id] = self._given(child, spec._replace(slug=one.slug), one, is_read)
            children.append(placed)
        return tuple(children)

    def _given(
        self, run: PlannedRun, spec: RunSpec, given: Given, is_read: bool
    ) -> tuple[PlannedRun, RunSpec]:
        header = given.header(run.id)
        run = run._replace(given=header)
        if header.stands_alone:
            return run, spec
        if given.state.result_is_here:
            self._values[run.id] = given.value
            return run, spec._replace(wire=given.wire(header, self._packer)) if is_read else spec
        if is_read:
            return run, spec._replace(held=given.share(self._share))
        if self._plan.machine.keeps(run.id) and given.source is not None:
            future = given.source.share()
            return run, spec._replace(held=None if future is None else self._share(future))
        # Nobody on the cluster asks for it, so nobody misses it.
        return run, spec

    def _reference(self) -> frozenset[TaskRunId]:
        """Return whose states decide the flow run's: no task outside, and never nobody's."""
        old = self._plan.machine.reference
        known = frozenset(id for id in old if self._role(id) != "outside")
        return known or frozenset(self._running - self._read)


def name_upstream(runs: Iterable[PlannedRun], specs: dict[TaskRunId, RunSpec]) -> None:
    """Have the cluster told this flow's names for what another run has made."""
    held = {id for id, spec in specs.items() if spec.held is not None}
    # Of a mapped run some children may be another flow run's.
    held |= {(n, -1) for n, _ in held}
    for run in runs:
        specs[run.id] = _naming_upstream(run, specs, held)


def _naming_upstream(
    run: PlannedRun, specs: Mapping[TaskRunId, RunSpec], held: Collection[TaskRunId]
) -> RunSpec:
    """Return what the cluster is told, with this flow's names for what another run has made."""
    spec = specs[run.id]
    known_as = {
        position: specs[source].slug
        for position, source in enumerate(run.upstream)
        if source in held
    }
    return spec._replace(known_as=known_as) if known_as and run.role == "run" else spec
