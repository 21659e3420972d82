"""The colors of states, and what can be read on them."""

from __future__ import annotations

from dask_taskrunner.states import COLORS


def color_of(state: str) -> str:
    """Return the color of a state by the name of its class."""
    return COLORS.get(state, COLORS["State"])


def readable_on(color: str) -> str:
    """Return black or white, whichever is read better on a ``#rrggbb``."""
    # As the guidelines for accessible pages measure it: on this one both are read equally well.
    return "#000000" if _luminance(color) > 0.179 else "#ffffff"


def _luminance(color: str) -> float:
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    # The weights are those of the eye.
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
