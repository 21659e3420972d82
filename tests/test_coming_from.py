"""What the page for those who come from elsewhere says to write here does what its row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import run_cell

from dask_taskrunner import DaskTaskRunner, context

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """Return the code of the last column by what stands in the first."""
    found = {}
    for line in re.findall(r"^\| (.*) \|$", PAGE, re.M)[1:]:
        what, *_, here = line.split(" | ")
        found[what] = "\n".join(re.findall(r"`([^`]+)`", here))
    return found


ROWS = rows()


def fetch(shop):
    if shop != "oslo":
        raise KeyError(shop)
    if context.task_run_number == 1:
        raise OSError("the line is busy")
    return context.task_run_number


def one(value, names):
    assert value == 3


def mapped(value, names):
    assert value == [5, 10]


def retried(value, names):
    assert value == 2
    # Another exception is final at once.
    other = names["runner"].submit(names["safe"], "rome")
    assert isinstance(other.exception(), KeyError)
    assert len(other.attempts) == 1


def cleaned_up(value, names):
    assert str(names["f"].exception()) == "negative price"
    assert value == "MissingResult('clean', Failed(\"ValueError: negative price\"))"


def told(value, names):
    ((slug, error),) = value
    assert slug == "clean[1]"
    assert (type(error), str(error)) == (ValueError, "negative price")


def went_on(value, names):
    assert value == 6
    run, again = names["run"], names["again"]
    assert [len(run[slug].attempts) for slug in ("clean", "total")] == [1, 1]
    assert [len(again[slug].attempts) for slug in ("clean", "total")] == [0, 1]


def cached(value, names):
    assert value == [3, 3]
    assert names["runner"].last_run["clean"].attempts == []


def cancelled(value, names):
    assert value.not_done == set()
    assert names["fs"].counts == {"Cancelled": 100}


def of_dask(value, names):
    assert value == 7


def awaited(value, names):
    assert value == 3


#: What comes of each row, in the order of the page.
OUTCOMES = {
    "run one, and wait": one,
    "map over a list, one argument the same for all": mapped,
    "retry after a delay, after some exceptions only": retried,
    "clean up, also after a failure": cleaned_up,
    "what failed, and why": told,
    "start again from the middle of a run": went_on,
    "take an earlier result for the same inputs": cached,
    "cancel": cancelled,
    "pass a Dask future, or something lazy": of_dask,
    "without blocking an event loop": awaited,
}


def test_each_row_has_an_outcome_here():
    assert list(ROWS) == list(OUTCOMES)
    assert len(ROWS) == 10


def test_each_row_has_the_same_columns():
    table = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in table if not line.startswith("|---")} == {4}
    assert all(ROWS.values())


@pytest.fixture
def names(client):
    """The names that the page explains, in a runner of its own, so that slugs begin anew."""
    (given,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    with DaskTaskRunner(client=client) as runner:
        names = {"__name__": "__main__", "client": client, "runner": runner}
        exec(given, names)
        yield names | {"fetch": fetch}


@pytest.mark.cluster
@pytest.mark.parametrize("row", OUTCOMES)
def test_what_is_written_here_does_what_the_row_says(names, row):
    OUTCOMES[row](run_cell(ROWS[row], names), names)
