"""Pickles by value what a script or a notebook defines, and keeps the names of its files.

cloudpickle leaves them out of the code that it sends (from 3.1.3 on), and a traceback from a worker
would name neither file nor line. What is pickled here is opened where this package is.
"""

from __future__ import annotations

import io
import pickle
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

_REDUCE_CODE: Callable[[CodeType], Any] = cloudpickle.Pickler.dispatch_table[CodeType]


def _restore(make: Callable[..., CodeType], arguments: tuple[Any, ...], filename: str) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, arguments = _REDUCE_CODE(code)[:2]
    return _restore, (make, arguments, code.co_filename)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )


def dumps(
    value: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None
) -> bytes:
    """Return the pickle of a value; what has no module that others can import goes by value."""
    file = io.BytesIO()
    _Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
