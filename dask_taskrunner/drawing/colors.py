"""The colors of states, and what can be read on them."""

from __future__ import annotations

from dask_taskrunner.states import COLORS


def color_of(state: str) -> str:
    """Return the color of a state by the name of its class."""
    return COLORS.get(state, COLORS["State"])


def readable_on(color: str) -> str:
    """Return black or white, whichever is read better on a ``#rrggbb``."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    # The weights are those of the eye.
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
