"""From a flow to a plan: what the machine is to know of it, and what the cluster is to be told.

Everything that can be wrong with a run is found here, before anything is sent. Parameters and
constants are never task runs: they are put into the arguments. A future of the cluster's own kind
among the arguments is one: it may fail like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from dask_taskrunner.backend import NOTHING_FOREIGN, Code, Foreign, RunSpec
from dask_taskrunner.exceptions import MissingResult
from dask_taskrunner.foreign_arguments import FOREIGN, find_foreign, foreign_in, foreign_tasks
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.flow_tasks import Group
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.plans import Plan, PlannedRun
from dask_taskrunner.mapped_runs import spec_for_children, waves, with_maps
from dask_taskrunner.packing import Packer, dumps, unpicklable
from dask_taskrunner.states import Pending
from dask_taskrunner.wiring import Layout, Wiring


class FlowPlan(NamedTuple):
    """A flow, ready to be run.

    Attributes
    ----------
    machine : Plan
        For the machine.
    specs : mapping
        Per task run, what the cluster is told.
    tasks : list of BoundTask
        By the task run's position.
    resolved : list of Task
        The tasks with all defaults filled in, by the task run's position.
    ids : dict
        Slug -> task run.
    stand_ins : mapping
        Name of a parameter -> what stands for it in the context, where it cannot be there itself.
    warnings : sequence of str
        What the caller can mend.
    groups : dict
        Flows that are used as tasks by graphs that have joined, and these graphs, by slug.
    given_values : mapping
        Results that were given by value.
    edges : tuple of Edge
        The flow's, as they were.
    told : sequence of str
        What is said of the run before it begins; the first goes into its title.

    Lists and dicts take in what joins while the flow runs.
    """

    machine: Plan
    specs: Mapping[TaskRunId, RunSpec]
    tasks: list[BoundTask[Any]]
    resolved: list[Any]
    ids: dict[str, TaskRunId]
    stand_ins: Mapping[str, object]
    warnings: Sequence[str]
    groups: dict[str, Group]
    given_values: Mapping[TaskRunId, object] = {}
    edges: tuple[Edge, ...] = ()
    told: Sequence[str] = ()

    @property
    def definitions(self) -> tuple[bytes, ...]:
        """The pickled task definitions."""
        return next(iter(self.specs.values())).code.tasks


def plan_flow(
    flow: Flow,
    parameters: Mapping[str, Any],
    *,
    task_defaults: Mapping[str, Any],
    keep: str,
    return_tasks: Collection[BoundTask[Any]] | None,
    packer: Packer,
    foreign: Foreign = NOTHING_FOREIGN,
) -> FlowPlan:
    """Return the plan of a flow.

    Parameters
    ----------
    flow : Flow
        What to run.
    parameters : mapping
        Every parameter's value, by name.
    task_defaults : mapping
        The runner's defaults of task options.
    keep : {'reference', 'all', 'none'}
        Which results stay on the cluster after the end.
    return_tasks : collection of BoundTask or None
        Tasks whose results to keep besides; None for all.
    packer : Packer
        Packs the arguments.
    foreign : Foreign
        What the cluster has of its own kind.

    Raises
    ------
    EmptyFlow
        There is nothing to run.
    UnpicklableArgument, LargeArgument, ArgumentError
        A constant, a future or a task cannot be sent; the error names it.
    """
    flow.validate()
    own = tuple(task for task in flow.sorted_tasks() if isinstance(task, BoundTask))
    futures = find_foreign(own, parameters, foreign)
    # What is somebody else's comes first: a plan is in topological order.
    tasks = (*foreign_tasks(flow, own, len(futures)), *own)
    layout = Layout(
        tasks,
        {task: n for n, task in enumerate(tasks)},
        futures,
        {id(future): n for n, future in enumerate(futures)},
        parameters,
        foreign,
        {},
    )
    wirings = layout.wire(flow)
    definitions = _Definitions(flow.task_defaults, task_defaults, packer)
    resolved = tuple(definitions.resolve(task) for task in tasks)
    stand_ins = _stand_ins(parameters, foreign, packer)
    specs = _specs(layout, wirings, definitions, packer)
    reference = frozenset((layout.positions[task], -1) for task in flow.reference_tasks())
    machine = Plan(
        _runs(wirings, resolved, specs),
        reference,
        _kept(keep, reference, return_tasks, layout.positions),
        bool(flow.state_handlers),
    )
    ids = {task.slug: (n, -1) for n, task in enumerate(tasks)}
    return FlowPlan(
        machine, specs, [*tasks], [*resolved], ids, stand_ins, packer.warnings, {}, {}, flow.edges
    )


def _runs(
    wirings: list[Wiring], resolved: Sequence[Any], specs: Mapping[TaskRunId, RunSpec]
) -> tuple[PlannedRun, ...]:
    runs = []
    for n, wave in enumerate(waves(wirings)):
        wiring, definition, spec = wirings[n], resolved[n], specs[n, -1]
        upstream = [(source, -1) for source in wiring.sources]
        run = planned_run((n, -1), upstream, definition, spec)
        runs.append(with_maps(run, wiring, definition, spec, wave))
    return tuple(runs)


def _stand_ins(parameters: Mapping[str, Any], kinds: Foreign, packer: Packer) -> dict[str, object]:
    """Return what stands in the context for parameters that cannot be there themselves."""
    found: dict[str, object] = {}
    for name, value in parameters.items():
        if kinds.types and foreign_in(value, kinds):
            # A context is there before the run, and a future's value perhaps later.
            text = "a Dask future: only a task that takes the parameter gets its value"
            found[name] = MissingResult(name, Pending(message=text))
            continue
        placeholder = packer.add_for_all(f"parameter {name!r}", value)
        if placeholder is not None:
            found[name] = placeholder
    return found


def _specs(
    layout: Layout, wirings: list[Wiring], definitions: _Definitions, packer: Packer
) -> dict[TaskRunId, RunSpec]:
    tasks = layout.tasks
    priorities = _priorities([wiring.sources for wiring in wirings])
    mapped_over = {
        wire.source for wiring in wirings for wire in wiring.columns.values() if not wire.is_child
    }
    specs: dict[TaskRunId, RunSpec] = {}
    for n, (task, wiring) in enumerate(zip(tasks, wirings, strict=True)):
        definition = definitions.resolve(task)
        arguments, constants = packer.pack(task.slug, wiring.arguments)
        spec = RunSpec(
            name=task.name,
            slug=task.slug,
            code=definitions.code,
            definition=definitions.position(definition),
            arguments=arguments,
            upstream_slugs=tuple(tasks[source].slug for source in wiring.sources),
            priority=definition.priority + priorities[n],
            resources=definition.resources,
            workers=workers_of(definition),
            constants=constants,
            foreign=layout.futures[n] if n < len(layout.futures) else None,
            keeps=layout.kept(list(task.arguments.values())),
            is_mapped_over=n in mapped_over,
            claims=not definition.rerun_on_loss,
        )
        if task.is_mapped:
            spec = spec_for_children(spec, wiring, tasks, packer, definition.split_above)
        specs[n, -1] = spec
    definitions.complete()
    return specs


def planned_run(
    id: TaskRunId, upstream: Sequence[TaskRunId], definition: Any, spec: RunSpec
) -> PlannedRun:
    """Return what the machine is to know of a task run."""
    return PlannedRun(
        id=id,
        name=spec.name,
        slug=spec.slug,
        upstream=tuple(upstream),
        max_crash_retries=definition.max_crash_retries,
        nbytes=len(spec.arguments),
        has_handlers=bool(definition.state_handlers),
        settles=bool(spec.constants) or spec.foreign is not None,
    )


def check_context(context: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Find out, before anything is sent, whether the entries of a context can be.

    Raises
    ------
    UnpicklableArgument
        One cannot; the error names it.
    """
    named = {f"parameter {name!r}": (name, value) for name, value in parameters.items()}
    named |= {f"the context's {name!r}": (name, value) for name, value in context.items()}
    for what, (_, value) in named.items():
        try:
            dumps(value)
        except Exception as error:
            raise unpicklable(what, what, value, error) from error


def workers_of(definition: Any) -> tuple[str, ...] | None:
    """Return the only workers that may run a task, or None."""
    workers = definition.workers
    if workers is None:
        return None
    return (workers,) if isinstance(workers, str) else tuple(workers)


def _kept(
    keep: str,
    reference: frozenset[TaskRunId],
    return_tasks: Collection[BoundTask[Any]] | None,
    positions: Mapping[Node, int],
) -> frozenset[TaskRunId] | None:
    if return_tasks is None or keep == "all":
        return None
    wanted = frozenset((positions[task], -1) for task in return_tasks)
    return wanted | reference if keep == "reference" else wanted


def _priorities(upstream: list[list[int]]) -> list[float]:
    """Return how far up each run goes within its flow run: downstream first.

    All lie above -1 and at or below 0, so that nobody else's tasks, at priority 0, are delayed.
    """
    depth: list[int] = []
    for sources in upstream:
        depth.append(1 + max((depth[source] for source in sources), default=-1))
    deepest = max(depth)
    return [(own - deepest) / (deepest + 1) for own in depth]


class _Definitions:
    """The task definitions of a flow, each resolved and pickled once."""

    def __init__(
        self,
        flow_defaults: Mapping[str, Any],
        runner_defaults: Mapping[str, Any],
        packer: Packer,
    ) -> None:
        self._defaults = (flow_defaults, runner_defaults)
        self._packer = packer
        self._resolved: dict[int, Any] = {}
        self._positions: dict[int, int] = {}
        self._pickles: list[bytes] = []
        # Keeps the objects alive whose ids are used above.
        self._alive: list[Any] = []
        #: What all of them travel in; filled by :meth:`complete`.
        self.code = Code(())

    def resolve(self, task: BoundTask[Any]) -> Any:
        """Return the task's definition with the defaults of flow and runner filled in."""
        definition = task.definition
        found = self._resolved.get(id(definition))
        if found is None:
            # The user's defaults are for the user's tasks.
            foreign = definition is FOREIGN
            found = FOREIGN if foreign else definition.with_defaults(*self._defaults)
            self._resolved[id(definition)] = found
            self._positions[id(found)] = len(self._pickles)
            self._pickles.append(self._packer.pack_definition(found))
            self._alive += [definition, found]
        return found

    def position(self, resolved: Any) -> int:
        return self._positions[id(resolved)]

    def complete(self) -> None:
        """Put the pickles where they travel."""
        self.code.tasks = tuple(self._pickles)
