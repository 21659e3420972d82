"""One line about each input of a task, for whoever asks why it failed.

The values are a user's, of any size and any manners: what cannot be shown is named, and arrays and
tables are known by their `shape`, so neither numpy nor pandas is imported.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

_LINE = 200
_ALL_LINES = 2000


def input_lines(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> line for each input.

    A line has at most 200 characters, all of them at most 2,000 together; the inputs for which no
    room is left are counted under the name ``...``.
    """
    lines: dict[str, str] = {}
    room = _ALL_LINES
    for name, value in inputs.items():
        line = line_of(value)
        room -= len(name) + len(line)
        if room < 0:
            lines["..."] = f"{len(inputs) - len(lines)} more"
            break
        lines[name] = line
    return lines


def line_of(value: object) -> str:
    """Return one line of at most 200 characters about a value."""
    try:
        line = " ".join(_shown.repr(value).split())
    except BaseException as error:  # noqa: BLE001 (a user's class may do anything)
        line = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return line if len(line) <= _LINE else f"{line[: _LINE - 3]}..."


class _Shown(reprlib.Repr):
    """Cuts what is long before it is written out, at any depth."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxset = self.maxlist = self.maxtuple = 6
        self.maxstring = self.maxother = 120

    def repr1(self, x: Any, level: int) -> str:
        kind = type(x)
        # Asked of the class: an instance may make up any attribute.
        if hasattr(kind, "shape") and isinstance(shape := x.shape, tuple) and shape:
            dtype = f" {x.dtype}" if hasattr(kind, "dtype") else ""
            return f"{kind.__name__}{shape}{dtype}"
        if isinstance(x, (bytes, bytearray)) and len(x) > self.maxstring:
            return f"{bytes(x[:40])!r}... ({len(x)} bytes)"
        return super().repr1(x, level)


_shown = _Shown()
