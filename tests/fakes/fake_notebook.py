"""The part of a notebook's kernel that draws: what it was told to publish, cell by cell."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, NamedTuple

import pytest


class Published(NamedTuple):
    """A message to the notebook."""

    cell: str
    html: str
    plain: str
    id: str
    is_update: bool
    #: None where there is none.
    svg: str | None


class FakeShell:
    """IPython's shell in a kernel; a test says which cell is being executed."""

    def __init__(self) -> None:
        self.kernel = object()
        self.display_pub = self
        self.cell = "cell 1"
        self.messages: list[Published] = []

    def get_parent(self) -> dict[str, Any]:
        return {"header": {"msg_id": self.cell}}

    def publish(
        self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False
    ) -> None:
        self.messages.append(
            Published(
                self.cell,
                data["text/html"],
                data["text/plain"],
                transient["display_id"],
                update,
                data.get("image/svg+xml"),
            )
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process a notebook's kernel."""
        module = ModuleType("IPython")
        module.get_ipython = lambda: self  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", module)
