"""The page on states and triggers: its cells are run, its tables are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_page

from dask_taskrunner import signals, states, triggers

PAGE = (Path(__file__).parents[1] / "docs" / "states.md").read_text(encoding="utf-8")

#: What the heads of the table of triggers speak of.
UPSTREAM = {
    "one success, one failure": (states.Success(), states.Failed("no")),
    "all succeeded": (states.Success(), states.Success()),
    "all failed": (states.Failed("no"), states.Crashed("no")),
    "one skipped, one succeeded": (states.Skipped(), states.Success()),
    "nothing upstream": (),
}


def rows(first):
    """Return the cells of the table whose first head is this."""
    lines = iter(PAGE.splitlines())
    head = next(line for line in lines if line.startswith(f"| {first} |"))
    table = [head]
    for line in lines:
        if not line.startswith("|"):
            break
        table.append(line)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def verdict(trigger, upstream):
    try:
        return "runs" if trigger(dict(enumerate(upstream))) else "no"
    except signals.TRIGGERFAIL:
        return "no"
    except signals.PAUSE:
        return "pauses"


def test_the_table_of_triggers_is_true():
    head, _, *table = rows("trigger")
    assert head[1:] == list(UPSTREAM)
    for name, *cells in table:
        trigger = getattr(triggers, name.strip("`"))
        assert cells == [verdict(trigger, upstream) for upstream in UPSTREAM.values()], name


def test_every_state_is_told_of():
    _, _, *table = rows("state")
    told = {name.strip("`") for name, _ in table}
    assert told == states.STATE_CLASSES.keys() - {"State", "Finished"}


@pytest.mark.cluster
def test_the_cells_show_what_the_page_shows(client):
    namespace = {"__name__": "__main__"}
    with client.as_current():
        check_page(PAGE, namespace)
        namespace["runner"].close()
