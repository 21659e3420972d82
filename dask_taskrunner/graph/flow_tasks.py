"""A flow used as a task of another flow: its tasks become that flow's own, under one name.

There is no task that waits for the inner ones, so nothing holds a slot, however deep flows lie in
flows: whoever reads the result stands behind the inner task that makes it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any, NamedTuple, NoReturn, Unpack, cast

from dask_taskrunner.exceptions import FlowError, OptionError
from dask_taskrunner.graph import signatures
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.building import OpenFlow, current_flow
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.options import TaskOptions, check_name
from dask_taskrunner.graph.parameters import NO_DEFAULT, Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node, Task


class Group(NamedTuple):
    """One use of a flow as a task.

    Attributes
    ----------
    slug : str
        Its name in the flow.
    tasks : tuple of BoundTask
        The inner tasks, in their order.
    reference : tuple of BoundTask
        Whose states decide about it.
    result : object
        The inner task that has its result, or a dict of such by their slugs inside.
    """

    slug: str
    tasks: tuple[BoundTask[Any], ...]
    reference: tuple[BoundTask[Any], ...]
    result: Any

    def moved(self, slug: str, copies: Mapping[Any, Any]) -> Group:
        """Return the same of copies of the tasks, under another slug."""
        return Group(
            slug,
            tuple(copies[task] for task in self.tasks),
            tuple(copies[task] for task in self.reference),
            replace(self.result, Node, copies.__getitem__),
        )


class FlowTask(Task[Any]):
    """A flow as a task; see :meth:`Flow.as_task`."""

    def __init__(self, flow: Any, result: Any = None) -> None:
        self.inner = flow
        #: The bound task that has the result; None for the reference tasks.
        self.inner_result = None if result is None else flow.resolve_task(result)
        super().__init__(flow.name)

    @functools.cached_property
    def signature(self) -> Signature:
        """The flow's parameters."""
        return Signature(
            [
                Argument(name, Argument.KEYWORD_ONLY, default=_default(parameter))
                for name, parameter in self.inner.parameters().items()
            ]
        )

    def run(self, **parameters: Any) -> NoReturn:  # noqa: ARG002 (it only says what to do)
        """Raise: it has no body of its own."""
        raise FlowError(
            f"flow {self.name!r} used as a task has no function of its own; "
            "flow.run(...) runs the flow"
        )

    def with_options(self, *, name: str | None = None, **options: Unpack[TaskOptions]) -> FlowTask:
        """Return the same flow as a task of another name; it has no options of its own."""
        _refuse_options(self.name, options)
        new = FlowTask(self.inner, self.inner_result)
        new.name = new.slug = self.name if name is None else check_name(name, self.name)
        return new

    def __call__(
        self,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] | None = None,
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the flow's tasks to the flow that is being built.

        Parameters
        ----------
        *args, **kwargs
            Values of its parameters, by name: tasks and anything picklable.
        upstream_tasks : iterable
            Tasks that must have finished before the first of its tasks begins.
        task_args : mapping, optional
            ``name``, for this one use.

        Returns
        -------
        BoundTask or dict
            What stands for the result: the task inside that makes it, or a dict of such.
        """
        options = dict(task_args or {})
        name = check_name(options.pop("name", self.name), self.name)
        _refuse_options(self.name, options)
        flow = current_flow(f"flow {self.name!r} was called as a task", "")
        given = signatures.bind(self.signature, name, args, kwargs)
        if upstream_tasks is None:
            upstream_tasks = ()
        elif isinstance(upstream_tasks, Node):
            upstream_tasks = (upstream_tasks,)
        return inline(flow, self, name, given, upstream_tasks)

    def map(self, /, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 (as above)
        """Raise: a graph per element is what :func:`apply_map` builds."""
        raise FlowError(
            f"flow {self.name!r} cannot be mapped as a task; write "
            f"apply_map(function, xs), with a function that calls {self.name}(...) for one element"
        )


def _refuse_options(name: str, options: Mapping[str, Any]) -> None:
    for option in options:
        raise OptionError(
            f"{name}: a flow used as a task has no {option!r}, for it has no body of its own; set "
            "it on the tasks inside, or as Flow(task_defaults=...)"
        )


def _default(parameter: Parameter) -> Any:
    if parameter.default is not NO_DEFAULT:
        return parameter.default
    return Argument.empty if parameter.required else None


def inline(
    flow: OpenFlow, task: FlowTask, name: str, given: Mapping[str, Any], upstream: Iterable[Any]
) -> Any:
    """Copy the tasks of a flow into another one, and return what has its result there."""
    inner = task.inner
    inner.validate()
    sources = [flow.has(node) for node in upstream]
    values: dict[Node, Any] = {}
    for key, parameter in inner.parameters().items():
        value = given.get(key, _default(parameter))
        outside = find(value, Node)
        for node in outside:
            flow.has(node)
        if not outside:
            parameter.check(value)
        values[parameter] = value
    slug = flow.new_slug(name)
    copies: dict[Node, BoundTask[Any]] = {
        node: flow.adopt(node, inner.task_defaults, f"{slug}/{node.slug}")
        for node in inner.tasks
        if isinstance(node, BoundTask)
    }
    moved: dict[Node, Any] = {**values, **copies}
    for node, copy in copies.items():
        given_inside = cast("BoundTask[Any]", node).arguments
        copy.arguments = replace(given_inside, Node, moved.__getitem__)
        flow.connect(_edges(inner, node, copies, values))
    for root in inner.root_tasks():
        flow.connect(Edge(source, copies[root]) for source in sources)
    reference = tuple(copies[one] for one in inner.reference_tasks())
    result = _result(task, copies)
    flow.groups[slug] = Group(slug, tuple(copies.values()), reference, result)
    for within in inner.groups.values():
        # A flow in a flow in a flow.
        inside = within.moved(f"{slug}/{within.slug}", copies)
        flow.groups[inside.slug] = inside
    return result


def _edges(
    inner: Any, node: Node, copies: Mapping[Node, BoundTask[Any]], values: Mapping[Node, Any]
) -> list[Edge]:
    edges = []
    for edge in inner.edges:
        if edge.downstream_task is not node:
            continue
        source = edge.upstream_task
        if source in copies:
            edges.append(Edge(copies[source], copies[node], edge.key, edge.mapped))
        else:
            # A parameter: what it is given may be tasks outside.
            value = values[source]
            edges += [
                Edge(found, copies[node], edge.key, edge.mapped and found is value)
                for found in find(value, Node)
            ]
    return edges


def _result(task: FlowTask, copies: Mapping[Node, BoundTask[Any]]) -> Any:
    if task.inner_result is not None:
        return copies[task.inner_result]
    reference = task.inner.reference_tasks()
    if len(reference) == 1:
        return copies[reference[0]]
    return {one.slug: copies[one] for one in reference}
