"""From a call to task runs: what ``submit`` and ``map`` were given, and what is to be sent for it.

What can be wrong is found here, in the caller's line. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, NamedTuple

from dask_taskrunner.awaiting import Awaited
from dask_taskrunner.exceptions import ArgumentError, OptionError
from dask_taskrunner.graph import signatures
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.binding import read_task_args
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.mapping import (
    Each,
    check_lengths,
    columns_of,
    elements_at,
    elements_of,
    has_own_length,
    mark_columns,
)
from dask_taskrunner.graph.tasks import FunctionTask, Node, Task
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures
from dask_taskrunner.worker.placeholders import Placeholder

#: What stands for a result among the arguments, and is ours.
OURS: Final = (TaskRunFuture, TaskRunFutures, TaskRun, Node)


class Call(NamedTuple):
    """A task, and the arguments of one run of it."""

    arguments: Mapping[str, Any]
    #: What it waits for, each once: futures and task runs, ours and the cluster's own.
    upstream: tuple[Any, ...]


def make_task(f: Any, task_args: Mapping[str, Any] | None) -> tuple[str, Task[Any]]:
    """Return what is called and under which name, as a task with the options of this one use.

    Raises
    ------
    OptionError
        It cannot be called, or an option is wrong.
    """
    if isinstance(f, Node):
        raise OptionError(
            f"{f.slug!r} is a task of flow {f.flow.name!r}, bound to its arguments there; submit "
            f"the task itself, runner.submit({f.name}, ...), or go on from a run of the flow: "
            f"runner.submit(f, run[{f.slug!r}])"
        )
    if isinstance(f, Coroutine):
        # It is said here, and Python need not warn of it as well.
        f.close()
        name = "f" if isinstance(f, Awaited) else getattr(f, "__name__", "f")
        raise OptionError(
            f"a coroutine that nobody awaited was submitted; submit the function, without calling "
            f"it: runner.submit({name}, ...), not runner.submit({name}(...))"
        )
    if not isinstance(f, Task):
        _check_callable(f)
        f = FunctionTask(f)
    name, options = read_task_args(f, task_args)
    return name, f.with_options(**options) if options else f


def _check_callable(f: Any) -> None:
    if isinstance(f, type) and issubclass(f, Task):
        name = f.__name__
        raise OptionError(f"{name} is a class of tasks; make one: runner.submit({name}(), ...)")
    if isinstance(f, Flow):
        raise OptionError(f"{f.name!r} is a flow, which is run: runner.run(flow)")
    if not callable(f):
        raise OptionError(f"submit and map take a task or a function first, not {f!r}")


def read_call(
    definition: Task[Any],
    name: str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    upstream_tasks: Iterable[Any],
    foreign_types: tuple[type, ...],
) -> Call:
    """Return the call of ``submit``.

    Raises
    ------
    ArgumentError
        The arguments do not fit the signature, or hold what has no result here.
    """
    arguments = signatures.bind(definition.signature, name, args, kwargs)
    upstream = read_upstream(name, upstream_tasks, foreign_types)
    return with_upstream(name, arguments, upstream, foreign_types)


def read_upstream(
    name: str, upstream_tasks: Any, foreign_types: tuple[type, ...]
) -> tuple[Any, ...]:
    """Return what a call is to wait for without getting its result.

    Raises
    ------
    ArgumentError
        There is something among it that never ends.
    """
    wanted = (*OURS, *foreign_types)
    if not isinstance(upstream_tasks, Iterable) or isinstance(upstream_tasks, (str, *wanted)):
        upstream_tasks = (upstream_tasks,)
    upstream = tuple(upstream_tasks)
    for source in upstream:
        if not isinstance(source, wanted):
            raise ArgumentError(
                f"{name}: upstream_tasks takes futures and task runs, not {source!r}"
            )
    return upstream


def with_upstream(
    name: str,
    arguments: Mapping[str, Any],
    upstream: tuple[Any, ...],
    foreign_types: tuple[type, ...],
) -> Call:
    """Return a call with all that it waits for.

    Raises
    ------
    ArgumentError
        It is given a task, bound or not, which has no result.
    """
    for key, value in arguments.items():
        if isinstance(value, Task):
            raise ArgumentError(
                f"argument {key!r} of {name} is the task {value.name!r} itself; to pass its "
                f"result, submit it: runner.submit({value.name}, ...)"
            )
    found: dict[int, Any] = {}
    for source in (*find(dict(arguments), (*OURS, *foreign_types)), *upstream):
        if isinstance(source, Node):
            raise ArgumentError(
                f"{name} was given {source.slug!r}, a task of flow {source.flow.name!r}, which has "
                f"no result by itself. Run the flow, and pass run[{source.slug!r}]."
            )
        for one in source if isinstance(source, TaskRunFutures) else (source,):
            found.setdefault(id(one), one)
    return Call(arguments, tuple(found.values()))


def fill(call: Call, places: Mapping[int, int], foreign_types: tuple[type, ...]) -> dict[str, Any]:
    """Return the arguments with placeholders; ``places`` has the place of each upstream by id."""
    if not call.upstream:
        return dict(call.arguments)

    def stand_in(source: Any) -> object:
        if isinstance(source, TaskRunFutures):
            return [Placeholder(places[id(future)]) for future in source]
        return Placeholder(places[id(source)])

    wanted = (TaskRunFuture, TaskRunFutures, TaskRun, *foreign_types)
    return {name: replace(value, wanted, stand_in) for name, value in call.arguments.items()}


# -- mapping ------------------------------------------------------------------------------


class Columns(NamedTuple):
    """The arguments of ``map``: a column of elements, or what is the same for all."""

    length: int
    of: Callable[[int], dict[str, Any]]


def read_columns(
    definition: Task[Any], name: str, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Columns:
    """Return the arguments of ``map``, element by element.

    Raises
    ------
    ArgumentError
        Something cannot be mapped over, the lengths differ, or nothing is mapped over.
    """
    given = signatures.bind(definition.signature, name, args, kwargs)

    def column(label: str, value: Any) -> Each:
        return Each(_elements_of(name, label, value))

    columns = mark_columns(given, definition.shape, column)
    lengths = {
        label: len(each.values) for label, each in columns_of(columns, definition.shape).items()
    }
    if not lengths:
        raise ArgumentError(
            f"map: {name} has no argument to map over; runner.submit({name}, ...) calls it once"
        )
    check_lengths(name, lengths, zip_shortest=definition.zip_shortest)

    def of(i: int) -> dict[str, Any]:
        return elements_at(columns, definition.shape, i)

    return Columns(min(lengths.values()), of)


def _elements_of(name: str, label: str, value: Any) -> Any:
    """Return the elements of what is mapped over, as something with a length and an index.

    Raises
    ------
    ArgumentError
        It is never mapped over; the text shows the right line.
    """
    if isinstance(value, TaskRunFutures):
        return value
    right = _right_line(value)
    if right is not None:
        kind = type(value).__name__
        raise ArgumentError(f"map: {name} cannot be mapped over {label}, a {kind}. {right}")
    # They are sent from here one by one: as iteration gives them, plain numbers of a Series.
    return list(elements_of(name, label, value))


def _right_line(value: Any) -> str | None:
    """Return what to write instead of mapping over what stands for a result."""
    if isinstance(value, Node):
        return f"Run flow {value.flow.name!r}, and map over run[{value.slug!r}].result()."
    if isinstance(value, (TaskRunFuture, TaskRun)) or not has_own_length(value):
        future = f"run[{value.slug!r}]" if isinstance(value, TaskRun) else "future"
        return (
            "How many elements its result has is not known here. Write "
            f"runner.map(f, {future}.result()), or unmapped(...) to pass the whole to each."
        )
    return None
