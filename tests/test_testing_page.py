"""The page on tests is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

from pages import check_cells

PAGE = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")


def test_the_cells_show_what_the_page_shows():
    namespace = {"__name__": "__main__"}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        check_cells(block, namespace)
