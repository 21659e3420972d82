"""What stands in a task run's arguments for what does not travel with them."""

from __future__ import annotations

from typing import Self


class _Positioned:
    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __reduce__(self) -> tuple[type[Self], tuple[int, ...]]:
        return type(self), (self.position,)


class Placeholder(_Positioned):
    """Stands for the result of the upstream run at a position."""

    __slots__ = ()


class ConstantPlaceholder(_Positioned):
    """Stands for the large argument at a position."""

    __slots__ = ()


class ElementPlaceholder(_Positioned):
    """Stands for the element of a child's own index, in the result of the run at a position."""

    __slots__ = ()


class OwnPlaceholder(_Positioned):
    """Stands for what only this child has at a position."""

    __slots__ = ()


class ItemPlaceholder(_Positioned):
    """Stands for an element of the result of the run at a position, of so many that it had."""

    __slots__ = ("index", "length")

    def __init__(self, position: int, index: int, length: int) -> None:
        super().__init__(position)
        self.index = index
        self.length = length

    def __reduce__(self) -> tuple[type[Self], tuple[int, ...]]:
        return type(self), (self.position, self.index, self.length)
