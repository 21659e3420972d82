"""Says of an argument of a mapped call that it is the same for all. It knows no tasks."""

from __future__ import annotations

from typing import Any


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
