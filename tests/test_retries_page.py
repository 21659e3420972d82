"""The page on retries is run from its first block to its last, and shows what it says."""

from __future__ import annotations

from pathlib import Path

from pages import check_page

PAGE = (Path(__file__).parents[1] / "docs" / "retries.md").read_text(encoding="utf-8")


def test_the_cells_show_what_the_page_shows():
    namespace = {"__name__": "__main__"}
    check_page(PAGE, namespace)
