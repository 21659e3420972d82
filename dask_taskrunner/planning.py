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
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.records import Plan, PlannedRun
from dask_taskrunner.packing import Packer, dumps, pickle_task, unpicklable
from dask_taskrunner.states import Pending
from dask_taskrunner.worker.placeholders import Placeholder


class FlowPlan(NamedTuple):
    """A flow, ready to be run.

    Attributes
    ----------
    machine : Plan
        For the machine.
    specs : mapping
        Per task run, what the cluster is told.
    tasks : tuple of BoundTask
        By the task run's position.
    resolved : tuple of Task
        The tasks with all defaults filled in, by the task run's position.
    ids : mapping
        Slug -> task run.
    stand_ins : mapping
        Name of a parameter -> what stands for it in the context, where it cannot be there itself.
    warnings : sequence of str
        What the caller can mend.
    given_values : mapping
        Results that were given by value.
    """

    machine: Plan
    specs: Mapping[TaskRunId, RunSpec]
    tasks: tuple[BoundTask[Any], ...]
    resolved: tuple[Any, ...]
    ids: Mapping[str, TaskRunId]
    stand_ins: Mapping[str, object]
    warnings: Sequence[str]
    given_values: Mapping[TaskRunId, object] = {}

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
    layout = _Layout(
        {task: n for n, task in enumerate(tasks)},
        futures,
        {id(future): n for n, future in enumerate(futures)},
        parameters,
        foreign,
        {},
    )
    upstream = _upstream_positions(flow, tasks, layout)
    definitions = _Definitions(flow.task_defaults, task_defaults, packer)
    resolved = tuple(definitions.resolve(task) for task in tasks)
    stand_ins = _stand_ins(parameters, foreign, packer)
    specs = _specs(tasks, upstream, layout, definitions, packer)
    reference = frozenset((layout.positions[task], -1) for task in flow.reference_tasks())
    machine = Plan(
        tuple(
            planned_run((n, -1), [(u, -1) for u in upstream[n]], definition, specs[n, -1])
            for n, definition in enumerate(resolved)
        ),
        reference,
        _kept(keep, reference, return_tasks, layout.positions),
        bool(flow.state_handlers),
    )
    ids = {task.slug: (n, -1) for n, task in enumerate(tasks)}
    return FlowPlan(machine, specs, tasks, resolved, ids, stand_ins, packer.warnings)


class _Layout(NamedTuple):
    """Where everything stands in a plan."""

    positions: Mapping[Node, int]
    #: Those of somebody else come first.
    futures: Sequence[Any]
    #: By the id of the future.
    foreign: Mapping[int, int]
    parameters: Mapping[str, Any]
    kinds: Foreign
    #: Large containers of many task runs in which there is nothing upstream.
    plain: dict[int, object]

    def position(self, found: Any) -> int:
        """Return the position of a task, or of somebody else's future."""
        if isinstance(found, Node):
            return self.positions[found]
        return self.foreign[id(found)]

    def foreign_upstream(self, task: BoundTask[Any]) -> set[int]:
        """Return the positions of the futures among the arguments of a task."""
        if not self.foreign:
            return set()
        values = [self.with_parameters(value) for value in task.arguments.values()]
        return {self.foreign[id(value)] for value in foreign_in(values, self.kinds)}

    def with_parameters(self, value: Any) -> Any:
        """Return an argument with the values of parameters in it."""
        return replace(value, Parameter, lambda parameter: self.parameters[parameter.name])

    def with_placeholders(self, value: Any, order: Mapping[int, int]) -> Any:
        """Return an argument with placeholders for what is upstream."""

        def stand_in(found: Any) -> object:
            return Placeholder(order[self.position(found)])

        filled = self.with_parameters(value) if self.parameters else value
        return replace(filled, (Node, *self.kinds.types), stand_in, self.plain)

    def kept(self, values: list[Any]) -> tuple[Any, ...]:
        """Return what must live as long as a run that gets these arguments."""
        if not self.kinds.kept:
            return ()
        # The parameters, too: the run may read them in its context.
        filled = [*values, *self.parameters.values()]
        found = find(filled, (Node, *self.kinds.types, *self.kinds.kept))
        return tuple(v for v in found if not isinstance(v, (Node, *self.kinds.types)))


def _upstream_positions(
    flow: Flow, tasks: Sequence[BoundTask[Any]], layout: _Layout
) -> list[list[int]]:
    """Return, per task, the positions of what is upstream of it, each once, in their order."""
    upstream = [layout.foreign_upstream(task) for task in tasks]
    for edge in flow.edges:
        source = layout.positions.get(edge.upstream_task)
        # A parameter is no task run: it is there before the run begins.
        if source is not None:
            upstream[layout.positions[edge.downstream_task]].add(source)
    return [sorted(found) for found in upstream]


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
    tasks: tuple[BoundTask[Any], ...],
    upstream: list[list[int]],
    layout: _Layout,
    definitions: _Definitions,
    packer: Packer,
) -> dict[TaskRunId, RunSpec]:
    priorities = _priorities(upstream)
    specs: dict[TaskRunId, RunSpec] = {}
    for n, task in enumerate(tasks):
        definition = definitions.resolve(task)
        order = {position: place for place, position in enumerate(upstream[n])}
        filled = {
            name: layout.with_placeholders(value, order) for name, value in task.arguments.items()
        }
        arguments, constants = packer.pack(task.slug, filled)
        specs[n, -1] = RunSpec(
            name=task.name,
            slug=task.slug,
            code=definitions.code,
            definition=definitions.position(definition),
            arguments=arguments,
            upstream_slugs=tuple(tasks[u].slug for u in upstream[n]),
            priority=definition.priority + priorities[n],
            resources=definition.resources,
            workers=workers_of(definition),
            constants=constants,
            foreign=layout.futures[n] if n < len(layout.futures) else None,
            keeps=layout.kept(list(task.arguments.values())),
        )
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
            self._pickles.append(pickle_task(found))
            self._packer.note_definition(found.name, len(self._pickles[-1]))
            self._alive += [definition, found]
        return found

    def position(self, resolved: Any) -> int:
        return self._positions[id(resolved)]

    def complete(self) -> None:
        """Put the pickles where they travel."""
        self.code.tasks = tuple(self._pickles)
