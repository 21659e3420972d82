"""What a flow consists of, and what can be asked of it. It is built elsewhere
(:mod:`~dask_taskrunner.graph.flow`); everything here only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dask_taskrunner.exceptions import ArgumentError, EmptyFlow
from dask_taskrunner.graph import parameters, signatures
from dask_taskrunner.graph.dag import Dag
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.flow_tasks import FlowTask, Group
from dask_taskrunner.graph.lookup import Lookup, foreign
from dask_taskrunner.graph.options import check_name, check_options
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node


class FlowGraph:
    """The reading half of :class:`~dask_taskrunner.graph.flow.Flow`."""

    def __init__(
        self,
        name: str,
        *,
        task_defaults: Mapping[str, Any] | None = None,
        state_handlers: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self.name = check_name(name, "Flow")
        where = f"Flow({name!r})"
        self.task_defaults = check_options(task_defaults or {}, f"{where}, task_defaults")
        handlers = check_options({"state_handlers": state_handlers}, where)
        self.state_handlers: tuple[Callable[..., Any], ...] = handlers["state_handlers"]
        self._dag = Dag()
        self._lookup = Lookup(name)
        self._parameters: dict[str, Parameter] = {}
        #: Flows that are used as tasks here, by the slugs of their uses.
        self.groups: dict[str, Group] = {}
        #: What `set_reference_tasks` was told; None for the default.
        self._reference_tasks: tuple[BoundTask[Any], ...] | None = None

    @property
    def tasks(self) -> tuple[Node, ...]:
        """All tasks and parameters, in the order of their binding."""
        return self._dag.nodes

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges."""
        return self._dag.edges

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters by name."""
        return dict(self._parameters)

    def sorted_tasks(self) -> tuple[Node, ...]:
        """Return all tasks and parameters, each behind what is upstream of it."""
        return self._dag.in_order()

    def get_tasks(self, name: str) -> tuple[BoundTask[Any], ...]:
        """Return the tasks of this name."""
        return tuple(task for task in _bound(self._dag.nodes) if task.name == name)

    def upstream_tasks(self, task: Any) -> tuple[Node, ...]:
        """Return the tasks and parameters that a task waits for."""
        return self._dag.upstream(self._find(task))

    def downstream_tasks(self, task: Any) -> tuple[BoundTask[Any], ...]:
        """Return the tasks that wait for a task or a parameter."""
        return _bound(self._dag.downstream(self._find(task)))

    def root_tasks(self) -> tuple[BoundTask[Any], ...]:
        """Return the tasks that wait for no other task."""
        return tuple(
            task for task in _bound(self._dag.nodes) if not _bound(self._dag.upstream(task))
        )

    def terminal_tasks(self) -> tuple[BoundTask[Any], ...]:
        """Return the tasks that no other task waits for."""
        return tuple(task for task in _bound(self._dag.nodes) if not self._dag.downstream(task))

    def reference_tasks(self) -> tuple[BoundTask[Any], ...]:
        """Return the tasks whose states decide the flow's.

        By default they are the terminal tasks. But what runs after failures only watches or
        cleans up, so the tasks upstream of such a task stand in its place.
        """
        if self._reference_tasks is not None:
            return self._reference_tasks
        found = set()
        # Of a flow inside, its own choice counts.
        chosen = {task: group for group in self.groups.values() for task in group.tasks}
        stack = [
            reference for task in self.terminal_tasks() for reference in _deciding(task, chosen)
        ]
        seen = set(stack)
        while stack:
            task = stack.pop()
            upstream = _bound(self._dag.upstream(task))
            trigger = task.definition.with_defaults(self.task_defaults, {}).trigger
            if upstream and getattr(trigger, "runs_after_failures", False):
                stack += [other for other in upstream if other not in seen]
                seen.update(upstream)
            else:
                found.add(task)
        return tuple(task for task in _bound(self._dag.nodes) if task in found)

    def as_task(self, result: Any = None) -> FlowTask:
        """Return the flow as a task of other flows, whose arguments are its parameters.

        A use of it adds its tasks to the other flow, as ``prep/clean``, and one name for all, as
        ``prep``. They run as any tasks do, so no worker waits for them, three levels deep or more.
        The flow's state handlers are not called.

        Parameters
        ----------
        result : BoundTask or str or Task, optional
            Whose result it returns; by default the only reference task's, else a dict of the
            reference tasks' by slug.

        Returns
        -------
        Task
        """
        return FlowTask(self, result)

    def resolve_task(self, task: Any) -> BoundTask[Any]:
        """Return the bound task that is meant by a bound task, a slug, or a task used once.

        Raises
        ------
        UnknownTask
            There is none, or more than one.
        """
        return self._lookup.find(task)

    def resolve_parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each parameter in a run that is given `values`.

        Raises
        ------
        ParameterError
            A value is missing, belongs to no parameter, or is of another type.
        """
        return parameters.resolve_parameters(self.name, self._parameters, values)

    def validate(self) -> None:
        """Check what can only be checked when the flow is built.

        Raises
        ------
        EmptyFlow
            There is no task.
        ArgumentError
            A task that was added without its arguments never got them.
        """
        tasks = _bound(self._dag.nodes)
        if not tasks:
            raise EmptyFlow(f"flow {self.name!r} has no tasks: call some inside `with flow:`")
        for task in tasks:
            missing = signatures.find_missing(task.definition.signature, task.arguments)
            if missing:
                raise ArgumentError(f"{task.slug} has no argument for {', '.join(missing)}")

    def __contains__(self, task: object) -> bool:
        return task in (self._dag if isinstance(task, Node) else self._lookup)

    def __repr__(self) -> str:
        counts = [_count(len(_bound(self._dag.nodes)), "task")]
        if self._parameters:
            counts.append(_count(len(self._parameters), "parameter"))
        return f"<Flow {self.name!r}: {', '.join(counts)}>"

    # --- pickling ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # A chain of 10,000 tasks must not be 10,000 levels of pickle: tasks are pickled without
        # their arguments, in the order of binding, and the arguments behind them.
        return vars(self) | {_ARGUMENTS: [task.arguments for task in _bound(self._dag.nodes)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        given = state.pop(_ARGUMENTS)
        vars(self).update(state)
        for node in self._dag.nodes:
            node.flow = self
        for task, arguments in zip(_bound(self._dag.nodes), given, strict=True):
            task.arguments = arguments

    # --- for both halves ---------------------------------------------------------------------

    def new_slug(self, name: str) -> str:
        """Return a slug that nothing has."""
        return self._lookup.new_slug(name)

    def has(self, task: Any) -> Node:
        """Return a node of this flow, by itself or by its slug.

        Raises
        ------
        UnknownTask
            It is none.
        """
        return self._find(task)

    def _find(self, task: Any) -> Node:
        """Return the node that is meant: as :meth:`resolve_task`, but parameters too."""
        if isinstance(task, Node):
            if task not in self._dag:
                raise foreign(task, self.name)
            return task
        return self._lookup.find(task)


def _deciding(task: BoundTask[Any], groups: Mapping[Any, Group]) -> tuple[BoundTask[Any], ...]:
    """Return the task, or the reference tasks of the flow inside of which it is none."""
    group = groups.get(task)
    return (task,) if group is None or task in group.reference else group.reference


_ARGUMENTS = "arguments of the tasks"


def _bound(nodes: Iterable[Node]) -> tuple[BoundTask[Any], ...]:
    return tuple(node for node in nodes if isinstance(node, BoundTask))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
