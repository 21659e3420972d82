"""Tasks that make lists of lists: what is missing left out, one level less, all combinations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from dask_taskrunner.exceptions import ArgumentError, MissingResult, OptionError
from dask_taskrunner.graph.arguments import find
from dask_taskrunner.graph.building import current_flow
from dask_taskrunner.graph.control_flow import (
    CatchesSkips,
    end_as,
    was_skipped,
    whatever_came_of_them,
)
from dask_taskrunner.graph.mapping import has_own_length, right_line, sequence_of
from dask_taskrunner.graph.options import TaskOptions
from dask_taskrunner.graph.tasks import BoundTask, FunctionTask, Node, Task
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.signals import SKIP


def drop_missing(xs: Any, *, task_args: Mapping[str, Any] | None = None) -> BoundTask[list[Any]]:
    """Leave out what has no result, of a list or of the results of a mapped task.

    It runs whatever became of the children, and a skipped one's place is left out as well. Where
    all were skipped, or the list itself was, so is this.

    Parameters
    ----------
    xs : BoundTask
        A mapped task, or one that returns a list.
    task_args : mapping, optional
        Options of this use.

    Returns
    -------
    BoundTask
        Of the list.
    """
    return _bind(_DROP_MISSING, "drop_missing", xs, task_args)


def filter_task(
    predicate: Callable[[Any], Any], name: str | None = None, **options: Unpack[TaskOptions]
) -> FunctionTask[..., list[Any]]:
    """Make a task that leaves out the elements of a list for which a function is false.

    Parameters
    ----------
    predicate : callable
        Is asked on the worker, for each element that is a result; what is missing is left out,
        where the task has a trigger that lets it run then.
    name : str, optional
        The predicate's by default.
    **options
        See :class:`~dask_taskrunner.graph.options.TaskOptions`.

    Returns
    -------
    FunctionTask
        Call it with a mapped task, or one that returns a list.

    Raises
    ------
    OptionError
        The predicate cannot be called.
    """
    if not callable(predicate):
        raise OptionError(f"filter_task takes a function of an element, not {predicate!r}")
    if name is None:
        # What a lambda is called cannot be a task's name.
        own = getattr(predicate, "__name__", "filter")
        name = own if own.isidentifier() else "filter"
    return FunctionTask(_Filter(predicate), name, **options)


def flatten(xs: Any, *, task_args: Mapping[str, Any] | None = None) -> BoundTask[list[Any]]:
    """Make one list of a list of lists.

    Parameters
    ----------
    xs : BoundTask
        A mapped task whose children return lists, or a task that returns a list of lists. What is
        missing stays where it was, as one element.
    task_args : mapping, optional
        Options of this use.

    Returns
    -------
    BoundTask
        Of the list: one level is gone.
    """
    return _bind(_FLATTEN, "flatten", xs, task_args)


def product(**columns: Any) -> dict[str, Any]:
    """Return columns that have one entry for each combination, for a ``map``.

    Parameters
    ----------
    **columns : list or BoundTask
        The last one varies fastest.

    Returns
    -------
    dict
        By the same names: lists, or tasks that return them where one of the columns is a task.

    Raises
    ------
    ArgumentError
        A column is no list, as far as that is known here.
    OptionError
        There are no columns.

    Examples
    --------
    >>> fit.map(**product(lr=[0.1, 0.01], depth=depths), data=unmapped(df))  # doctest: +SKIP
    """
    if not columns:
        raise OptionError("product takes columns by name: product(lr=[0.1, 0.01], depth=depths)")
    known = {
        name: _elements(f"product: column {name!r}", f"{name}=", column)
        for name, column in columns.items()
        if not isinstance(column, Node) and has_own_length(column)
    }
    if len(known) == len(columns) and not find(columns, Node):
        rows = _combine(list(known), list(known.values()))
        return {name: _column(rows, k) for k, name in enumerate(columns)}
    flow = current_flow("product was used", "")
    # What can be read only once has been read.
    combined = flow.bind(_COMBINE, (list(columns), list((columns | known).values())))
    return {name: flow.bind(_COLUMN, (combined, k)) for k, name in enumerate(columns)}


# --- on the worker -------------------------------------------------------------------------------


class _Filter:
    def __init__(self, predicate: Callable[[Any], Any]) -> None:
        self._predicate = predicate

    def __call__(self, xs: Any) -> list[Any]:
        given = _elements("filter_task: what is filtered", "", xs)
        return [x for x in given if not isinstance(x, MissingResult) and self._predicate(x)]


class DropMissing(CatchesSkips):
    """What :func:`drop_missing` binds."""

    def run(self, xs: Any, **only_if: Any) -> list[Any]:
        """Return what is not missing."""
        self.check_branch("drop_missing", only_if)
        elements = _elements("drop_missing: what is given", "", xs)
        if len(elements) and all(map(was_skipped, elements)):
            raise SKIP("all were skipped")
        return [x for x in elements if not isinstance(x, MissingResult)]


def _flatten(xs: Any) -> list[Any]:
    flat: list[Any] = []
    for n, x in enumerate(_elements("flatten: what is given", "", xs)):
        if isinstance(x, MissingResult):
            flat.append(x)
        else:
            flat += _elements(f"flatten: element {n}", "", x)
    return flat


def _elements(what: str, label: str, xs: Any) -> Any:
    """Return the elements of what must be a list."""
    if isinstance(xs, MissingResult):
        raise end_as(what.partition(":")[0], xs)
    if right_line("", xs) is None:
        return sequence_of(xs)
    kind = type(xs).__name__
    is_whole = isinstance(xs, (dict, set, frozenset)) or hasattr(type(xs), "to_dict")
    right = f"{label}list(...)" if is_whole else f"{label}[{line_of(xs):.40}]"
    raise ArgumentError(f"{what} is a {kind}, not a list. Write {right}.")


def _combine(names: Sequence[str], columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    values = [
        _elements(f"product: column {name!r}", f"{name}=", column)
        for name, column in zip(names, columns, strict=True)
    ]
    return list(itertools.product(*values))


def _column(rows: Sequence[tuple[Any, ...]], k: int) -> list[Any]:
    return [row[k] for row in rows]


_DROP_MISSING: Final = DropMissing(
    "drop_missing", trigger=whatever_came_of_them, skip_on_upstream_skip=False
)
_FLATTEN: Final[Task[Any]] = FunctionTask(_flatten, "flatten")
_COMBINE: Final[Task[Any]] = FunctionTask(_combine, "product")
_COLUMN: Final[Task[Any]] = FunctionTask(_column, "product_column")


def _bind(task: Any, what: str, xs: Any, task_args: Mapping[str, Any] | None) -> BoundTask[Any]:
    flow = current_flow(f"{what} was used", "")
    bound: BoundTask[Any] = flow.bind(task, (xs,), task_args=task_args)
    return bound
