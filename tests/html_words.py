"""What a reader sees of a piece of HTML."""

from __future__ import annotations

import html
import re


def words(shown: str) -> list[str]:
    """Return the text, line by line; what is folded is a part of it, and pictures are not."""
    shown = re.sub(r"<svg.*?</svg>", "", shown, flags=re.DOTALL)
    text = re.sub(r"</(div|tr|summary|pre)>", "\n", shown)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    # The gaps that tags leave before a comma are none on the page.
    return [" ".join(line.split()).replace(" ,", ",") for line in text.splitlines() if line.strip()]
