"""What is known of a flow run: a look at the machine's records. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from dask_taskrunner import exceptions
from dask_taskrunner.driver import Driver
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.flow_tasks import Group
from dask_taskrunner.graph.tasks import BoundTask
from dask_taskrunner.group_run import GroupRun
from dask_taskrunner.headers import TaskRunId, to_state
from dask_taskrunner.listener import Listener, Note
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.reporting import describe_failures, table_row
from dask_taskrunner.states import Failed, Pending, Running, State, TriggerFailed
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.view.text import flow_run_repr

R = TypeVar("R")


class FlowRecord:
    """The reading half of :class:`~dask_taskrunner.flow_run.FlowRun`."""

    def __init__(
        self,
        flow: Flow,
        plan: FlowPlan,
        run_id: str,
        run_name: str,
        parameters: Mapping[str, Any],
    ) -> None:
        self.flow = flow
        self.run_id = run_id
        self.run_name = run_name
        self.parameters = dict(parameters)
        self._plan = plan
        self._driver: Driver = None  # type: ignore[assignment]  # attach() follows at once
        #: Calls state handlers and keeps notes; not for users.
        self.listener = Listener(flow, plan, run_name)

    @property
    def notes(self) -> list[Note]:
        """What happened besides changes of state: a lost worker, an execution more."""
        return self.listener.notes

    # -- states ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The flow run's own state."""
        final = self._driver.final
        if final is not None:
            return to_state(final, self.run_name)
        return Running() if self.history else Pending()

    @property
    def states(self) -> dict[str, State]:
        """The state of every task run, by slug: headers, whose results may lie on workers.

        A mapped task's children stand behind it, as ``clean[17]``.
        """
        return {run.slug: run.state for run in self.task_runs}

    @property
    def history(self) -> list[HistoryEntry]:
        """Every change of state, oldest first, as small tuples."""
        return self._driver.machine.history

    @property
    def error(self) -> Exception | None:
        """Why the run ended without its tasks: a lost cluster, or an error of this package."""
        return self._driver.error

    @overload
    def __getitem__(self, task: BoundTask[Any]) -> TaskRun: ...

    @overload
    def __getitem__(self, task: Any) -> Any: ...

    def __getitem__(self, task: Any) -> TaskRun | GroupRun:
        """Return a task run by its bound task, its slug, or its task where that is used once."""
        group = self._group(task)
        if group is not None:
            runs = {run.slug: run for run in map(self._task_run, self._known())}
            return GroupRun(group, runs)
        if isinstance(task, str):
            # Also what is no task of the flow: a Dask future that was passed to one.
            id = self._plan.ids.get(task) or self._child_id(task)
            if id is not None:
                return self._task_run(id)
        bound = self.flow.resolve_task(task)
        if bound.slug not in self._plan.ids:
            raise exceptions.UnknownTask(
                f"{bound.slug!r} came into the flow after {self.run_name!r} had started"
            )
        return self._task_run(self._plan.ids[bound.slug])

    def _group(self, slug: Any) -> Group | None:
        """Return the flow that is used as a task under a slug: it has no task run of its own."""
        # A task that has grown to one has.
        if not isinstance(slug, str) or slug in self._plan.ids:
            return None
        return self.flow.groups.get(slug) or self._plan.groups.get(slug)

    def _child_id(self, slug: str) -> TaskRunId | None:
        """Return the id of a mapped task's child, or None where it is the name of none."""
        name, bracket, index = slug.removesuffix("]").rpartition("[")
        parent = self._plan.ids.get(name)
        if parent is None or not bracket or not index.isdecimal():
            return None
        records = self._driver.machine.records
        id = (parent[0], int(index))
        if id not in records:
            why = _why_no_child(records[parent])
            raise exceptions.UnknownTask(f"{self.run_name!r} has no task run {slug!r}: {why}")
        return id

    def __iter__(self) -> Iterator[str]:
        return (run.slug for run in self.task_runs)

    def __len__(self) -> int:
        return len(self._driver.machine.records)

    def _task_run(self, id: TaskRunId) -> TaskRun:
        retries = self._plan.resolved[id[0]].max_retries
        return TaskRun(self._driver.machine.records[id], self._driver, retries, self._task_run)

    def _known(self) -> list[TaskRunId]:
        """Return all task runs but children, in the order of the plan."""
        # More may join while somebody looks.
        return list(self._plan.ids.values())

    @property
    def task_runs(self) -> list[TaskRun]:
        """All task runs, in the order of the plan, each with its children and inner runs behind."""
        records = self._driver.machine.records
        tops = [self._task_run(id) for id in self._known() if records[id].outer is None]
        return [one for top in tops for one in top.with_all_inside()]

    @property
    def failures(self) -> list[TaskRun]:
        """The task runs that failed by themselves, root causes first."""
        failed = sorted(record.id for record in self._records(_failed_by_itself))
        return [self._task_run(id) for id in failed]

    @property
    def still_running(self) -> list[TaskRun]:
        """The task runs whose code is known to be running, those of a cancelled run included."""

        def runs(record: TaskRunRecord) -> bool:
            return record.running is not None or record.left_running is not None

        return [self._task_run(record.id) for record in self._records(runs)]

    def _records(self, wanted: Callable[[TaskRunRecord], bool]) -> list[TaskRunRecord]:
        return [*filter(wanted, list(self._driver.machine.records.values()))]

    # -- results --------------------------------------------------------------------------

    @overload
    def result(self, task: BoundTask[R], timeout: float | None = ...) -> R: ...

    @overload
    def result(self, task: Any = ..., timeout: float | None = ...) -> Any: ...

    def result(self, task: Any = None, timeout: float | None = None) -> Any:
        """Return a task run's result, or the reference tasks'.

        Parameters
        ----------
        task : BoundTask or str or Task, optional
            Default: the only reference task, else a dict of the reference tasks by slug.
        timeout : float, optional
            In seconds, for each.

        Raises
        ------
        Exception
            As :meth:`TaskRun.result`.
        """
        if task is not None:
            return self[task].result(timeout)
        # As they were when the run began: the flow may have grown since.
        runs = [self._task_run(id) for id in sorted(self._plan.machine.reference)]
        results = {run.slug: run.result(timeout) for run in runs}
        return next(iter(results.values())) if len(results) == 1 else results

    # -- looking --------------------------------------------------------------------------

    def table(self, task: Any = None) -> list[dict[str, Any]]:
        """Return a row for each task run, one ``pandas.DataFrame(...)`` away from a table.

        Parameters
        ----------
        task : BoundTask or str or Task, optional
            Only this one's, and those of its children and inner runs.

        Returns
        -------
        list of dict
            With ``slug task map_index state message attempts worker queued started ended
            seconds nbytes inputs``; times are UTC, ``seconds`` is the last body's duration.
        """
        runs = self.task_runs if task is None else self[task].with_all_inside()
        return [table_row(run.record, run.state) for run in runs]

    def failure_text(self) -> str:
        """Return what failed and what did not run because of it, as people read it."""
        records = self._driver.machine.records
        return describe_failures(self.flow.name, self.run_name, self._plan, records)

    @property
    def counts(self) -> dict[str, int]:
        """How many task runs show which state."""
        total: dict[str, int] = {}
        # Tasks and states may join while somebody counts.
        for counts in list(self._driver.machine.counts.values()):
            for state, count in list(counts.items()):
                if count:
                    total[state] = total.get(state, 0) + count
        return total

    @property
    def names(self) -> dict[TaskRunId, str]:
        """The task's name for each task run, as views group them."""
        # A flow that is used as a task is one thing there, the outermost one. What joins later is
        # told of in the history.
        return {
            run.id: run.slug.partition("/")[0] if "/" in run.slug else run.name
            for run in self._plan.machine.runs
        }

    def __repr__(self) -> str:
        return flow_run_repr(self.flow.name, self.run_name, type(self.state).__name__, self.counts)


def _why_no_child(record: TaskRunRecord) -> str:
    slug = record.plan.slug
    if record.plan.maps is None:
        return f"{slug!r} is not mapped"
    if record.length is None and record.header is not None:
        return f"{slug!r} is {record.header.state}, and has no children"
    known = "not known yet" if record.length is None else f"{record.length}"
    return f"the number of children of {slug!r} is {known}"


def _failed_by_itself(record: TaskRunRecord) -> bool:
    header = record.header
    return (
        header is not None
        and issubclass(header.state_class, Failed)
        and not issubclass(header.state_class, TriggerFailed)
        and record.inner is None
    )
