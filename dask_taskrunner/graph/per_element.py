"""A small graph per element: what a function builds of one stand-in, mapped task by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dask_taskrunner.exceptions import ArgumentError, FlowError, OptionError
from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.graph.building import OpenFlow, current_flow
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.mapping import Each, Unmapped
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node, Task


def apply_map(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Build with a function a small graph for each element.

    The function is called once, with a stand-in for each element, and binds tasks as in a flow's
    block; ``case``, ``switch`` and ``merge`` work in it, and so do operators. Each task that waits
    for an element becomes a mapped task, child standing behind child; any other is run once.

    Parameters
    ----------
    function : callable
        Builds the graph, and returns a task of it, or a tuple, list or dict of such, or None.
    *args, **kwargs
        Its arguments: tasks and sequences, of which each graph gets an element, and what is the
        same for all, as ``unmapped(x)``.

    Returns
    -------
    object
        What the function returned, with the mapped tasks in it.

    Raises
    ------
    ArgumentError
        Nothing is mapped over, or something cannot be.
    FlowError
        The function maps itself, which is one map too many.

    Examples
    --------
    >>> def one(day):  # doctest: +SKIP
    ...     rows = load(day)
    ...     return save(clean(rows), day)
    >>> apply_map(one, days)  # doctest: +SKIP
    """
    if not callable(function):
        raise OptionError(f"apply_map takes a function that binds tasks, not {function!r}")
    flow = current_flow("apply_map was used", "")
    builder = _Builder(flow)
    with builder.scratch:
        stand_ins = [builder.stand_in(value) for value in args]
        named = {name: builder.stand_in(value) for name, value in kwargs.items()}
        if not builder.elements:
            raise ArgumentError("apply_map: there is nothing to map over; call the function itself")
        built = function(*stand_ins, **named)
    return builder.move(built)


class _Builder:
    """The graph of one stand-in, on its way into the flow that is being built."""

    def __init__(self, flow: OpenFlow) -> None:
        self._flow = flow
        self.scratch = Flow("apply_map")
        #: Stand-in -> what it is an element of, and what stands in for a task outside.
        self.elements: dict[Node, Any] = {}
        self._outside: dict[Node, Node] = {}
        #: Tasks that wait for an element.
        self._mapped: set[Node] = set()
        self._copies: dict[Node, Any] = {}

    def stand_in(self, value: Any) -> Any:
        """Return what the function gets for one of its arguments."""
        if isinstance(value, Unmapped):
            return replace(value.value, Node, self._stand_in_for_task)
        if isinstance(value, Task):
            raise ArgumentError(
                f"apply_map was given the task {value.name!r} itself; to map over its result, "
                f"call it: {value.name}(...)"
            )
        element = Parameter(f"element {len(self.elements) + 1}")
        self.elements[element] = value
        return element

    def _stand_in_for_task(self, node: Node) -> Node:
        inside = Parameter(f"outside {len(self._outside) + 1}")
        self._outside[inside] = node
        return inside

    def move(self, built: Any) -> Any:
        """Bind what was built in the flow, and return it as it is there."""
        for node in self.scratch.sorted_tasks():
            if isinstance(node, BoundTask):
                self._copies[node] = self._move(node)
            elif node not in self.elements and node not in self._outside:
                raise FlowError(
                    f"apply_map: parameter {node.name!r} was made in the function; make it in the "
                    "flow's block, and pass it as unmapped(...)"
                )
        return replace(built, Node, self._moved)

    def _moved(self, node: Node) -> Any:
        if node in self._outside:
            return self._outside[node]
        return self.elements[node] if node in self.elements else self._copies[node]

    def _move(self, task: BoundTask[Any]) -> BoundTask[Any]:
        if task.is_mapped:
            raise FlowError(
                f"apply_map: {task.slug!r} is mapped in the function, which is called for each "
                "element; a map in a map is a task that returns a flow"
            )
        upstream = self.scratch.upstream_tasks(task)
        edges = [e for e in self.scratch.edges if e.downstream_task is task and e.key is None]
        ordered = [edge.upstream_task for edge in edges]
        is_mapped = any(self._depends(node) for node in upstream)
        if is_mapped:
            self._mapped.add(task)
        arguments = {key: self._filled(value) for key, value in task.arguments.items()}
        shape = task.definition.shape
        args, kwargs = ([], arguments) if shape is None else shape.split(arguments)
        if is_mapped:
            args = [_column(value) for value in args]
            kwargs = {key: _column(value) for key, value in kwargs.items()}
        bound: BoundTask[Any] = self._flow.bind(
            task.definition,
            args,
            kwargs,
            upstream_tasks=[self._moved(node) for node in ordered if not self._depends(node)],
            task_args={"name": task.name},
            mapped=is_mapped,
            after_each=[self._moved(node) for node in ordered if self._depends(node)],
        )
        return bound

    def _depends(self, node: Node) -> bool:
        return node in self.elements or node in self._mapped

    def _filled(self, value: Any) -> Any:
        def moved(node: Node) -> Any:
            return Each(self._moved(node)) if self._depends(node) else self._moved(node)

        return replace(value, Node, moved)


def _column(value: Any) -> Any:
    # What is mapped over inside something larger stays marked there.
    return value.values if isinstance(value, Each) else Unmapped(value)
