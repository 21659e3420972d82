"""From a flow to a plan: what the machine is to know of it, and what the cluster is to be told.

Everything that can be wrong with a run is found here, before anything is sent. Parameters and
constants are never task runs: they are put into the arguments.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import cloudpickle

from dask_taskrunner.backend import RunSpec
from dask_taskrunner.exceptions import UnpicklableArgument, describe
from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.records import Plan, PlannedRun
from dask_taskrunner.worker.placeholders import Placeholder


class FlowPlan(NamedTuple):
    """A flow, ready to be run.

    Attributes
    ----------
    machine : Plan
        For the machine.
    definitions : tuple of bytes
        The pickled task definitions.
    specs : mapping
        Per task run, what the cluster is told.
    tasks : tuple of BoundTask
        By the task run's position.
    resolved : tuple of Task
        The tasks with all defaults filled in, by the task run's position.
    ids : mapping
        Slug -> task run.
    """

    machine: Plan
    definitions: tuple[bytes, ...]
    specs: Mapping[TaskRunId, RunSpec]
    tasks: tuple[BoundTask[Any], ...]
    resolved: tuple[Any, ...]
    ids: Mapping[str, TaskRunId]


def plan_flow(
    flow: Flow,
    parameters: Mapping[str, Any],
    *,
    task_defaults: Mapping[str, Any],
    keep: str,
    return_tasks: Collection[BoundTask[Any]] | None,
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

    Raises
    ------
    EmptyFlow
        There is nothing to run.
    UnpicklableArgument
        A constant or a task cannot be sent; the error names it.
    """
    flow.validate()
    tasks = tuple(task for task in flow.sorted_tasks() if isinstance(task, BoundTask))
    positions: dict[Node, int] = {task: n for n, task in enumerate(tasks)}
    upstream = _upstream_positions(flow, positions)
    definitions = _Definitions(flow.task_defaults, task_defaults)
    resolved = tuple(definitions.resolve(task) for task in tasks)
    specs = _specs(tasks, upstream, positions, definitions, parameters)
    reference = frozenset((positions[task], -1) for task in flow.reference_tasks())
    machine = Plan(
        tuple(
            _planned_run(n, task, upstream[n], definition, specs[n, -1])
            for n, (task, definition) in enumerate(zip(tasks, resolved, strict=True))
        ),
        reference,
        _kept(keep, reference, return_tasks, positions),
        bool(flow.state_handlers),
    )
    ids = {task.slug: (n, -1) for n, task in enumerate(tasks)}
    return FlowPlan(machine, definitions.pickled(), specs, tasks, resolved, ids)


def _specs(
    tasks: tuple[BoundTask[Any], ...],
    upstream: list[list[int]],
    positions: Mapping[Node, int],
    definitions: _Definitions,
    parameters: Mapping[str, Any],
) -> dict[TaskRunId, RunSpec]:
    priorities = _priorities(upstream)
    specs = {}
    for n, task in enumerate(tasks):
        definition = definitions.resolve(task)
        specs[n, -1] = RunSpec(
            name=task.name,
            slug=task.slug,
            definition=definitions.position(definition),
            arguments=_pickle_arguments(task, upstream[n], positions, parameters),
            upstream_slugs=tuple(tasks[u].slug for u in upstream[n]),
            priority=definition.priority + priorities[n],
            resources=definition.resources,
            workers=_workers(definition.workers),
        )
    return specs


def _planned_run(
    n: int, task: BoundTask[Any], upstream: list[int], definition: Any, spec: RunSpec
) -> PlannedRun:
    return PlannedRun(
        id=(n, -1),
        name=task.name,
        slug=task.slug,
        upstream=tuple((u, -1) for u in upstream),
        max_crash_retries=definition.max_crash_retries,
        nbytes=len(spec.arguments),
        has_handlers=bool(definition.state_handlers),
    )


def check_context(context: Mapping[str, Any]) -> None:
    """Find out, before anything is sent, whether the entries of a context can be.

    Raises
    ------
    UnpicklableArgument
        One cannot; the error names it.
    """
    parameters = context.get("parameters", {})
    named = {f"parameter {name!r}": (name, value) for name, value in parameters.items()}
    named |= {
        f"the context's {name!r}": (name, value)
        for name, value in context.items()
        if value is not parameters
    }
    for what, (name, value) in named.items():
        try:
            pickle.dumps(value, protocol=5)
        except Exception as error:
            raise UnpicklableArgument(
                f"{what} cannot be pickled: {describe(error)}. Every task run finds it in its "
                "context, so it must be something that can be sent.",
                argument=name,
            ) from error


def _workers(workers: Any) -> tuple[str, ...] | None:
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


def _upstream_positions(flow: Flow, positions: Mapping[Node, int]) -> list[list[int]]:
    """Return, per task, the positions of its upstream tasks, each once, in their order."""
    found: list[dict[int, None]] = [{} for _ in positions]
    for edge in flow.edges:
        source = positions.get(edge.upstream_task)
        # A parameter is no task run: it is there before the run begins.
        if source is not None:
            found[positions[edge.downstream_task]][source] = None
    return [sorted(upstream) for upstream in found]


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

    def __init__(self, flow_defaults: Mapping[str, Any], runner_defaults: Mapping[str, Any]):
        self._defaults = (flow_defaults, runner_defaults)
        self._resolved: dict[int, Any] = {}
        self._positions: dict[int, int] = {}
        self._pickles: list[bytes] = []
        # Keeps the objects alive whose ids are used above.
        self._alive: list[Any] = []

    def resolve(self, task: BoundTask[Any]) -> Any:
        """Return the task's definition with the defaults of flow and runner filled in."""
        definition = task.definition
        found = self._resolved.get(id(definition))
        if found is None:
            found = definition.with_defaults(*self._defaults)
            self._resolved[id(definition)] = found
            self._positions[id(found)] = len(self._pickles)
            self._pickles.append(_pickle_task(found))
            self._alive += [definition, found]
        return found

    def position(self, resolved: Any) -> int:
        return self._positions[id(resolved)]

    def pickled(self) -> tuple[bytes, ...]:
        return tuple(self._pickles)


def _pickle_task(task: Any) -> bytes:
    try:
        # By cloudpickle at once: a function of a script or notebook has no module over there.
        data: bytes = cloudpickle.dumps(task, protocol=5)
    except Exception as error:  # Whatever the user's objects raise.
        raise UnpicklableArgument(
            f"task {task.name!r} cannot be pickled: {error}. What its function refers to is sent "
            "along; open files, locks and connections inside the task instead.",
            task=task.name,
            argument="",
        ) from error
    return data


def _pickle_arguments(
    task: BoundTask[Any],
    upstream: list[int],
    positions: Mapping[Node, int],
    parameters: Mapping[str, Any],
) -> bytes:
    order = {position: place for place, position in enumerate(upstream)}

    def stand_in(node: Any) -> object:
        if isinstance(node, Parameter):
            return parameters[node.name]
        return Placeholder(order[positions[node]])

    filled = {name: replace(value, Node, stand_in) for name, value in task.arguments.items()}
    try:
        return _pickle_value(filled)
    except Exception:  # Whatever it is: the loop below finds whose fault it is.
        for name, value in filled.items():
            try:
                _pickle_value(value)
            except Exception as error:
                raise UnpicklableArgument(
                    f"argument {name!r} of {task.slug!r} cannot be pickled: "
                    f"{type(error).__name__}: {error}. Make it inside the task, or pass what it "
                    "is made from.",
                    task=task.slug,
                    argument=name,
                ) from error
        raise


def _pickle_value(value: object) -> bytes:
    # pickle is ten times as fast, but refers to __main__, which a worker does not have.
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 (cloudpickle's own word counts)
        data = b"__main__"
    if b"__main__" in data:
        data = cloudpickle.dumps(value, protocol=5)
    return data
