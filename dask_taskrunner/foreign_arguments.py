"""Finds what is the cluster's own among the arguments: futures, of whose values task runs are made.

It knows no Dask: what is of that kind, the backend says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dask_taskrunner.backend import Foreign
from dask_taskrunner.exceptions import ArgumentError
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.tasks import BoundTask, FunctionTask, Node
from dask_taskrunner.packing import dumps, unpicklable


def find_foreign(
    tasks: Sequence[BoundTask[Any]], parameters: Mapping[str, Any], kinds: Foreign
) -> list[Any]:
    """Return each future among the arguments once.

    Raises
    ------
    ArgumentError, UnpicklableArgument
        One cannot be used here; the error names the argument.
    """
    everything = [*(task.arguments for task in tasks), parameters]
    if not foreign_in(everything, kinds):
        return []
    found: dict[int, Any] = {}
    for task in tasks:
        for name, argument in task.arguments.items():
            value = replace(argument, Parameter, lambda given: parameters[given.name])
            for future in foreign_in(value, kinds):
                if id(future) not in found:
                    _check(future, kinds, task.slug, name)
                    found[id(future)] = future
    return list(found.values())


def foreign_in(value: Any, kinds: Foreign) -> list[Any]:
    """Return the futures at any depth of a value."""
    if not kinds.types:
        return []
    # The nodes, too: nobody must look inside of one.
    found = find(value, (Node, *kinds.types))
    return [future for future in found if not isinstance(future, Node)]


def foreign_tasks(flow: Flow, tasks: Sequence[BoundTask[Any]], count: int) -> list[BoundTask[Any]]:
    """Return the tasks that make states of the values of futures."""
    taken = {task.slug for task in tasks}
    slugs = (slug for slug in _numbered(FOREIGN.name) if slug not in taken)
    return [BoundTask(flow, FOREIGN.name, next(slugs), FOREIGN, FOREIGN) for _ in range(count)]


def _check(future: Any, kinds: Foreign, slug: str, name: str) -> None:
    check_foreign(future, kinds, f"argument {name!r} of {slug!r}", slug, name)


def check_foreign(future: Any, kinds: Foreign, what: str, slug: str = "", name: str = "") -> None:
    """Find out whether a future can be used on this connection.

    Raises
    ------
    ArgumentError
        It belongs to another.
    UnpicklableArgument
        What it is to come from cannot be sent.
    """
    problem = kinds.problem(future)
    if problem is not None:
        raise ArgumentError(f"{what} {problem}")
    try:
        dumps(future)
    except Exception as error:
        raise unpicklable(slug or what, name or what, future, error) from error


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _value(value: Any) -> Any:
    return value


#: Makes a state of the value of a future that is somebody else's.
FOREIGN: Final[FunctionTask[Any, Any]] = FunctionTask(_value, "dask_future", max_crash_retries=0)
