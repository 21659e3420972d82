"""What the report's page writes can be read, light and dark and on paper."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from dask_taskrunner import report

#: What is written on what; and what is drawn, which need not be as strong.
WRITTEN = [(ink, ground) for ink in ("text", "quiet", "link") for ground in ("back", "soft")]
PARTS = ("running", "delayed", "queued", "fetching", "overhead")
DRAWN = [(ink, "back") for ink in ("bad", "focus", *PARTS)]


def luminance(color):
    digits = color.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def themes():
    """Return the colors of each theme by name; what one does not set is that of the first."""
    style = (resources.files(report) / "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = [dict(re.findall(r"--(\w+): (#\w+);", block)) for block in blocks]
    return dict(
        zip(("light", "dark", "paper"), [{**found[0], **one} for one in found], strict=True)
    )


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [*((*pair, 4.5) for pair in WRITTEN), *((*pair, 3.0) for pair in DRAWN)],
)
def test_it_stands_out(theme, ink, ground, least):
    colors = themes()[theme]
    light, dark = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least
