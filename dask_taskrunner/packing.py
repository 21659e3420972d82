"""From the user's objects to bytes: definitions, arguments, and what is too large to be sent often.

What is large is taken out of the arguments: it is sent once, however many task runs it is given to,
and a placeholder stands in its place. All that cannot be sent is found here, before anything is.
"""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from inspect import CORO_CREATED, getcoroutinestate
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Final, TypeAlias

import cloudpickle

from dask_taskrunner import code_pickling
from dask_taskrunner.backend import Constant
from dask_taskrunner.exceptions import LargeArgument, UnpicklableArgument, describe
from dask_taskrunner.graph.arguments import find, items_of, rebuild
from dask_taskrunner.short_texts import format_bytes
from dask_taskrunner.worker.placeholders import ConstantPlaceholder, Placeholder

#: Arguments with a larger pickle are sent once, and apart from the task runs.
LARGE: Final = 256_000
#: From here on there is a warning.
VERY_LARGE: Final = 100_000_000
#: What a runner takes if it is not told otherwise.
MAX_CONSTANT_BYTES: Final = 1_000_000_000
#: Never large: not looked at one by one.
_NUMBERS: Final = frozenset({bool, int, float, complex, type(None)})

#: A pickle and its buffers.
Parts: TypeAlias = tuple[bytes, list[pickle.PickleBuffer]]


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
        self._weigh(value, _size(parts), what, what)
        constant = self._constant(value, parts)
        self.for_all.append(constant)
        # Counted from the end, where they stand in every run.
        return ConstantPlaceholder(-len(self.for_all))

    def like(self) -> Packer:
        """Return another one for more runs of the same flow run."""
        new = Packer(self._max, self._share)
        new.for_all = list(self.for_all)
        return new

    def share(self, data: bytes) -> Constant:
        """Return some bytes as a constant."""
        return self._share(pickle.dumps(data, protocol=5))

    def pack(
        self,
        slug: str,
        arguments: Mapping[Any, Any],
        behind: tuple[Constant, ...] = (),
        labels: Sequence[str] = (),
    ) -> tuple[bytes, tuple[Constant, ...]]:
        """Return the pickle of a run's arguments, and the constants that belong to it.

        Parameters
        ----------
        slug : str
            The task run's, for errors.
        arguments : mapping
            By the names of the parameters, with placeholders for what is upstream.
        behind : tuple of Constant
            What stands before the constants that are found here.
        labels : sequence of str
            For errors: what the arguments are called, where their names are positions in this.

        Raises
        ------
        UnpicklableArgument, LargeArgument
            One cannot be sent; the error names it.
        """
        found = list(behind)
        filled = arguments
        if self._known:
            filled = {name: self._without_known(arg, found) for name, arg in arguments.items()}
        parts = _try(filled)
        if parts is None or _size(parts) > LARGE:
            parts = None  # Before more of its size is made.
            filled = {
                name: self._without_large(value, slug, labels[name] if labels else name, found)
                for name, value in filled.items()
            }
            # What only fails as a whole fails here.
            parts = dumps(filled)
        # The last first: a later one of those for all stands further from the end.
        constants = (*found, *reversed(self.for_all))
        return _in_band(filled, parts), constants

    def pack_definition(self, task: Any) -> bytes:
        """Return the pickle of a task's definition, and warn of one that is very large.

        Raises
        ------
        UnpicklableArgument
            It cannot be sent.
        """
        data = pickle_task(task)
        if len(data) > VERY_LARGE:
            self.warnings.append(
                f"the definition of task {task.name!r}, of {format_bytes(len(data))}, is sent to "
                "the cluster from here: its function refers to something large. Loaded inside the "
                "task, it would not have to be."
            )
        return data

    def _placeholder(self, constant: Constant, found: list[Constant]) -> ConstantPlaceholder:
        if constant in self.for_all:
            return ConstantPlaceholder(-1 - self.for_all.index(constant))
        if constant not in found:
            found.append(constant)
        return ConstantPlaceholder(found.index(constant))

    def _without_known(self, value: object, found: list[Constant]) -> object:
        """Return an argument with placeholders for what was packed for another run already."""
        before = len(found)
        try:
            return self._replace_known(value, found, set())
        except RecursionError:  # It contains itself, and goes as a whole.
            del found[before:]
            return value

    def _replace_known(self, value: object, found: list[Constant], around: set[int]) -> object:
        if (hit := self._known.get(id(value))) is not None:
            return self._placeholder(hit[0], found)
        items = items_of(value)
        if _NUMBERS.issuperset(map(type, items)):
            return value
        if id(value) in around:
            raise RecursionError
        around.add(id(value))
        new = [self._replace_known(item, found, around) for item in items]
        around.discard(id(value))
        return _rebuilt(value, items, new)

    def _without_large(self, value: object, slug: str, name: str, found: list[Constant]) -> object:
        """Return an argument with placeholders for what is large, and for no more than that."""
        if id(value) not in self._known:
            parts = self._dumps(value, slug, name)
            if _size(parts) <= LARGE:
                return value
            self._weigh(value, _size(parts), slug, name)
            before = len(found)
            try:
                return self._taken_apart(value, parts, found, ())
            except RecursionError:
                del found[before:]
                self._constant(value, parts)
        return self._placeholder(self._known[id(value)][0], found)

    def _taken_apart(
        self, value: object, parts: Parts, found: list[Constant], around: tuple[int, ...]
    ) -> object:
        """Return what is large as a placeholder, or with placeholders for what is large in it."""
        if (hit := self._known.get(id(value))) is not None:
            return self._placeholder(hit[0], found)
        if id(value) in around:
            raise RecursionError
        items = items_of(value)
        large = _large_items(items, _size(parts))
        if large:
            new = list(items)
            # One by one, so that no two pickles are there at a time.
            parts = b"", []
            for position in large:
                item = items[position]
                new[position] = self._taken_apart(item, dumps(item), found, (*around, id(value)))
            return _rebuilt(value, items, new)
        if find(value, (Placeholder, ConstantPlaceholder)):
            return value
        return self._placeholder(self._constant(value, parts), found)

    def _weigh(self, value: object, size: int, slug: str, name: str) -> None:
        self.weigh(_what(slug, name), value, size, slug, name)

    def weigh(self, what: str, value: object, size: int, slug: str, name: str) -> None:
        """Warn of what is very large.

        Raises
        ------
        LargeArgument
            It is too large.
        """
        if size <= min(VERY_LARGE, self._max):
            return
        told = f"{what}, a {type(value).__name__} of {format_bytes(size)}"
        if size > self._max:
            raise LargeArgument(
                f"{told}, is larger than max_constant_bytes={self._max}. Load it inside a task, or "
                "pass a Dask future or collection; DaskTaskRunner(max_constant_bytes=...) allows "
                "more.",
                task=slug,
                argument=name,
            )
        self.warnings.append(
            f"{told}, is sent to the cluster from here. Loaded inside a task, it would "
            "not have to be."
        )

    def _constant(self, value: object, parts: Parts) -> Constant:
        constant = self._share(_in_band(value, parts))
        self._known[id(value)] = (constant, value)
        return constant

    def _dumps(self, value: object, slug: str, name: str) -> Parts:
        try:
            return dumps(value)
        except Exception as error:
            raise unpicklable(slug, name, value, error) from error


def _large_items(items: list[Any], size: int) -> list[int]:
    """Return the positions of large items, of a container of a size.

    Many small ones are pickled together: where they are not large together, none of them is.
    """
    maybe = [place for place, item in enumerate(items) if _may_be_large(item)]
    together = max(1, len(items) * LARGE // (2 * size))
    large: list[int] = []
    for start in range(0, len(maybe), together):
        places = maybe[start : start + together]
        if len(places) == 1 or _size(dumps([items[place] for place in places])) > LARGE:
            large += [place for place in places if _size(dumps(items[place])) > LARGE]
    return large


def _may_be_large(item: object) -> bool:
    kind = type(item)
    if kind is str or kind is bytes:
        # In UTF-8, a character has at most four bytes.
        return len(item) > LARGE // 4  # type: ignore[arg-type]
    return kind not in _NUMBERS


def _rebuilt(value: object, items: list[Any], new: list[Any]) -> object:
    if all(a is b for a, b in zip(items, new, strict=True)):
        return value
    rebuilt: object = rebuild(value, new)
    return rebuilt


def _try(value: object) -> Parts | None:
    try:
        return dumps(value)
    except Exception:  # noqa: BLE001 (whatever it is: argument by argument it is found again)
        return None


def _what(slug: str, name: str) -> str:
    return f"argument {name!r} of {slug!r}" if name != slug else slug


def unpicklable(slug: str, name: str, value: object, error: Exception) -> UnpicklableArgument:
    """Return the error for an argument that cannot be sent."""
    what = f"{_what(slug, name)} cannot be pickled: {describe(error)}."
    instead = "Make it inside the task, or pass what it is made from."
    unawaited = find(value, (AsyncGeneratorType, Awaitable))
    if unawaited:
        names = (getattr(found, "__qualname__", type(found).__name__) for found in unawaited)
        instead = f"Nobody has awaited {', '.join(names)}: write `await` before it."
        for found in unawaited:
            # Else Python would say the same once more, at some later time.
            begun = isinstance(found, CoroutineType) and getcoroutinestate(found) != CORO_CREATED
            if isinstance(found, Coroutine) and not begun:
                found.close()
    return UnpicklableArgument(f"{what} {instead}", task=slug, argument=name)


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


def dumps(value: object) -> Parts:
    """Return the pickle of a value and its buffers, which are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        # pickle is ten times as fast.
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception:  # noqa: BLE001 (cloudpickle's own word counts)
        data = None
    if data is None or _refers_to_a_script(data):
        buffers.clear()
        data = code_pickling.dumps(value, buffers.append)
    for buffer in buffers:
        buffer.raw()  # Fails where it is not of one piece, which nobody could send.
    return data, buffers


def pickle_whole(value: object) -> bytes:
    """Return one pickle with everything in it: from now on the value may be changed."""
    return _in_band(value, dumps(value))


def _in_band(value: object, parts: Parts) -> bytes:
    """Return one pickle with everything in it, of a value of which there are the parts."""
    if not parts[1]:
        return parts[0]
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 (as above)
        data = None
    if data is None or _refers_to_a_script(data):
        data = code_pickling.dumps(value)
    return data


def _refers_to_a_script(data: bytes) -> bool:
    """Return whether a pickle may name what a worker cannot import."""
    if b"__main__" in data:
        return True
    return any(name.encode() in data for name in cloudpickle.list_registry_pickle_by_value())


def _size(parts: Parts) -> int:
    return len(parts[0]) + sum(buffer.raw().nbytes for buffer in parts[1])
