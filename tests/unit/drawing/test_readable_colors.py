"""What stands on the color of a state can be read."""

from __future__ import annotations

import pytest

from dask_taskrunner.drawing.colors import color_of, readable_on
from dask_taskrunner.states import COLORS


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("state", COLORS)
def test_a_states_name_can_be_read_on_its_color(state):
    color = color_of(state)
    other = {"#000000": "#ffffff", "#ffffff": "#000000"}[readable_on(color)]
    assert contrast(color, readable_on(color)) >= 4.5
    assert contrast(color, readable_on(color)) >= contrast(color, other)
