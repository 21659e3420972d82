"""What the single calls of one runner share: numbers and names, definitions, large arguments."""

from __future__ import annotations

import hashlib
import itertools
import threading
import weakref
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from dask_taskrunner.backend import Code, Constant, Foreign
from dask_taskrunner.graph.tasks import Task
from dask_taskrunner.packing import Packer, pickle_task

#: So many definitions of importable functions are remembered.
_REMEMBERED: Final = 256


class Stock:
    """One runner's.

    Parameters
    ----------
    foreign : Foreign
        What the cluster has of its own kind.
    task_defaults : mapping
        The runner's.
    max_constant_bytes : int
        A larger argument is an error.
    """

    def __init__(
        self, foreign: Foreign, task_defaults: Mapping[str, Any], max_constant_bytes: int
    ) -> None:
        self.foreign = foreign
        self._task_defaults = task_defaults
        self._max_constant_bytes = max_constant_bytes
        self._numbers = itertools.count()
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._codes: weakref.WeakValueDictionary[bytes, Code] = weakref.WeakValueDictionary()
        self._constants: weakref.WeakValueDictionary[bytes, Constant] = (
            weakref.WeakValueDictionary()
        )
        #: Importable functions and their codes: by identity, for what they are cannot change.
        self._importable: dict[int, tuple[Task[Any], Code]] = {}

    def new_slug(self, name: str) -> str:
        """Return the slug of the next run, or the next map, of this name."""
        with self._lock:
            number = self._names[name] = self._names.get(name, 0) + 1
        return name if number == 1 else f"{name}-{number}"

    def resolve(self, task: Task[Any]) -> Task[Any]:
        """Return a task with the runner's defaults."""
        return task.with_defaults({}, self._task_defaults)

    def code_of(self, task: Task[Any]) -> Code:
        """Return the code of a task, pickled anew where it may have changed since the last call."""
        known = self._importable.get(id(task.body))
        if known is not None and _is_same(known[0], task):
            return known[1]
        data = pickle_task(task)
        with self._lock:
            code = self._codes.get(data)
            if code is None:
                code = self._codes[data] = Code((data,))
        # What is pickled by value takes along what it refers to, and that may change; an object
        # takes along its attributes, and they may.
        is_function = isinstance(task.body, (FunctionType, BuiltinFunctionType, type))
        is_fixed = is_function and b"cloudpickle" not in data
        if is_fixed and len(self._importable) < _REMEMBERED:
            self._importable[id(task.body)] = (task, code)
        return code

    def share(self, data: bytes) -> Constant:
        """Return a constant for a pickle: the same one as long as somebody needs it."""
        digest = hashlib.blake2b(data, digest_size=32).digest()
        with self._lock:
            constant = self._constants.get(digest)
            if constant is None:
                constant = self._constants[digest] = Constant(data)
            return constant

    def new_packer(self) -> Packer:
        """Return what packs the arguments of one call."""
        return Packer(self._max_constant_bytes, self.share)

    def new_number(self) -> int:
        """Return the next position in the plan."""
        return next(self._numbers)


def _is_same(one: Task[Any], other: Task[Any]) -> bool:
    """Return whether two tasks of the same body have the same options."""
    return one.body is other.body and one.explicit_options == other.explicit_options
