"""From the user's objects to bytes: definitions, arguments, and what is too large to be sent often.

What is large is taken out of the arguments: it is sent once, however many task runs it is given to,
and a placeholder stands in its place. All that cannot be sent is found here, before anything is.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from dask_taskrunner import code_pickling
from dask_taskrunner.backend import Constant
from dask_taskrunner.exceptions import LargeArgument, UnpicklableArgument, describe
from dask_taskrunner.graph.arguments import find, items_of, rewrite
from dask_taskrunner.headers import format_bytes
from dask_taskrunner.worker.placeholders import ConstantPlaceholder, Placeholder

#: Arguments with a larger pickle are sent once, and apart from the task runs.
LARGE: Final = 256_000
#: From here on there is a warning.
VERY_LARGE: Final = 100_000_000
#: What a runner takes if it is not told otherwise.
MAX_CONSTANT_BYTES: Final = 1_000_000_000


class Packer:
    """Packs the arguments of many task runs; what several of them share is packed once.

    Parameters
    ----------
    max_constant_bytes : int
        A larger argument is an error.
    share : callable
        Makes a constant of a pickle.
    """

    def __init__(
        self,
        max_constant_bytes: int = MAX_CONSTANT_BYTES,
        share: Callable[[bytes], Constant] = Constant,
    ) -> None:
        self._max = max_constant_bytes
        self._share = share
        #: By the id of the object; the object is kept, so that the id stays its own.
        self._known: dict[int, tuple[Constant, object]] = {}
        #: Large values that every task run gets, because the context has them.
        self.for_all: list[Constant] = []
        #: What the caller is to be warned of.
        self.warnings: list[str] = []

    def add_for_all(self, what: str, value: object) -> ConstantPlaceholder | None:
        """Take in a value that every task run is to get; None where it is not large."""
        parts = _try(value)
        if parts is None or _size(parts) <= LARGE:
            return None
        constant = self._constant(value, what, what)
        self.for_all.append(constant)
        # Counted from the end, where they stand in every run.
        return ConstantPlaceholder(-len(self.for_all))

    def pack(self, slug: str, arguments: Mapping[str, Any]) -> tuple[bytes, tuple[Constant, ...]]:
        """Return the pickle of a run's arguments, and the constants that belong to it.

        Parameters
        ----------
        slug : str
            The task run's, for errors.
        arguments : mapping
            By the names of the parameters, with placeholders for what is upstream.

        Raises
        ------
        UnpicklableArgument, LargeArgument
            One cannot be sent; the error names it.
        """
        found: list[Constant] = []

        def known(value: object) -> object:
            if (hit := self._known.get(id(value))) is None:
                return value
            return self._placeholder(hit[0], found)

        filled = arguments
        if self._known:
            filled = {name: rewrite(value, known) for name, value in arguments.items()}
        parts = _try(filled)
        if parts is None or _size(parts) > LARGE:
            filled = {
                name: self._without_large(value, slug, name, found)
                for name, value in filled.items()
            }
            # What only fails as a whole fails here.
            parts = dumps(filled)
        # The last first: a later one of those for all stands further from the end.
        constants = (*found, *reversed(self.for_all))
        return (_in_band(filled) if parts[1] else parts[0]), constants

    def _placeholder(self, constant: Constant, found: list[Constant]) -> ConstantPlaceholder:
        if constant in self.for_all:
            return ConstantPlaceholder(-1 - self.for_all.index(constant))
        if constant not in found:
            found.append(constant)
        return ConstantPlaceholder(found.index(constant))

    def _without_large(self, value: object, slug: str, name: str, found: list[Constant]) -> object:
        """Return an argument with placeholders for what is large, and for no more than that."""
        if _size(self._dumps(value, slug, name)) <= LARGE:
            return value
        items = items_of(value)
        rest = value
        if items:
            rest = rewrite(
                value,
                lambda item: (
                    item if item is value else self._without_large(item, slug, name, found)
                ),
            )
        if find(rest, (Placeholder, ConstantPlaceholder)):
            return rest
        return self._placeholder(self._constant(rest, slug, name), found)

    def _constant(self, value: object, slug: str, name: str) -> Constant:
        size = _size(self._dumps(value, slug, name))
        what = f"argument {name!r} of {slug!r}" if name != slug else slug
        told = f"{what}, a {type(value).__name__} of {format_bytes(size)}"
        if size > self._max:
            raise LargeArgument(
                f"{told}, is larger than max_constant_bytes={self._max}. Load it inside a task, or "
                "pass a Dask future or collection; DaskTaskRunner(max_constant_bytes=...) allows "
                "more.",
                task=slug,
                argument=name,
            )
        if size > VERY_LARGE:
            self.warnings.append(
                f"{told}, is sent to the cluster from here. Loaded inside a task, it would "
                "not have to be."
            )
        constant = self._share(_in_band(value))
        self._known[id(value)] = (constant, value)
        return constant

    def _dumps(
        self, value: object, slug: str, name: str
    ) -> tuple[bytes, list[pickle.PickleBuffer]]:
        try:
            return dumps(value)
        except Exception as error:
            raise unpicklable(slug, name, value, error) from error


def _try(value: object) -> tuple[bytes, list[pickle.PickleBuffer]] | None:
    try:
        return dumps(value)
    except Exception:  # noqa: BLE001 (whatever it is: argument by argument it is found again)
        return None


def unpicklable(slug: str, name: str, value: object, error: Exception) -> UnpicklableArgument:
    """Return the error for an argument that cannot be sent."""
    what = f"argument {name!r} of {slug!r}" if name != slug else slug
    instead = "Make it inside the task, or pass what it is made from."
    for coroutine in find(value, Coroutine):
        # It is said here, and Python need not warn of it as well.
        coroutine.close()
    if find(value, (Awaitable, AsyncIterator)):
        instead = "Nobody has awaited it: write `await` before it, or pass what it is made from."
    return UnpicklableArgument(
        f"{what} cannot be pickled: {describe(error)}. {instead}", task=slug, argument=name
    )


def pickle_task(task: Any) -> bytes:
    """Return the pickle of a task's definition.

    Raises
    ------
    UnpicklableArgument
        It cannot be sent.
    """
    try:
        # By cloudpickle at once: a function of a script or notebook has no module over there.
        data = code_pickling.dumps(task)
    except Exception as error:  # Whatever the user's objects raise.
        raise UnpicklableArgument(
            f"task {task.name!r} cannot be pickled: {error}. What its function refers to is sent "
            "along; open files, locks and connections inside the task instead.",
            task=task.name,
            argument="",
        ) from error
    return data


def dumps(value: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Return the pickle of a value and its buffers, which are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    # pickle is ten times as fast, but refers to __main__, which a worker does not have.
    try:
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception:  # noqa: BLE001 (cloudpickle's own word counts)
        data = b"__main__"
    if b"__main__" in data:
        buffers.clear()
        data = code_pickling.dumps(value, buffers.append)
    return data, buffers


def _in_band(value: object) -> bytes:
    """Return one pickle with everything in it: from now on the value may be changed."""
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 (as above)
        data = b"__main__"
    if b"__main__" in data:
        data = code_pickling.dumps(value)
    return data


def _size(parts: tuple[bytes, list[pickle.PickleBuffer]]) -> int:
    return len(parts[0]) + sum(buffer.raw().nbytes for buffer in parts[1])
