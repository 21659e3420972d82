"""Walks what a user passes to a task: lists, tuples, sets, dicts, slices and dataclasses.

It knows no tasks: callers say which type they look for, so the client finds tasks with it and a
worker replaces placeholders. What is looked for is never inside anything else.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from dask_taskrunner.exceptions import ArgumentError

Wanted: TypeAlias = type | tuple[type, ...]

# A constant may be a list of a million numbers: their types are compared in C, and none is visited.
_LEAVES = frozenset({bool, int, float, complex, str, bytes, type(None)})
#: A container with fewer items is walked as fast as it is looked up.
_LOOKED_UP_FROM: Final = 1000


def find(value: object, wanted: Wanted) -> list[Any]:
    """Return each object of the type `wanted` in `value` once, in the order they are met."""
    found: dict[int, Any] = {}
    # Containers may contain themselves, and many tasks may be handed the same large one.
    seen: set[int] = set()
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, wanted):
            found.setdefault(id(item), item)
        elif type(item) not in _LEAVES and id(item) not in seen:
            items = items_of(item)
            if items and not _LEAVES.issuperset(map(type, items)):
                seen.add(id(item))
                stack.extend(reversed(items))
    return list(found.values())


def replace(
    value: Any,
    wanted: Wanted,
    make: Callable[[Any], object],
    plain: dict[int, object] | None = None,
) -> Any:
    """Return `value` with ``make(x)`` for each `x` of the type `wanted`.

    What holds none of them is the same object afterwards. Containers keep their type; a
    dataclass is copied without its ``__init__`` being called.

    Parameters
    ----------
    value, wanted, make
        See above.
    plain : dict, optional
        Large containers that are known to hold none, by id; more are added. One dict for several
        calls with the same `wanted` spares a second walk.

    Raises
    ------
    ArgumentError
        A container contains itself, and what is to be replaced.
    """
    try:
        return _replace(value, wanted, make, plain, set())
    except RecursionError:
        if find(value, wanted):
            raise ArgumentError(
                "an argument that contains itself, or is nested hundreds of levels deep, cannot "
                "hold a task or a future. Pass that as an argument of its own."
            ) from None
        return value


def _replace(
    value: Any,
    wanted: Wanted,
    make: Callable[[Any], object],
    plain: dict[int, object] | None,
    around: set[int],
) -> Any:
    if isinstance(value, wanted):
        return make(value)
    if type(value) in _LEAVES or (plain and id(value) in plain):
        return value
    items = items_of(value)
    if not items:
        return value
    if not _LEAVES.issuperset(map(type, items)):
        # Else it would be walked once for each level, until the levels are too many.
        if id(value) in around:
            raise RecursionError
        around.add(id(value))
        new = [_replace(item, wanted, make, plain, around) for item in items]
        around.discard(id(value))
        if not all(a is b for a, b in zip(items, new, strict=True)):
            return rebuild(value, new)
    if plain is not None and len(items) >= _LOOKED_UP_FROM:
        plain[id(value)] = value
    return value


def items_of(value: object) -> list[Any]:
    """Return what is directly inside a container; nothing for anything else."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, name) for name in _fields(value)]
    return []


def _fields(value: Any) -> list[str]:
    # A field of a dataclass may have no value yet: `field(init=False)`.
    return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]


def rebuild(value: Any, items: list[Any]) -> Any:
    """Return a container like `value` with other `items`, in the order of :func:`items_of`."""
    if isinstance(value, tuple):
        make: Callable[[Iterable[Any]], Any] = getattr(type(value), "_make", type(value))
        return make(items)
    if isinstance(value, slice):
        return slice(*items)
    if isinstance(value, frozenset):
        return type(value)(items)
    # A copy keeps what the items do not tell: a default_factory, attributes of a subclass.
    new = copy.copy(value)
    if isinstance(value, list):
        new[:] = items
    elif isinstance(value, set):
        new.clear()
        new.update(items)
    elif isinstance(value, dict):
        new.clear()
        half = len(items) // 2
        for key, item in zip(items[:half], items[half:], strict=True):
            new[key] = item
    else:
        for name, item in zip(_fields(value), items, strict=True):
            # The only way past a frozen dataclass.
            object.__setattr__(new, name, item)
    return new
