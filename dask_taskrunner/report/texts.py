"""Text that is somebody else's, as a page can show it, and as much of it as there is room for."""

from __future__ import annotations

import json
import re
from typing import Final

from dask_taskrunner.control_codes import harmless

#: Halves of characters, which no file can hold, and what is no character at all.
_HALVES: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")
#: What stands where a text was cut.
CUT: Final = "(cut: the report has no room for more) …"
_MORE: Final = "…"
#: So many bytes has a character at most.
_WIDEST: Final = 12


def printable(text: str) -> str:
    r"""Return a text that a page can show: of a code that is none it shows the number, ``\x07``."""
    return _HALVES.sub("\ufffd", harmless(text))


class Room:
    """So many bytes of a page, which several texts share.

    Parameters
    ----------
    nbytes : int
        How many there are.
    """

    def __init__(self, nbytes: int) -> None:
        self._left = nbytes

    @property
    def is_left(self) -> bool:
        """True while there is any."""
        return self._left > 0

    def take(self, text: str) -> str:
        """Return the beginning of a text for which there is room."""
        text, keep = self._fitting(text)
        return self._used(text if len(text) <= keep else f"{text[:keep]}{_MORE}")

    def take_end(self, text: str) -> str:
        """Return the end of a text for which there is room: of a traceback that says most."""
        text, keep = self._fitting(text)
        return self._used(text if len(text) <= keep else f"{CUT}{text[len(text) - keep :]}")

    def _fitting(self, text: str) -> tuple[str, int]:
        text = printable(text)
        return text, len(text) if _nbytes(text) <= self._left else self._left // _WIDEST

    def _used(self, text: str) -> str:
        self._left = max(0, self._left - _nbytes(text))
        return text


def _nbytes(text: str) -> int:
    # As the page has it, or more: a quotation mark is two bytes there, and what might begin an
    # element is six.
    return len(json.dumps(text)) + 5 * text.count("<")
