"""The page on failures is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

import dask
from pages import check_page

from dask_taskrunner.graph.options import DEFAULTS

PAGE = (Path(__file__).parents[1] / "docs" / "failures.md").read_text(encoding="utf-8")


def test_the_cells_show_what_the_page_shows(capsys):
    namespace = {"__name__": "__main__"}
    check_page(PAGE, namespace)
    told = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
    assert capsys.readouterr().out == "".join(told)


def test_a_death_that_dask_forgives_is_counted_with_ours():
    allowed = dask.config.get("distributed.scheduler.allowed-failures")
    deaths = (DEFAULTS["max_crash_retries"] + 1) * (allowed + 1)
    assert f"{allowed} by default" in PAGE
    assert f"its worker died {deaths} times" in PAGE
    assert dask.config.get("distributed.scheduler.worker-ttl") == "5 minutes"
