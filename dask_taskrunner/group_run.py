"""What a user holds of a flow that is used as a task: one look at all of its task runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.graph.flow_tasks import Group
from dask_taskrunner.graph.tasks import Node
from dask_taskrunner.logs import Logs, logs_of_several
from dask_taskrunner.states import Cancelled, Failed, Pending, Running, State, Success
from dask_taskrunner.task_run import Children, TaskRun


class GroupRun:
    """The task runs of one use of a flow as a task: ``run["prep"]``.

    Attributes
    ----------
    slug, name : str
        ``prep``.
    children : Sequence of TaskRun
        The task runs inside, those of mapped tasks among them.
    """

    def __init__(self, group: Group, runs: dict[str, TaskRun]) -> None:
        self.slug = self.name = group.slug
        self._group = group
        self._runs = runs
        self._inside = [runs[task.slug] for task in group.tasks if task.slug in runs]
        self.children = Children(one for run in self._inside for one in (run, *run.children))

    @property
    def state(self) -> State:
        """What the task runs inside come to: the reference tasks' states decide."""
        states = [run.state for run in self.children]
        reference = [(one.slug, self._runs[one.slug].state) for one in self._group.reference]
        ended = sum(state.is_finished() for state in states)
        if ended < len(states):
            if not any(not state.is_pending() for state in states):
                return Pending(message=f"0 of {len(states)} finished")
            return Running(message=f"{ended} of {len(states)} finished")
        failed = [(slug, state) for slug, state in reference if state.is_failed()]
        if failed:
            slug, state = failed[0]
            cause = getattr(state, "root_cause", None) or (slug, state.message or "")
            return Failed(message=f"{cause[0]}: {cause[1]}", root_cause=cause)
        if any(state.is_cancelled() for _, state in reference):
            return Cancelled(message=f"{self.slug} was cancelled")
        if all(state.is_skipped() for _, state in reference):
            return type(reference[0][1])(message=reference[0][1].message)
        counts = Counter(type(state).__name__ for state in states)
        return Success(message=", ".join(f"{n} {name}" for name, n in counts.items()))

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, or a dict of the reference tasks' results; wait for it.

        Parameters
        ----------
        timeout : float, optional
            In seconds, for all of it.

        Raises
        ------
        Exception
            As :meth:`TaskRun.result` of the task inside.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def result_of(node: Node) -> Any:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return self._runs[node.slug].result(left)

        return replace(self._group.result, Node, result_of)

    @property
    def logs(self) -> Logs:
        """What all task runs inside have logged, by the time."""
        return logs_of_several([run.logs for run in self._inside])

    @property
    def failures(self) -> Sequence[TaskRun]:
        """The task runs inside that failed."""
        return self.children.failed

    def with_all_inside(self) -> list[TaskRun]:
        """Return all task runs of it."""
        return [one for run in self.children for one in run.with_all_inside()]

    def __repr__(self) -> str:
        state = self.state
        return f'<GroupRun {self.slug} {type(state).__name__}("{state.message or ""}")>'
