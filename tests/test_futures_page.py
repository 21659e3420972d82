"""The page on futures is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import check_cells

from dask_taskrunner import exceptions, states

PAGE = (Path(__file__).parents[1] / "docs" / "futures.md").read_text(encoding="utf-8")


def test_the_page_names_states_and_exceptions_that_there_are():
    (told,) = re.findall(r"^\| state \| `result\(\)` \|\n(.*?)\n\n", PAGE, re.M | re.S)
    rows = [line.split(" | ") for line in told.splitlines()[1:]]
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[0]):
            assert issubclass(getattr(states, name), states.State)
    for name in re.findall(r"raises `(\w+)`", PAGE):
        assert hasattr(exceptions, name) or name == "TimeoutError"


@pytest.mark.cluster
def test_the_cells_show_what_the_page_shows(client):
    namespace = {"__name__": "__main__"}
    with client.as_current():
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
        for block in blocks:
            check_cells(block, namespace)
        with namespace["runner"] as runner:
            assert runner.client is client
    assert [future.slug for future in namespace["seen"]] == ["clean"]
