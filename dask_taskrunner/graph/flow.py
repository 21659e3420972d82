"""Flows as they are built. How a flow is run is not known here; a hook does it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from dask_taskrunner import hooks
from dask_taskrunner.exceptions import FlowError, ParameterError
from dask_taskrunner.graph import arguments, building, signatures
from dask_taskrunner.graph.binding import (
    Variants,
    find_sources,
    map_arguments,
    read_task_args,
)
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.flow_graph import FlowGraph
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, Node, Task, find_nodes
from dask_taskrunner.shown import Shown

if TYPE_CHECKING:
    from dask_taskrunner.drawing.picture import Picture


class Flow(FlowGraph, Shown):
    """A graph of tasks.

    Inside ``with Flow(...) as flow:`` calling a task adds it to the flow, and passing what the
    call returned to another call adds an edge. A block may be entered again later. The methods
    below do the same without one; they take a bound task, its slug, or a task that is used once.

    Parameters
    ----------
    name : str
    task_defaults : mapping, optional
        Options of the flow's tasks, where a task does not say otherwise itself.
    state_handlers : sequence of callables, optional
        Each is called with ``(flow, old_state, new_state)`` when a run starts and ends.

    Raises
    ------
    OptionError
        An option is unknown, or its value cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        task_defaults: Mapping[str, Any] | None = None,
        state_handlers: Sequence[Callable[..., Any]] = (),
    ) -> None:
        super().__init__(name, task_defaults=task_defaults, state_handlers=state_handlers)
        self._variants = Variants()

    def __enter__(self) -> Self:
        building.enter(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        building.leave()

    # --- building ----------------------------------------------------------------------------

    def bind(
        self,
        task: Task[Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        upstream_tasks: Iterable[Any] | None = None,
        task_args: Mapping[str, Any] | None = None,
        mapped: bool = False,
        after_each: Iterable[Node] = (),
    ) -> BoundTask[Any]:
        """Add a use of a task: what calling it, or its ``map``, inside the flow's block does.

        Each child waits for the child of its own index of what is in ``after_each``.
        """
        name, options = read_task_args(task, task_args)
        definition = self._variants.get(task, options)
        given = signatures.bind(definition.signature, name, args, kwargs or {})
        if mapped:
            given = map_arguments(name, definition, given, needs_columns=not after_each)
        # What can go wrong goes wrong before anything is added.
        sources: list[tuple[Node, str | None, bool]] = [
            (self._find(node), key, is_each)
            for node, key, is_each in find_sources(name, definition, given)
        ]
        sources += [(self._find(node), None, False) for node in _each(upstream_tasks)]
        sources += [(self._find(node), None, True) for node in after_each]
        bound: BoundTask[Any] = self._add(task, name, definition, mapped)
        bound.arguments = given
        self._dag.connect(Edge(source, bound, key, is_each) for source, key, is_each in sources)
        return bound

    def add_task(self, task: Task[Any] | Node) -> Any:
        """Add a task without arguments; :meth:`add_edge` and its like pass them later.

        Returns
        -------
        BoundTask
        """
        if isinstance(task, Task):
            return self._add(task, task.name, task, mapped=False)
        if isinstance(task, Parameter) and "flow" not in vars(task):
            if task.name in self._parameters:
                raise ParameterError(
                    f"flow {self.name!r} has a parameter {task.name!r} already; use that one"
                )
            task.flow = self
            self._parameters[task.name] = task
            self._dag.add(task)
        return self._find(task)

    def add_edge(self, upstream: Any, downstream: Any, key: str | None = None) -> Edge:
        """Let one task wait for another, and pass it the result as its argument `key`, if given.

        Raises
        ------
        CycleError
            The upstream task waits for the downstream one already.
        ArgumentError
            There is no such argument, or it is given already.
        """
        source, target = self._find(upstream), self._waiting(downstream)
        if key is None:
            self._dag.connect([Edge(source, target)])
        else:
            self._pass(target, key, source)
        return Edge(source, target, key)

    def set_dependencies(
        self,
        task: Any,
        *,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
    ) -> BoundTask[Any]:
        """Let a task wait for others, others for it, and pass it arguments by name."""
        bound = self._waiting(task)
        for upstream in _each(upstream_tasks):
            self.add_edge(upstream, bound)
        for downstream in _each(downstream_tasks):
            self.add_edge(bound, downstream)
        for key, value in (keyword_tasks or {}).items():
            self._pass(bound, key, self._find(value) if isinstance(value, Task) else value)
        return bound

    def chain(self, *tasks: Any) -> tuple[Node, ...]:
        """Let each task wait for the one before it."""
        nodes = tuple(self._find(task) for task in tasks)
        for upstream, downstream in itertools.pairwise(nodes):
            self.add_edge(upstream, downstream)
        return nodes

    def update(self, other: Flow) -> dict[Node, Node]:
        """Add copies of another flow's tasks, edges and parameters to this one.

        The copies get new slugs where theirs are taken, and keep the other flow's
        ``task_defaults``; parameters of the same name become one. The other flow's reference
        tasks and state handlers are not taken over.

        Returns
        -------
        dict
            Each task and parameter of the other flow -> what stands for it here.

        Raises
        ------
        ParameterError
            Both flows have a parameter of one name, with different types or defaults.
        """
        for name, theirs in other._parameters.items():
            if name in self._parameters and not self._parameters[name].is_like(theirs):
                raise ParameterError(
                    f"flows {self.name!r} and {other.name!r} both have a parameter {name!r}, "
                    "with different types or defaults"
                )
        return _take_over(self, other, other.task_defaults)

    def copy(self) -> Flow:
        """Return a flow with the same slugs, whose tasks and edges can be changed apart."""
        new = Flow(self.name, task_defaults=self.task_defaults, state_handlers=self.state_handlers)
        copies = _take_over(new, self, {})
        if self._reference_tasks is not None:
            new.set_reference_tasks([copies[task] for task in self._reference_tasks])
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> Flow:
        # Constants are held by reference, in a copy too.
        return self.copy()

    def set_reference_tasks(self, tasks: Iterable[Any] | None) -> None:
        """Choose the tasks whose states decide the flow's; None for the default."""
        found = None if tasks is None else tuple(map(self.resolve_task, _each(tasks)))
        if found == ():
            raise FlowError(f"flow {self.name!r}: at least one task must decide its state")
        self._reference_tasks = found

    # --- running -----------------------------------------------------------------------------

    def run(self, /, **options: Any) -> Any:
        """Run the flow, and wait for its end.

        Takes what :meth:`DaskTaskRunner.run` takes after the flow, and ``runner``.

        Returns
        -------
        FlowRun
        """
        return hooks.call("Flow.run", self, **options)

    def visualize(self, filename: str | None = None, format: str | None = None) -> Picture:
        """Draw the flow.

        Parameters
        ----------
        filename : str, optional
            Where to write the picture; its ending tells the format.
        format : str, optional
            Where its name does not tell: ``svg txt mmd dot``, or with Graphviz ``png pdf ...``.

        Returns
        -------
        Picture
            Its text is a drawing; a notebook shows it as a picture.
        """
        from dask_taskrunner.graph.pictures import draw  # not loaded where nothing is drawn

        picture = draw(self)
        if filename is not None:
            picture.save(filename, format)
        return picture

    # --- how ---------------------------------------------------------------------------------

    def _add(self, task: Any, name: str, definition: Any, mapped: bool, slug: str = "") -> Any:
        own_slug = slug or self._lookup.new_slug(name)
        bound = BoundTask(self, name, own_slug, definition, task, is_mapped=mapped)
        self._lookup.add(bound, is_used=not slug)
        self._dag.add(bound)
        return bound

    def adopt(self, node: BoundTask[Any], defaults: Mapping[str, Any], slug: str = "") -> Any:
        """Add a copy of a task, without its arguments, `defaults` among its own options.

        One that is given a slug is a part of something, and is found by that alone.
        """
        own = node.definition.explicit_options
        missing = {key: defaults[key] for key in defaults if key not in own}
        definition = self._variants.get(node.definition, missing)
        return self._add(node.task, node.name, definition, node.is_mapped, slug)

    def connect(self, edges: Iterable[Edge]) -> None:
        """Add edges between nodes of this flow."""
        self._dag.connect(edges)

    def _pass(self, bound: BoundTask[Any], key: str, value: Any) -> None:
        """Pass one more argument to a task."""
        given = signatures.bind_more(
            bound.definition.signature, bound.slug, bound.arguments, key, value
        )
        self._dag.connect(Edge(self._find(source), bound, key) for source in find_nodes(value))
        bound.arguments = given

    def _waiting(self, task: Any) -> BoundTask[Any]:
        node = self._find(task)
        if not isinstance(node, BoundTask):
            raise FlowError(f"{node.slug!r} is a parameter: it waits for nothing")
        return node


def _each(tasks: Any) -> Iterable[Any]:
    """Return each of several tasks; one alone, which forgot its list, is one."""
    # A slug would be taken for a list of letters, and a task cannot be iterated over.
    if tasks is None:
        return ()
    is_one = isinstance(tasks, (str, Node)) or not isinstance(tasks, Iterable)
    return [tasks] if is_one else tasks


def _take_over(flow: Flow, other: Flow, task_defaults: Mapping[str, Any]) -> dict[Node, Node]:
    """Copy all of another flow into a flow, `task_defaults` into its tasks' own options."""
    copies: dict[Node, Node] = {}
    bound: dict[Node, BoundTask[Any]] = {}
    nodes, edges = other.tasks, other.edges
    renamed = {slug: flow.new_slug(slug) for slug in other.groups if "/" not in slug}
    for node in nodes:
        if isinstance(node, BoundTask):
            top, inside, rest = node.slug.partition("/")
            slug = f"{renamed[top]}/{rest}" if inside else ""
            copies[node] = bound[node] = flow.adopt(node, task_defaults, slug)
        elif node.name in flow._parameters:
            copies[node] = flow._parameters[node.name]
        else:
            copies[node] = flow.add_task(cast("Parameter", node).unbound())
    # An edge may lead backwards in the order of binding, so all copies are there first.
    for node, task in bound.items():
        given = cast("BoundTask[Any]", node).arguments
        task.arguments = arguments.replace(given, Node, copies.__getitem__)
    for edge in edges:
        source, target = copies[edge.upstream_task], bound[edge.downstream_task]
        flow._dag.connect([Edge(source, target, edge.key, edge.mapped)])
    for group in other.groups.values():
        top, inside, rest = group.slug.partition("/")
        moved = group.moved(f"{renamed[top]}{inside}{rest}", bound)
        flow.groups[moved.slug] = moved
    return copies
