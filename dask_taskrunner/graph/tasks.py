"""Tasks: a function with options, and what calling one makes. It knows flows only as what is being
built (:mod:`~dask_taskrunner.graph.building`), and nothing of how a task is run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import CoroutineType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.graph import arguments
from dask_taskrunner.graph.bodies import run_coroutine
from dask_taskrunner.graph.building import OpenFlow, current_flow, is_building
from dask_taskrunner.graph.definitions import Definition
from dask_taskrunner.graph.operators import Operators
from dask_taskrunner.graph.options import TaskOptions, check_options
from dask_taskrunner.shown import Shown

P = ParamSpec("P")
R = TypeVar("R")


class Task(Definition[R], Shown):
    """A unit of work: a body with options, which flows may use many times.

    Derive from it and define ``run``, or decorate a function with :func:`task`. A subclass may
    set options as class attributes. A task is not changed after it is made: workers get one
    pickle of it for all its uses.

    Parameters
    ----------
    name : str, optional
        What its uses are called; the class's name by default.
    **options
        See :class:`~dask_taskrunner.graph.options.TaskOptions`.

    Raises
    ------
    OptionError
        An option is unknown, or its value cannot be used.
    """

    def __call__(
        self,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] | None = None,
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> BoundTask[R]:
        """Bind a copy of this task to the flow that is being built.

        Parameters
        ----------
        *args, **kwargs
            Arguments of ``run``: tasks and anything picklable, at any depth of lists, tuples,
            sets, dicts and dataclasses.
        upstream_tasks : iterable
            Tasks that must have finished first; nothing of theirs is passed.
        task_args : mapping, optional
            Options, and ``name``, for this one use.

        Returns
        -------
        BoundTask
            It stands for the result, and can be passed to other tasks of the flow.

        Raises
        ------
        OutsideFlow
            No flow is being built.
        ArgumentError
            The arguments do not fit the signature.
        """
        flow = self._current_flow("was called", "; {}.run(...) is the plain function")
        bound = flow.bind(self, args, kwargs, upstream_tasks=upstream_tasks, task_args=task_args)
        return cast("BoundTask[R]", bound)

    def map(
        self,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] | None = None,
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> BoundTask[list[R]]:
        """Bind a copy of this task that is run once for each element of its arguments.

        Each run is a child of its own: with a state, retries and a trigger, and ``map_index`` in
        its context. How many there are may be known only when what is mapped over has run; the
        elements stay on the workers.

        Parameters
        ----------
        *args, **kwargs
            Arguments of ``run``: tasks and sequences, of which each child gets the element of its
            index, and what is the same for all, as ``unmapped(x)``. What is left at its default is
            not mapped.
        upstream_tasks : iterable
            Tasks that must have finished before the first child begins.
        task_args : mapping, optional
            Options, and ``name``, for this one use.

        Returns
        -------
        BoundTask
            It stands for the list of results, in the order of the elements. Mapped over, each
            child of the other task gets the result of the child of its own index.

        Raises
        ------
        OutsideFlow
            No flow is being built.
        ArgumentError
            The arguments do not fit the signature, cannot be mapped over, or differ in length.
        """
        flow = self._current_flow("was mapped", "; runner.map({}, ...) needs no flow")
        bound = flow.bind(
            self, args, kwargs, upstream_tasks=upstream_tasks, task_args=task_args, mapped=True
        )
        return cast("BoundTask[list[R]]", bound)

    def _current_flow(self, what: str, instead: str) -> OpenFlow:
        if "explicit_options" not in vars(self):
            raise OptionError(f"{type(self).__name__}.__init__ does not call super().__init__()")
        return current_flow(f"task {self.name!r} {what}", instead.format(self.name))

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


class FunctionTask(Task[R], Generic[P, R]):
    """A task made of a function, or of any other callable; see :func:`task`."""

    function: Callable[..., Any]

    def __init__(
        self,
        function: Callable[P, Any],
        /,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self.function = function
        functools.update_wrapper(self, function, updated=())
        super().__init__(_name_of(function) if name is None else name, **options)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function; what is ``async def`` is run to its end."""
        value = self.function(*args, **kwargs)
        return cast("R", run_coroutine(value) if isinstance(value, CoroutineType) else value)

    @property
    def body(self) -> Callable[..., Any]:
        """What a run executes."""
        return self.function


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


@overload
def task(
    function: Callable[P, Coroutine[Any, Any, R]],
    /,
    name: str | None = ...,
    **options: Unpack[TaskOptions],
) -> FunctionTask[P, R]: ...


@overload
def task(
    function: Callable[P, R], /, name: str | None = ..., **options: Unpack[TaskOptions]
) -> FunctionTask[P, R]: ...


@overload
def task(*, name: str | None = ..., **options: Unpack[TaskOptions]) -> Decorator: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    name: str | None = None,
    **options: Unpack[TaskOptions],
) -> Any:
    """Make a task of a function: ``@task``, or ``@task(max_retries=3)``.

    Parameters
    ----------
    function : callable
        Also an ``async def``, whose coroutine is run; a generator function, whose values become
        a list; or a builtin, as in ``task(len)``.
    name : str, optional
        The function's name by default.
    **options
        See :class:`~dask_taskrunner.graph.options.TaskOptions`.

    Raises
    ------
    OptionError
        An option is unknown, or its value cannot be used, or what is decorated cannot be a task.
    """
    if function is None:
        # Now, not when the function is there: the decorator's line is the one to mend.
        check_options({**options}, where="task")
        return Decorator(name, options)
    if isinstance(function, Task):
        raise OptionError(
            f"{function!r} is a task already; {function.name}.with_options(...) makes another"
        )
    if not callable(function):
        raise OptionError(
            f"task takes a function, not {function!r}; its name goes by keyword: @task(name=...)"
        )
    return FunctionTask(function, name, **options)


class Decorator:
    """What ``@task(...)`` decorates with."""

    def __init__(self, name: str | None, options: TaskOptions) -> None:
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> FunctionTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> FunctionTask[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the task."""
        return task(function, self._name, **self._options)


class Node(Operators["BoundTask[Any]"]):
    """What a flow's graph consists of: a bound task or a parameter.

    Two nodes are equal only where they are the same object.

    Attributes
    ----------
    name : str
    slug : str
        What names it inside its flow.
    flow : Flow
        The flow that it belongs to. A pickle does not have it.
    """

    name: str
    slug: str
    flow: Any

    def _apply(self, function: Callable[..., Any], *operands: Any) -> BoundTask[Any]:
        return _operation(function)(*operands)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "flow"}

    def __copy__(self) -> Self:
        # A copy would be another node, of no flow.
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __format__(self, spec: str) -> str:
        self._refuse_text()
        return format(repr(self), spec)

    def __str__(self) -> str:
        self._refuse_text()
        return repr(self)

    def _refuse_text(self) -> None:
        # Outside of a block it is an error's text or a log's that a task is formatted into.
        if is_building():
            self._refuse(
                "the text (`f'{x}/y'`, `str(x)`, `print(x)`)",
                "Write `x + '/y'`, or format inside a task; `repr(x)` shows the task itself.",
            )


@functools.cache
def _operation(function: Callable[..., Any]) -> FunctionTask[..., Any]:
    # One definition for all uses, so that a worker gets one pickle of it.
    return FunctionTask(function, function.__name__.strip("_"))


class BoundTask(Node, Generic[R]):
    """One use of a task in a flow; stands for the result that it will have.

    Attributes
    ----------
    definition : Task
        What is run, this use's options included; the same object for all uses with the same
        options, and what workers get.
    task : Task
        What was called: the definition before ``task_args``.
    arguments : dict
        Parameter name -> argument, with the nodes in it.
    is_mapped : bool
        True where it is run once for each element of those arguments that are marked as
        :class:`~dask_taskrunner.graph.mapping.Each`.
    """

    definition: Task[R]
    task: Task[R]
    arguments: dict[str, Any]
    is_mapped: bool

    def __init__(
        self,
        flow: OpenFlow,
        name: str,
        slug: str,
        definition: Task[R],
        task: Task[R],
        *,
        is_mapped: bool = False,
    ) -> None:
        self.flow = flow
        self.name = name
        self.slug = slug
        self.definition = definition
        self.task = task
        self.arguments = {}
        self.is_mapped = is_mapped

    def __iter__(self) -> Iterator[BoundTask[Any]]:
        # Of a mapped task each child returns so many values, and nobody knows how many children.
        if self.definition.nout is None or self.is_mapped:
            return super().__iter__()
        return (self[number] for number in range(self.definition.nout))

    def __getstate__(self) -> dict[str, Any]:
        # Arguments lead to other tasks, and from there to all that is upstream: a flow's pickle
        # has them beside its tasks, where they cannot nest.
        return super().__getstate__() | {"arguments": {}}

    def __repr__(self) -> str:
        return f"<BoundTask {self.slug!r}>"


def find_nodes(value: object) -> list[Node]:
    """Return the tasks and parameters in an argument, each once."""
    return cast("list[Node]", arguments.find(value, Node))
