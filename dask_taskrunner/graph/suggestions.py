"""The nearest right name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: object, right: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or what there is, for the end of an error's text."""
    names = sorted(right)
    close = difflib.get_close_matches(str(wrong), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; there are none"
    shown = ", ".join(map(repr, names[:20]))
    return f"; there are {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
