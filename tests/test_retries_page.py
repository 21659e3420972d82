"""The page on retries is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

from pages import check_cells

PAGE = (Path(__file__).parents[1] / "docs" / "retries.md").read_text(encoding="utf-8")


def test_the_cells_show_what_the_page_shows():
    namespace = {"__name__": "__main__"}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S):
        check_cells(block, namespace)
