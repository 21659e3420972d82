"""Where a task that runs in this process waits for the test, and a test for what will be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

#: What takes longer has failed.
PATIENCE = 10.0


class Gate:
    """What a task waits at until the test lets it through; it pickles as its name."""

    _gates: ClassVar[dict[str, Gate]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self._gates[name] = self
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __reduce__(self) -> tuple[Callable[[str], Gate], tuple[str]]:
        return _gate, (self.name,)

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE), f"gate {self.name} was never opened"

    def wait(self) -> None:
        assert self.reached.wait(PATIENCE), f"nobody came to gate {self.name}"

    def open(self) -> None:
        self.opened.set()


def _gate(name: str) -> Gate:
    return Gate._gates[name]


def eventually(condition: Callable[[], object]) -> object:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return value
