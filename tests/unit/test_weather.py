"""The second example: what it makes of a table. No cluster is needed."""

from __future__ import annotations

import pandas as pd
import pytest

from dask_taskrunner.examples import weather


@pytest.fixture
def days():
    pytest.importorskip("vega_datasets")
    return weather.read.run("")


def test_the_table_that_ships_has_no_faults(days):
    assert len(days) == 1461
    assert weather.find_faults.run(days) == []


def test_faults_are_found_and_repaired(days):
    bad = pd.concat([days, days.iloc[[3]]], ignore_index=True)
    bad.loc[5, "temp_max"] = -50
    bad.loc[7, "wind"] = None
    assert weather.find_faults.run(bad) == [
        "values are missing", "nights are warmer than their days", "days are there twice",
    ]  # fmt: skip
    assert len(weather.repair.run(bad)) == len(days) - 2
    assert weather.find_faults.run(weather.repair.run(bad)) == []


def test_a_table_of_something_else_is_an_error():
    with pytest.raises(ValueError, match="there is no column date, precipitation"):
        weather.find_faults.run(pd.DataFrame({"x": [1]}))


def test_months_are_added_up(days):
    months = weather.by_month.run(days)
    assert len(months) == 12
    row = weather.add_up.run(months[6], 1.0)
    assert (row["month"], row["days"], row["warmest"]) == (7, 124, 35.0)
    assert row["wet"] < 0.1


def test_a_file_is_read(tmp_path, days):
    days.to_csv(tmp_path / "days.csv", index=False)
    assert len(weather.read.run(str(tmp_path / "days.csv"))) == len(days)
