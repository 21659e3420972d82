"""From a flow to a flow run on its way: what can be wrong is found before anything is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias

from dask_taskrunner.backend import NOTHING_FOREIGN, Backend, FlowSpec, Foreign
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.packing import Packer
from dask_taskrunner.planning import FlowPlan, check_context, plan_flow

#: Which results stay on the cluster after a run.
Keep: TypeAlias = Literal["reference", "all", "none"]
_KEEPS = ("reference", "all", "none")


def launch(
    flow: Flow,
    backend: Backend,
    *,
    parameters: Mapping[str, Any],
    run_name: str | None,
    return_tasks: Collection[Any] | Literal["all"] | None,
    context: Mapping[str, Any],
    keep: Keep,
    task_defaults: Mapping[str, Any],
    max_constant_bytes: int,
    check: Callable[[FlowPlan], None],
    before_start: Callable[[FlowRun], None] | None = None,
) -> FlowRun:
    """Start a flow; see :meth:`~dask_taskrunner.runner.DaskTaskRunner.start`.

    ``check`` is called with the plan before anything is sent, and ``before_start`` with the run:
    who is interrupted from then on knows what to cancel.
    """
    values, plan = prepare(
        flow,
        parameters=parameters,
        return_tasks=return_tasks,
        keep=keep,
        task_defaults=task_defaults,
        packer=Packer(max_constant_bytes),
        foreign=backend.foreign,
    )
    check(plan)
    run_id = uuid.uuid4().hex[:8]
    run = FlowRun(flow, plan, run_id, run_name or f"{flow.name}-{run_id}", values)
    entries = _context(run, context)
    parameters = {**values, **plan.stand_ins}
    check_context(entries, parameters)
    entries["parameters"] = parameters
    spec = FlowSpec(run_id, entries, plan.specs)
    hooks = HookThread(f"dask-taskrunner-hooks-{run_id}")
    driver = Driver(plan.machine, spec, backend, hooks, run.listener)
    run.attach(driver)
    if before_start is not None:
        before_start(run)
    driver.start()
    return run


def prepare(
    flow: Flow,
    *,
    parameters: Mapping[str, Any],
    return_tasks: Collection[Any] | Literal["all"] | None,
    keep: Keep,
    task_defaults: Mapping[str, Any],
    packer: Packer,
    foreign: Foreign = NOTHING_FOREIGN,
) -> tuple[dict[str, Any], FlowPlan]:
    """Return the flow's parameters and its plan: it needs no cluster to find what is wrong."""
    if not isinstance(flow, Flow):
        raise OptionError(f"a runner runs a Flow, not {flow!r}")
    if keep not in _KEEPS:
        raise OptionError(f"keep must be one of {', '.join(map(repr, _KEEPS))}, not {keep!r}")
    values = flow.resolve_parameters(parameters)
    plan = plan_flow(
        flow,
        values,
        task_defaults=task_defaults,
        keep=keep,
        return_tasks=_wanted(flow, return_tasks),
        packer=packer,
        foreign=foreign,
    )
    return values, plan


def _wanted(flow: Flow, return_tasks: Any) -> list[Any] | None:
    """Return the tasks whose results are kept besides; None for all."""
    if isinstance(return_tasks, str) and return_tasks == "all":
        return None
    if isinstance(return_tasks, str):
        raise OptionError(f"return_tasks must be a list of tasks or 'all', not {return_tasks!r}")
    return [flow.resolve_task(task) for task in return_tasks or ()]


def _context(run: FlowRun, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **more,
        "flow_name": run.flow.name,
        "flow_run_id": run.run_id,
        "run_name": run.run_name,
    }
