"""Counts what a machine takes in, so that whoever looks on knows when it is in the middle of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class HasTurn(Protocol):
    """What can be looked at between two turns."""

    #: Odd while something is taken in: then the records may be half of what they will be.
    turn: int


T = TypeVar("T", bound=HasTurn)


def in_one_turn(
    method: Callable[Concatenate[T, P], R],
) -> Callable[Concatenate[T, P], R]:
    """Count a method's beginning and its end, however it ends."""

    @functools.wraps(method)
    def counted(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.turn += 1
        try:
            return method(self, *args, **kwargs)
        finally:
            self.turn += 1

    return counted
