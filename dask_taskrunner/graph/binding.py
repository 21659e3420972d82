"""What one use of a task is made of, before a flow adds it: name, definition, upstream nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_taskrunner.exceptions import ArgumentError, OptionError
from dask_taskrunner.graph.mapping import (
    Each,
    check_lengths,
    columns_of,
    elements_of,
    has_own_length,
    mark_columns,
)
from dask_taskrunner.graph.options import check_name, check_options
from dask_taskrunner.graph.tasks import Node, Task, find_nodes


def read_task_args(
    task: Task[Any], task_args: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return name and options of one use of a task.

    Raises
    ------
    OptionError
        An option is unknown, or its value cannot be used.
    """
    if not task_args:
        return task.name, {}
    where = f"{task.name}, task_args"
    if not isinstance(task_args, Mapping):
        raise OptionError(f"{where}: takes a dict of options, not {task_args!r}")
    options = dict(task_args)
    name = check_name(options.pop("name", task.name), where)
    return name, check_options(options, where)


def map_arguments(
    name: str, definition: Task[Any], given: Mapping[str, Any], *, needs_columns: bool = True
) -> dict[str, Any]:
    """Return the arguments of a mapped use, those marked of which each child gets an element.

    Raises
    ------
    ArgumentError
        Something cannot be mapped over, nothing is, or the lengths that are known differ.
    """

    def column(label: str, value: Any) -> Each:
        if isinstance(value, Task):
            raise ArgumentError(
                f"argument {label!r} of {name} is the task {value.name!r} itself; to map over its "
                f"result, call it: {value.name}(...)"
            )
        if isinstance(value, Node) or not has_own_length(value):
            return Each(value)
        return Each(elements_of(name, label, value))

    arguments = mark_columns(given, definition.shape, column)
    columns = columns_of(arguments, definition.shape)
    if not columns and needs_columns:
        raise ArgumentError(
            f"map: {name} has no argument to map over; {name}(...) without .map runs it once"
        )
    lengths = {
        label: len(each.values)
        for label, each in columns.items()
        if not isinstance(each.values, Node) and has_own_length(each.values)
    }
    check_lengths(name, lengths, zip_shortest=definition.zip_shortest)
    return arguments


def find_sources(
    name: str, definition: Task[Any], given: Mapping[str, Any]
) -> list[tuple[Node, str, bool]]:
    """Return the nodes in the arguments, with the name of the argument and whether it is mapped.

    What ``**kwargs`` takes are arguments of their own.

    Raises
    ------
    ArgumentError
        A task is passed that was not called.
    """
    named = dict(given)
    if definition.shape is not None:
        named |= named.pop(definition.shape.var_keyword, {})
    for key, value in named.items():
        if isinstance(value, Task):
            raise ArgumentError(
                f"argument {key!r} of {name} is the task {value.name!r} itself; to pass its "
                f"result, call it: {value.name}(...)"
            )
    several = "" if definition.shape is None else definition.shape.var_positional
    found: list[tuple[Node, str, bool]] = []
    for key, value in named.items():
        parts = value if key == several else (value,)
        columns = [part.values for part in parts if isinstance(part, Each)]
        mapped = {column for column in columns if isinstance(column, Node)}
        found += [(node, key, node in mapped) for node in find_nodes(value)]
    return found


class Variants:
    """The definitions of tasks with other options; uses with the same options share one."""

    def __init__(self) -> None:
        self._made: dict[tuple[Task[Any], frozenset[Any]], Task[Any]] = {}

    def get(self, task: Task[Any], options: Mapping[str, Any]) -> Task[Any]:
        """Return `task` with other options, which were checked."""
        if not options:
            return task
        try:
            key = task, frozenset(options.items())
        except TypeError:
            # Something in the options has no hash, such as a dict of resources.
            return task.with_options(**options)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = task.with_options(**options)
        return found
