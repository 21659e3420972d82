"""What one use of a task is made of, before a flow adds it: name, definition, upstream nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_taskrunner.exceptions import ArgumentError, OptionError
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


def find_sources(
    name: str, definition: Task[Any], given: Mapping[str, Any]
) -> list[tuple[Node, str]]:
    """Return the nodes in the arguments, each with the name of its argument.

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
    return [(node, key) for key, value in named.items() for node in find_nodes(value)]


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
