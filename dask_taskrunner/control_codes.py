"""Takes from texts what would command a terminal, and not be read. It knows only texts.

An exception's message, a name or a line of a log may hold anything, and whoever looks at a run did
not ask for its screen to be cleared, its title to be set, or a line to be overwritten.
"""

from __future__ import annotations

import re
from typing import Final

#: Whole commands, as ECMA-48 has them; they have nothing in them to be read.
_COMMANDS: Final = re.compile(
    r"""
    (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                     # such as colors, or where to write
  | (?:\x1b[]P^_X]|[\x9d\x90\x9e\x9f\x98]) [^\x07\x1b\x9c]* (?:\x07|\x1b\\|\x9c)  # such as a title
  | \x1b [ -/]* [0-Z\\^-~]
    """,
    re.VERBOSE,
)
#: All that is no character to be seen, but for line breaks and tabs; and what turns around the
#: direction in which a line is read.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLORS: Final = re.compile(r"(\x1b\[[0-9;:]*m)")


def harmless(text: str) -> str:
    r"""Return a text that a terminal shows and does not obey.

    Parameters
    ----------
    text : str
        May have several lines.

    Returns
    -------
    str
        Without escape sequences; what is left of control codes can be seen, as in ``\x07``.
    """
    if text.isprintable():
        return text
    without = _COMMANDS.sub("", text.replace("\r\n", "\n"))
    return _CONTROLS.sub(lambda found: _visible(found[0]), without)


def colored(text: str) -> str:
    """Return the same, but for its colors, which stay."""
    if text.isprintable():
        return text
    parts = _COLORS.split(text)
    # What stands between brackets in the pattern is every second part.
    return "".join(part if n % 2 else harmless(part) for n, part in enumerate(parts))


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
