"""The figures on the page that says what it costs are those of the benchmarks, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "docs" / "why.md").read_text(encoding="utf-8")
RESULTS = (CHECKOUT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")

COSTS = PAGE.partition("## What it costs")[2].partition("## What it promises")[0]
#: Rows of figures: what was measured, and the cells after it.
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in COSTS.splitlines()
    if line.startswith("| ") and not line.startswith("| |")
]


def figures(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])\d[\d,]*\.\d+|(?<![\w.])\d{1,3}(?:,\d{3})+", text)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_of_figures_is_one_of_the_results(row):
    taken = [set(figures(line)) for line in RESULTS.splitlines() if line.startswith("| ")]
    assert any(set(figures(" | ".join(row[1:]))) <= there for there in taken)


def test_every_other_figure_is_among_the_results():
    assert set(figures(COSTS)) <= set(figures(RESULTS))


def test_what_the_soak_found_is_what_the_results_say():
    for count, what in re.findall(r"(\d+) (flow runs|killed workers|re-executions|wrong)", PAGE):
        row = {"killed workers": "kills", "wrong": "wrong states"}.get(what, what)
        assert re.search(rf"^\| {row}[^|]*\| {count} \|", RESULTS, re.M), what
