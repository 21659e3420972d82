"""Graphs that tasks return: planned like any flow, they join a flow run that goes on.

Planning calls what is the user's, so it has a thread of its own. It knows no Dask.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dask_taskrunner.backend import Channel, Foreign, RunSpec, spec_of
from dask_taskrunner.exceptions import ResultLost, ResultReleased
from dask_taskrunner.graph.expansions import Expansion
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.flow_tasks import Group, inline
from dask_taskrunner.headers import TaskRunId, describe
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.machine.events import Event, Grew, GrowthFailed
from dask_taskrunner.machine.plans import InnerPlan, PlannedRun
from dask_taskrunner.packing import Packer
from dask_taskrunner.planning import FlowPlan, plan_flow
from dask_taskrunner.result_cache import CachedResults, CacheKey
from dask_taskrunner.states import Failed


class Grown(NamedTuple):
    """What joins a flow run.

    Attributes
    ----------
    runs, inner
        For the machine.
    specs : mapping
        For the cluster.
    ids, groups : mapping
        For people: the task runs, and the flows that are used as tasks, by slug.
    keys : mapping
        Under what results are cached.
    """

    runs: tuple[PlannedRun, ...]
    inner: InnerPlan
    specs: dict[TaskRunId, RunSpec]
    ids: dict[str, TaskRunId]
    groups: dict[str, Group]
    keys: dict[TaskRunId, CacheKey]


class Planner:
    """Plans the graphs that join one flow run.

    Parameters
    ----------
    flow : Flow
        The flow that runs: its tasks' defaults are those of all tasks in it.
    plan : FlowPlan
        Its plan, which takes in what joins.
    packer : Packer
        Has packed its arguments.
    cached : CachedResults
        What earlier runs have left.
    task_defaults : mapping
        The runner's defaults of task options.
    foreign : Foreign
        What the cluster has of its own kind.
    """

    def __init__(
        self,
        flow: Flow,
        plan: FlowPlan,
        packer: Packer,
        cached: CachedResults,
        *,
        task_defaults: Mapping[str, Any],
        foreign: Foreign,
    ) -> None:
        self._flow = flow
        self._plan = plan
        self._task_defaults = task_defaults
        self._foreign = foreign
        self._packer = packer
        self._cached = cached
        self._specs: dict[TaskRunId, RunSpec] = dict(plan.specs)

    def plan(self, run: PlannedRun, data: bytes) -> Grown:
        """Return what a graph comes to that a task run has returned.

        Raises
        ------
        Exception
            It cannot be run; whatever the user's classes raise when they are rebuilt.
        """
        expansion = Expansion._make(pickle.loads(data))
        outer = Flow(self._flow.name, task_defaults=self._flow.task_defaults)
        found = inline(outer, expansion.task, run.slug, expansion.parameters, ())
        plan = plan_flow(
            outer,
            {},
            task_defaults=self._task_defaults,
            keep="none",
            return_tasks=[],
            packer=self._packer.like(),
            foreign=self._foreign,
        )
        plan, keys = self._cached.begin(plan)
        # The whole graph is no group: it is the task run that has grown to it.
        reference = outer.groups.pop(run.slug).reference
        results = found if isinstance(found, dict) else {"": found}
        inner = InnerPlan(
            tuple(planned.id for planned in plan.machine.runs),
            tuple(plan.ids[task.slug] for task in reference),
            tuple(plan.ids[task.slug] for task in results.values()),
            tuple(results) if isinstance(found, dict) else None,
        )
        specs, ids = dict(plan.specs), dict(plan.ids)
        grown = Grown(plan.machine.runs, inner, specs, ids, outer.groups, dict(keys))
        grown = _named(self._as_read(run, grown), run.slug)
        # Numbers are given once, also to what does not join after all.
        first = len(self._plan.tasks)
        self._plan.tasks.extend(plan.tasks)
        self._plan.resolved.extend(plan.resolved)
        return _moved(grown, first)

    def _as_read(self, run: PlannedRun, grown: Grown) -> Grown:
        """Have the result made something of which others take elements, where that is wanted."""
        spec = spec_of(self._specs, run.id)
        result = grown.specs[grown.inner.results[0]]
        # Of a mapped task the children are the elements, and a dict has none.
        is_one = grown.inner.names is None and result.maps is None
        if spec is not None and spec.is_mapped_over and is_one:
            grown.specs[grown.inner.results[0]] = result._replace(is_mapped_over=True)
        return grown

    def join(self, grown: Grown, channel: Channel) -> None:
        """Let the cluster, and people, know what has joined."""
        channel.add(grown.specs)
        self._specs.update(grown.specs)
        self._plan.groups.update(grown.groups)
        self._plan.ids.update(grown.ids)
        self._cached.watch(grown.keys)


def _named(grown: Grown, slug: str) -> Grown:
    """Return what joins under names that nobody has: what is no task of the graph has none yet."""
    prefix = f"{slug}/"
    names = {name: name if name.startswith(prefix) else prefix + name for name in grown.ids}
    return grown._replace(
        runs=tuple(run._replace(slug=names[run.slug]) for run in grown.runs),
        specs={
            id: spec._replace(
                slug=names[spec.slug],
                upstream_slugs=tuple(names[upstream] for upstream in spec.upstream_slugs),
            )
            for id, spec in grown.specs.items()
        },
        ids={names[name]: id for name, id in grown.ids.items()},
    )


def _moved(grown: Grown, by: int) -> Grown:
    """Return what joins behind so many task runs that were there."""

    def moved(id: TaskRunId) -> TaskRunId:
        return (id[0] + by, id[1])

    def all_moved(ids: tuple[TaskRunId, ...]) -> tuple[TaskRunId, ...]:
        return tuple(map(moved, ids))

    def moved_run(run: PlannedRun) -> PlannedRun:
        maps = run.maps
        if maps is not None:
            maps = maps._replace(own_upstream=[all_moved(ids) for ids in maps.own_upstream])
        return run._replace(
            id=moved(run.id),
            upstream=all_moved(run.upstream),
            wave=run.wave if run.wave < 0 else run.wave + by,
            maps=maps,
        )

    inner = grown.inner
    return grown._replace(
        runs=tuple(map(moved_run, grown.runs)),
        inner=inner._replace(
            runs=all_moved(inner.runs),
            reference=all_moved(inner.reference),
            results=all_moved(inner.results),
        ),
        specs={moved(id): spec for id, spec in grown.specs.items()},
        ids={name: moved(id) for name, id in grown.ids.items()},
        keys={moved(id): key for id, key in grown.keys.items()},
    )


class Growths:
    """Has graphs planned, one after the other, and tells the machine.

    Parameters
    ----------
    run : str
        The flow run's digits.
    channel : Channel
        Where the graphs are fetched from.
    planner : Planner or None
        None where graphs cannot join.
    post : callable
        Gets the news.
    """

    def __init__(
        self, run: str, channel: Channel, planner: Planner | None, post: Callable[[Event], None]
    ) -> None:
        self._thread = HookThread(f"dask-taskrunner-growth-{run}")
        self._channel = channel
        self._planner = planner
        self._post = post

    def begin(self, run: PlannedRun, submission: int) -> None:
        """Have the graph planned that a task run has returned."""
        self._thread.call(self._grow, run, submission)

    def _grow(self, run: PlannedRun, submission: int) -> None:
        try:
            event = self._grown(run, submission)
        except (ResultLost, ResultReleased):
            # It was cancelled, or the worker is gone with the graph: that is told of elsewhere.
            return
        except Exception as error:  # noqa: BLE001 (the user's modules and classes are unpickled)
            failed = Failed(exception=error)
            text = f"{failed.message} (in the graph that {run.slug} returned)"
            event = GrowthFailed(time.monotonic(), run.id, submission, text, describe(failed))
        self._post(event)

    def _grown(self, run: PlannedRun, submission: int) -> Grew | GrowthFailed:
        if self._planner is None:
            text = (
                "OptionError: expand needs a flow run for its graph to join; submit what the graph "
                "does by single calls, or run a flow with this task in it"
            )
            return GrowthFailed(time.monotonic(), run.id, submission, text)
        data: bytes = self._channel.fetch(run.id, None)
        grown = self._planner.plan(run, data)
        return Grew(time.monotonic(), run.id, submission, grown.runs, grown.inner, grown)

    def join(self, event: Grew) -> None:
        """Take in what the machine has taken in."""
        assert self._planner is not None
        self._planner.join(event.origin, self._channel)
