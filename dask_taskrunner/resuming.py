"""Resumes an earlier flow run: its successes stand for task runs of a new one, the rest is run.

All that is wrong with that is found here, before anything is sent. Which task runs are which is
decided elsewhere (:mod:`~dask_taskrunner.taking_over`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from dask_taskrunner.backend import Backend
from dask_taskrunner.exceptions import ClusterLost, NotFinished, OptionError, UnknownTask
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.tasks import Node, Task
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.reusing import Results, Reusing
from dask_taskrunner.states import same_value
from dask_taskrunner.taking_over import Before, Choice

#: What no parameter is.
_NO_VALUE: Final = object()


def check_resume(
    resume: Any, rerun: Any, backend: Backend | None, of_the_middle: tuple[Any, Any]
) -> FlowRun | None:
    """Return the earlier run that is to be resumed, or None for none.

    Parameters
    ----------
    resume, rerun : object
        What the user gave.
    backend : Backend or None
        Where the new run is to be; None where there is nothing yet.
    of_the_middle : pair
        ``start_tasks`` and ``task_states``, which do not go with it.

    Raises
    ------
    OptionError
        It cannot be, or not with these other options.
    NotFinished
        It goes on.
    """
    if resume is None:
        if listed(rerun):
            raise OptionError(
                "rerun names what of an earlier run is run again, and so it needs resume=run; "
                "without one all tasks are run"
            )
        return None
    if not isinstance(resume, FlowRun):
        raise OptionError(f"resume must be an earlier FlowRun, not {resume!r}")
    if any(option is not None for option in of_the_middle):
        raise OptionError(
            "resume takes all states from the earlier run, so start_tasks and task_states do not "
            "go with it; rerun=[...] names what is run again besides"
        )
    name, driver = resume.run_name, resume._driver
    if not driver.ended.is_set():
        raise NotFinished(
            f"flow run {name!r} is still running, and so it cannot be resumed; run.wait() or "
            "run.cancel() first"
        )
    # Of a lost cluster there is no other to be had.
    is_here = backend is not None and driver.channel.place is backend.place
    if not is_here and not isinstance(resume.error, ClusterLost):
        raise OptionError(
            f"flow run {name!r} is of another cluster, or of another Dask client, and its results "
            "are there. Resume it by the same runner, or by one with the same client: "
            "`with DaskTaskRunner() as runner: run = runner.run(flow); "
            "runner.run(flow, resume=run)`"
        )
    return resume


def parameters_of(
    flow: Flow, earlier: FlowRun | None, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the values of parameters: what is not given is what it was in the earlier run."""
    if earlier is None:
        return given
    kept = {
        name: earlier.parameters[name]
        for name in flow.parameters()
        # None may be no value.
        if earlier.parameters.get(name) is not None
    }
    return {**kept, **given}


def resume_run(
    flow: Flow,
    plan: FlowPlan,
    earlier: FlowRun,
    rerun: Any,
    parameters: Mapping[str, Any],
    backend: Backend | None,
) -> FlowPlan:
    """Return a plan in which an earlier run's successes are given.

    Parameters
    ----------
    flow : Flow
        What the plan is of.
    plan : FlowPlan
        Of a run from the beginning.
    earlier : FlowRun
        Has ended.
    rerun : iterable of tasks
        Are run again, and what is downstream of them.
    parameters : mapping
        Every parameter's value, by name.
    backend : Backend or None
        Where the new run is to be.

    Raises
    ------
    UnknownTask
        The flow does not have such a task.
    """
    tops = _tops(plan, earlier)
    forced = _named(flow, plan, tops, rerun)
    forced |= {(plan.ids[slug][0], -1) for slug in _rewired(plan, earlier, parameters)}
    forced |= {(n, -1) for n in tops if _has_other_future(plan, earlier, n)}
    is_lost = isinstance(earlier.error, ClusterLost)
    results = Results(earlier._driver, None if is_lost else backend)
    before = Before(
        tops,
        earlier._driver.machine.records,
        lambda run, record: results.are_gone(record, plan.specs[run.id[0], -1]),
    )
    choice = Choice(plan.machine.runs, before, forced, _reads(plan))
    return Reusing(plan, before, choice, results).plan()


def _tops(plan: FlowPlan, earlier: FlowRun) -> dict[int, TaskRunRecord]:
    """Return the earlier run's records of the plan's tasks, by the new positions."""
    records = earlier._driver.machine.records
    # Not those that joined: they belong to the task that has grown to them.
    known = {run.slug: records[run.id] for run in earlier._plan.machine.runs}
    return {run.id[0]: known[run.slug] for run in plan.machine.runs if run.slug in known}


def listed(tasks: Any) -> list[Any]:
    """Return tasks as a list, also one alone."""
    if tasks is None:
        return []
    # A slug would be taken for a list of letters, and a task cannot be iterated over.
    is_one = isinstance(tasks, (str, Node, Task)) or not isinstance(tasks, Iterable)
    return [tasks] if is_one else list(tasks)


def _named(
    flow: Flow, plan: FlowPlan, tops: Mapping[int, TaskRunRecord], rerun: Any
) -> set[TaskRunId]:
    """Return the task runs that the user names."""
    found: set[TaskRunId] = set()
    for task in listed(rerun):
        group = flow.groups.get(task) if isinstance(task, str) else None
        child = _named_child(plan, tops, task)
        if group is not None and task not in plan.ids:
            found |= {plan.ids[inside.slug] for inside in group.tasks if inside.slug in plan.ids}
        elif child is not None:
            found.add(child)
        else:
            found.add(plan.ids[flow.resolve_task(task).slug])
    return found


def _named_child(plan: FlowPlan, tops: Mapping[int, TaskRunRecord], slug: Any) -> TaskRunId | None:
    """Return the child that is meant, or None where it is the name of none."""
    if not isinstance(slug, str) or slug in plan.ids:
        return None
    name, bracket, index = slug.removesuffix("]").rpartition("[")
    if not bracket or not index.isdecimal() or name not in plan.ids:
        return None
    n = plan.ids[name][0]
    length = tops[n].length if n in tops else None
    if length is None or int(index) >= length:
        raise UnknownTask(
            f"rerun: {name!r} had {length or 'no'} children in the earlier run, and no {slug!r}"
        )
    return n, int(index)


def _rewired(plan: FlowPlan, earlier: FlowRun, parameters: Mapping[str, Any]) -> set[str]:
    """Return the tasks that are passed something else, or wait for something else."""
    then, now = _wires(earlier._plan.edges), _wires(plan.edges)
    changed = {
        name
        for name, value in parameters.items()
        if not _is_same(earlier.parameters.get(name, _NO_VALUE), value)
    }
    return {
        slug
        for slug in plan.ids
        if then.get(slug) != now.get(slug)
        or any(source in changed for source, _, _ in now.get(slug, ()))
    }


def _wires(edges: Collection[Edge]) -> dict[str, set[tuple[str, str | None, bool]]]:
    """Return what stands upstream of each task, and for which argument."""
    found: dict[str, set[tuple[str, str | None, bool]]] = {}
    for edge in edges:
        wires = found.setdefault(edge.downstream_task.slug, set())
        wires.add((edge.upstream_task.slug, edge.key, edge.mapped))
    return found


def _is_same(then: object, now: object) -> bool:
    try:
        return then is not _NO_VALUE and same_value(then, now)
    except Exception:  # noqa: BLE001 (whatever the user's objects raise: then nobody knows)
        return False


def _has_other_future(plan: FlowPlan, earlier: FlowRun, n: int) -> bool:
    """Return whether somebody else's future among the arguments is another than it was."""
    spec = plan.specs[n, -1]
    then = earlier._plan.specs[earlier._plan.ids[spec.slug]].foreign
    return (then is None) != (spec.foreign is None) or not _is_same(then, spec.foreign)


def _reads(plan: FlowPlan) -> set[tuple[int, int]]:
    """Return which task is passed the result of which, by their positions."""
    ids = plan.ids
    pairs = {
        (ids[edge.upstream_task.slug][0], ids[edge.downstream_task.slug][0])
        for edge in plan.edges
        # A parameter is no task run.
        if edge.key is not None and edge.upstream_task.slug in ids
    }
    foreign = {id[0] for id, spec in plan.specs.items() if spec.foreign is not None}
    for run in plan.machine.runs if foreign else ():
        pairs |= {(n, run.id[0]) for n, _ in run.upstream if n in foreign}
    return pairs
