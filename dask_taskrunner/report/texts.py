"""Text that is somebody else's, as a page can show it, and as much of it as there is room for."""

from __future__ import annotations

import json
import re
from typing import Final

#: What terminals take for orders: colors, moves of the cursor, titles of windows.
_ORDERS: Final = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\))")
#: Codes that are no text; halves of characters, which no file can hold; and marks that turn round
#: what follows them, which need not be what it seems.
_CODES: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
_PICTURES: Final = 0x2400
#: What stands where a text was cut.
CUT: Final = "(cut: the report has no room for more) …"
_MORE: Final = "…"
#: So many bytes has a character at most.
_WIDEST: Final = 12


def printable(text: str) -> str:
    r"""Return a text in which every code that is none is a picture of itself: ``\x07`` is ``␇``."""
    return _CODES.sub(_picture, _ORDERS.sub("", text.replace("\r\n", "\n")))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\u2421" if code == 0x7F else "\ufffd"


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

    def take(self, text: str, brief: int = 0) -> str:
        """Return the beginning of a text for which there is room; `brief` characters always are."""
        text, keep = self._fitting(text, brief)
        return self._used(text if len(text) <= keep else f"{text[:keep]}{_MORE}")

    def take_end(self, text: str) -> str:
        """Return the end of a text for which there is room: of a traceback that says most."""
        text, keep = self._fitting(text, 0)
        return self._used(text if len(text) <= keep else f"{CUT}{text[len(text) - keep :]}")

    def _fitting(self, text: str, brief: int) -> tuple[str, int]:
        text = printable(text)
        if _nbytes(text) <= self._left:
            return text, len(text)
        return text, max(brief, self._left // _WIDEST)

    def _used(self, text: str) -> str:
        self._left = max(0, self._left - _nbytes(text))
        return text


def _nbytes(text: str) -> int:
    # As the page has it, or more: a quotation mark is two bytes there.
    return len(json.dumps(text))
