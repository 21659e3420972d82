"""The page on seeing a run is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pages import check_page

from dask_taskrunner.insight.explanations import Kind
from dask_taskrunner.view.progress import STYLES

PAGE = (Path(__file__).parents[1] / "docs" / "watching.md").read_text(encoding="utf-8")


@pytest.mark.cluster
def test_the_cells_show_what_the_page_shows(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    with client.as_current():
        check_page(PAGE, namespace)
        namespace["runner"].close()


def test_every_kind_of_reason_and_every_form_is_named():
    assert set(get_args(Kind)) <= set(re.findall(r"`([a-z-]+)`", PAGE))
    assert set(STYLES) <= set(re.findall(r'`"([a-z]+)"`', PAGE))
