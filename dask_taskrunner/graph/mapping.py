"""What a mapped call is given: what is the same for all, and of what each gets an element.

It knows no tasks and no futures; whoever maps looks for those first.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dask_taskrunner.exceptions import ArgumentError
from dask_taskrunner.graph.arguments import find
from dask_taskrunner.graph.signatures import Shape
from dask_taskrunner.input_lines import line_of

#: Stands for the name of an argument, in a text that is made where that is not known.
ARGUMENT: Final = "{argument}"


class Unmapped:
    """An argument that is passed whole to each call; see :func:`unmapped`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"unmapped({self.value!r})"


def unmapped(value: Any) -> Unmapped:
    """Pass a value whole to each call of a ``map``, instead of mapping over it.

    Examples
    --------
    >>> runner.map(clean, chunks, threshold=unmapped(5))  # doctest: +SKIP
    """
    return Unmapped(value)


@dataclass(frozen=True, slots=True)
class Each:
    """An argument of a mapped task of which each child gets an element.

    A dataclass, so that what looks for tasks in arguments finds those in it.

    Attributes
    ----------
    values : object
        A task, or what has a length and can be indexed.
    """

    values: Any


def mark_columns(
    given: Mapping[str, Any], shape: Shape | None, column: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Return the arguments of a mapped call, with ``column(label, value)`` for what is mapped over.

    What ``*args`` and ``**kwargs`` take are columns of their own. What is `unmapped` is unwrapped.

    Parameters
    ----------
    given : mapping
        The arguments by parameter name.
    shape : Shape or None
        Of the signature.
    column : callable
        Called for each mapped argument, with the label that an error calls it by.
    """

    def mark(label: str, value: Any) -> Any:
        return value.value if isinstance(value, Unmapped) else column(label, value)

    marked: dict[str, Any] = {}
    for key, value in given.items():
        if shape is not None and key == shape.var_positional:
            marked[key] = tuple(mark(f"argument {n}", part) for n, part in enumerate(value, 1))
        elif shape is not None and key == shape.var_keyword:
            marked[key] = {label: mark(label, part) for label, part in value.items()}
        else:
            marked[key] = mark(key, value)
    return marked


def columns_of(arguments: Mapping[str, Any], shape: Shape | None) -> dict[str, Each]:
    """Return what is mapped over, by the labels that errors call it by."""
    named: dict[str, Any] = {}
    for key, value in arguments.items():
        if shape is not None and key == shape.var_positional:
            named.update((f"argument {n}", part) for n, part in enumerate(value, 1))
        elif shape is not None and key == shape.var_keyword:
            named.update(value)
        else:
            named[key] = value
    found: dict[str, Each] = {}
    for label, value in named.items():
        if isinstance(value, Each):
            found[label] = value
            continue
        # Of a graph per element some may be deep inside of something.
        for n, part in enumerate(find(value, Each), 1):
            found[f"{label}, element {n}"] = part
    return found


def elements_at(arguments: Mapping[str, Any], shape: Shape | None, index: int) -> dict[str, Any]:
    """Return the arguments of one child: an element of what is mapped over, the rest as it is."""

    def pick(value: Any) -> Any:
        return element_of(value.values, index) if isinstance(value, Each) else value

    picked: dict[str, Any] = {}
    for key, value in arguments.items():
        if shape is not None and key == shape.var_positional:
            picked[key] = tuple(map(pick, value))
        elif shape is not None and key == shape.var_keyword:
            picked[key] = {label: pick(part) for label, part in value.items()}
        else:
            picked[key] = pick(value)
    return picked


def check_lengths(name: str, lengths: Mapping[str, int], *, zip_shortest: bool) -> None:
    """Find out whether what is mapped over is equally long.

    Raises
    ------
    ArgumentError
        It is not; the text names both.
    """
    if not zip_shortest and len(set(lengths.values())) > 1:
        told = ", ".join(f"{label} has {length}" for label, length in lengths.items())
        raise ArgumentError(
            f"map: the arguments of {name} are not equally long: {told}. Cut the longer one, write "
            "unmapped(...) around what is the same for all, or set zip_shortest=True."
        )


def elements_if_any(value: Any) -> Any:
    """Return a value as something with a length and an index, if it may be mapped over."""
    return value if right_line(ARGUMENT, value) else sequence_of(value)


def measure(value: Any) -> dict[str, Any]:
    """Return what a header says of a result that others take elements of.

    The ``length``, or as ``no_length`` what to write instead, with :data:`ARGUMENT` in it.
    """
    why = right_line(ARGUMENT, value)
    return {"length": len(sequence_of(value))} if why is None else {"no_length": why}


def has_own_length(value: Any) -> bool:
    """Return whether it is known here of how many elements a value is.

    It is not of what stands for a result on a cluster: a future, or a lazy value.
    """
    # Asked of the class: an instance may make up any attribute, or raise at any.
    kind = type(value)
    is_future = not hasattr(kind, "__iter__") and callable(getattr(kind, "result", None))
    return not is_future and not hasattr(kind, "__dask_graph__")


def sequence_of(value: Any) -> Any:
    """Return the elements of what is mapped over, as something with a length and an index.

    Lists, tuples, ranges, arrays and Series stay what they are; whatever else can be iterated over
    becomes a list.
    """
    is_sequence = isinstance(value, (list, tuple, range)) or _is_sequence(value)
    return value if is_sequence else list(value)


def _is_sequence(value: Any) -> bool:
    # By name: neither numpy nor pandas is needed to know that something is none of theirs.
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
    return not names.isdisjoint(_SEQUENCES)


_SEQUENCES: Final = frozenset({"numpy.ndarray", "pandas.Series", "pandas.Index"})


def element_of(values: Any, index: int) -> Any:
    """Return an element of a sequence by its position."""
    # A Series' own index may be anything.
    by_position = getattr(values, "iloc", values)
    return by_position[index]


def elements_between(values: Any, start: int, stop: int) -> Any:
    """Return a part of a sequence, by positions."""
    return getattr(values, "iloc", values)[start:stop]


def elements_of(name: str, label: str, value: Any) -> Any:
    """Return the elements of an argument that is mapped over, as :func:`sequence_of` does.

    Raises
    ------
    ArgumentError
        It is never mapped over; the text shows the right line.
    """
    right = right_line(label, value)
    if right is not None:
        kind = type(value).__name__
        raise ArgumentError(f"map: {name} cannot be mapped over {label}, of type {kind}. {right}")
    return sequence_of(value)


def right_line(label: str, value: Any) -> str | None:
    """Return what to write instead of mapping over a value; None where it may be mapped over."""
    if isinstance(value, Coroutine):
        value.close()
        return f"Nobody has awaited it: write {label}=await ..."
    if isinstance(value, AsyncIterable):
        return f"Write {label}=[x async for x in ...]"
    if any(kind.__name__ == "DataFrame" for kind in type(value).__mro__):
        return (
            f"Write {label}=unmapped(df) to pass the whole to each, df.to_dict('records') for its "
            "rows, or [g for _, g in df.groupby(k)] for its groups."
        )
    if isinstance(value, (dict, set, frozenset)):
        return f"Write {label}=unmapped(...) to pass the whole, or list(...) to map over it."
    if isinstance(value, (str, bytes, bytearray)) or not _has_elements(value):
        return f"Write {label}=unmapped({line_of(value):.40}) to pass the same to each."
    return None


def _has_elements(value: Any) -> bool:
    # Asked of the class: an instance may make up any attribute, or raise at any.
    kind = type(value)
    if hasattr(kind, "shape") and value.shape == ():
        return False
    return hasattr(kind, "__iter__")
