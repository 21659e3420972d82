"""What stands in a task run's arguments for the result of an upstream run."""

from __future__ import annotations


class Placeholder:
    """Stands for the result of the upstream run at a position."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __reduce__(self) -> tuple[type[Placeholder], tuple[int]]:
        return Placeholder, (self.position,)
