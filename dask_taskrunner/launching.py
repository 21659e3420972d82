"""From a flow to a flow run on its way: what can be wrong is found before anything is sent."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias

from dask_taskrunner.backend import NOTHING_FOREIGN, Backend, FlowSpec, Foreign
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import OptionError, ParameterError, describe
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.given_states import Share
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.growing import Planner
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.machine.commands import Note
from dask_taskrunner.middle import start_in_the_middle
from dask_taskrunner.name_templates import field_names, make_name
from dask_taskrunner.packing import Packer
from dask_taskrunner.planning import FlowPlan, check_context, plan_flow
from dask_taskrunner.result_cache import CachedResults, ResultCache
from dask_taskrunner.resuming import check_resume, listed, parameters_of, resume_run
from dask_taskrunner.run_context import RESERVED

#: Which results stay on the cluster after a run.
Keep: TypeAlias = Literal["reference", "all", "none"]
_KEEPS = ("reference", "all", "none")


def launch(
    flow: Flow,
    backend: Backend,
    *,
    context: Mapping[str, Any],
    max_constant_bytes: int,
    check: Callable[[FlowPlan], None],
    cache: ResultCache,
    before_start: Callable[[FlowRun], None] | None = None,
    start_tasks: Any = None,
    rerun: Any = (),
    **options: Any,
) -> FlowRun:
    """Start a flow; see :meth:`~dask_taskrunner.runner.DaskTaskRunner.start`.

    ``check`` is called with the plan before anything is sent, and ``before_start`` with the run:
    who is interrupted from then on knows what to cancel. ``options`` are those of :func:`prepare`.
    """
    packer, rerun = Packer(max_constant_bytes), listed(rerun)
    values, plan, name = prepare(
        flow,
        context=context,
        packer=packer,
        foreign=backend.foreign,
        start_tasks=start_tasks,
        rerun=rerun,
        share=backend.share,
        backend=backend,
        **options,
    )
    check(plan)
    # Where a run starts in its middle, its tasks are run from the beginning; and so is a rerun.
    cached = cache.of_run(backend, offers=start_tasks is None and not rerun)
    plan, keys = cached.begin(plan)
    cached.watch(keys)
    run_id = uuid.uuid4().hex[:8]
    run = FlowRun(flow, plan, run_id, name or f"{flow.name}-{run_id}", values)
    spec = FlowSpec(run_id, _context(run, context, plan.stand_ins), plan.specs)
    defaults = options["task_defaults"]
    planner = Planner(flow, plan, packer, cached, task_defaults=defaults, foreign=backend.foreign)
    driver = _attach_driver(run, plan, spec, cached, planner)
    if before_start is not None:
        before_start(run)
    driver.start()
    return run


def _attach_driver(
    run: FlowRun, plan: FlowPlan, spec: FlowSpec, cached: CachedResults, planner: Planner
) -> Driver:
    """Return what drives a run, which has been told what is said first."""
    hooks = HookThread(f"dask-taskrunner-hooks-{run.run_id}")
    driver = Driver(plan.machine, spec, cached, hooks, run.listener, planner)
    driver.values.give(plan.given_values)
    run.attach(driver)
    for text in plan.told:
        run.listener.add_note(Note(text), time.time())
    return driver


def prepare(
    flow: Flow,
    *,
    parameters: Mapping[str, Any],
    run_name: str | None,
    context: Mapping[str, Any],
    return_tasks: Collection[Any] | Literal["all"] | None,
    keep: Keep,
    task_defaults: Mapping[str, Any],
    packer: Packer,
    foreign: Foreign = NOTHING_FOREIGN,
    start_tasks: Any = None,
    task_states: Any = None,
    resume: Any = None,
    rerun: Any = (),
    share: Share = lambda _: None,
    backend: Backend | None = None,
) -> tuple[dict[str, Any], FlowPlan, str]:
    """Return the flow's parameters, its plan, and the run's name where it was given one.

    It needs no cluster to find what is wrong.
    """
    _check(flow, keep)
    earlier = check_resume(resume, rerun, backend, (start_tasks, task_states))
    values = flow.resolve_parameters(parameters_of(flow, earlier, parameters))
    name = _run_name(flow.name, run_name, values)
    _check_entries(context)
    plan = plan_flow(
        flow,
        values,
        task_defaults=task_defaults,
        keep=keep,
        return_tasks=_wanted(flow, return_tasks),
        packer=packer,
        foreign=foreign,
    )
    if earlier is not None:
        plan = resume_run(flow, plan, earlier, rerun, values, backend)
    elif start_tasks is not None or task_states is not None:
        plan = start_in_the_middle(flow, plan, start_tasks, task_states, share, packer)
    check_context(context, {k: v for k, v in values.items() if k not in plan.stand_ins})
    return values, plan, name


def _check(flow: object, keep: object) -> None:
    if not isinstance(flow, Flow):
        raise OptionError(f"a runner runs a Flow, not {flow!r}")
    if keep not in _KEEPS:
        raise OptionError(f"keep must be one of {', '.join(map(repr, _KEEPS))}, not {keep!r}")


def merge_parameters(given: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as ``parameters=`` and what by keyword.

    Raises
    ------
    OptionError
        The former is no mapping.
    ParameterError
        Both have a value for the same parameter.
    """
    if given is None:
        return dict(more)
    if not isinstance(given, Mapping):
        raise OptionError(f"parameters must be a dict of values by name, not {given!r}")
    for name in given:
        if name in more:
            raise ParameterError(
                f"parameter {name!r} has two values: one in parameters=, and one as {name}=; "
                "leave one out"
            )
    return {**given, **more}


def _run_name(flow: str, template: Any, values: Mapping[str, Any]) -> str:
    """Return the name that a template over the parameters makes; none is an empty one."""
    if template is None:
        return ""
    if not isinstance(template, str):
        raise OptionError(f"run_name must be a text, not {template!r}")
    try:
        wanted = field_names(template)
    except ValueError as error:
        raise OptionError(f"run_name {template!r} is no template: {error}") from error
    known = f"it has {', '.join(map(repr, values))}" if values else "it has none"
    for name in wanted:
        if name not in values:
            raise OptionError(
                f"run_name {template!r}: flow {flow!r} has no parameter {name!r}; {known}"
            )
    try:
        return make_name(template, values)
    except Exception as error:  # Whatever the values' own formatting raises.
        raise OptionError(f"run_name {template!r}: {describe(error)}") from error


def _check_entries(context: Any) -> None:
    """Refuse entries of a context that its task runs would hide, or that nobody could ask for."""
    if not isinstance(context, Mapping):
        raise OptionError(f"context must be a dict of entries by name, not {context!r}")
    for name in context:
        if not isinstance(name, str):
            raise OptionError(f"context: an entry has a text for a name, not {name!r}")
        if name == "parameters":
            raise OptionError("context: the flow's parameters are given as parameters=")
        if name in RESERVED:
            raise OptionError(
                f"context: {name!r} is an entry of each task run's own; call yours otherwise"
            )


def _wanted(flow: Flow, return_tasks: Any) -> list[Any] | None:
    """Return the tasks whose results are kept besides; None for all."""
    if isinstance(return_tasks, str) and return_tasks == "all":
        return None
    if isinstance(return_tasks, str):
        raise OptionError(f"return_tasks must be a list of tasks or 'all', not {return_tasks!r}")
    return [flow.resolve_task(task) for task in return_tasks or ()]


def _context(run: FlowRun, more: Mapping[str, Any], large: Mapping[str, object]) -> dict[str, Any]:
    return {
        **more,
        "flow_name": run.flow.name,
        "flow_run_id": run.run_id,
        "run_name": run.run_name,
        "parameters": {**run.parameters, **large},
    }
