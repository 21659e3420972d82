"""Whether a task is still the same code: a digest of its definition and of what it executes.

Where the code stands, in which file and line, does not count: a cell of a notebook that is
executed again defines the same task.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections import ChainMap
from collections.abc import Iterator
from types import CodeType
from typing import Any, ClassVar

import cloudpickle


def digest_of(task: Any) -> str:
    """Return the digest of a task's definition, options included, and of its code.

    Parameters
    ----------
    task : Task
        With all defaults filled in; it can be pickled.
    """
    found = hashlib.sha256(_pickled(task))
    # An importable function is only a name in that pickle, which stays the same when the function
    # is edited and its module reloaded.
    for function in _functions_of(task.body):
        found.update(_pickled(_parts_of(function.__code__)))
        found.update(_try_pickled((function.__defaults__, function.__kwdefaults__)))
    return found.hexdigest()


def _functions_of(body: Any) -> Iterator[Any]:
    while isinstance(body, functools.partial):
        body = body.func
    body = getattr(body, "__func__", body)
    if not hasattr(body, "__code__") and not hasattr(body, "__wrapped__"):
        # An object with a `__call__` of its own; whatever is callable has one.
        body = type(body).__call__
    while body is not None:
        if isinstance(getattr(body, "__code__", None), CodeType):
            yield body
        body = getattr(body, "__wrapped__", None)


def _parts_of(code: CodeType) -> tuple[Any, ...]:
    return (
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags,
        # The elements of a set come in any order.
        tuple(
            sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            for constant in code.co_consts
        ),
    )


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    return tuple, (_parts_of(code),)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Makes pickles that nobody opens: code is in them without the place where it stands."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def _try_pickled(value: object) -> bytes:
    try:
        return _pickled(value)
    except Exception:  # noqa: BLE001 (it is no part of what is sent, so it need not pickle)
        return b""
