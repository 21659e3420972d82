"""The page on resuming is run from its first block to its last, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_page

PAGE = (Path(__file__).parents[1] / "docs" / "resume.md").read_text(encoding="utf-8")


@pytest.mark.cluster
def test_the_cells_show_what_the_page_shows(client):
    namespace = {"__name__": "__main__"}
    with client.as_current():
        check_page(PAGE, namespace)
