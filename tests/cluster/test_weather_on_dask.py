"""The second example on worker processes, by both of its branches."""

from __future__ import annotations

import csv

import pytest

from dask_taskrunner.examples import weather

pytestmark = pytest.mark.cluster

pytest.importorskip("matplotlib")
local_data = pytest.importorskip("vega_datasets").local_data


def test_the_weather_is_written_and_drawn(runner, tmp_path):
    run = runner.run(weather.flow, out=str(tmp_path / "out"))
    assert run.state.is_successful()
    assert run[weather.repaired].state.is_skipped()
    with open(run.result(weather.table)) as file:
        rows = list(csv.DictReader(file))
    assert [int(row["month"]) for row in rows] == list(range(1, 13))
    assert sum(int(row["days"]) for row in rows) == 1461
    with open(run.result(weather.picture), "rb") as file:
        assert file.read(4) == b"\x89PNG"


def test_days_with_faults_are_repaired_first(runner, tmp_path):
    days = local_data.seattle_weather()
    days.loc[5, "temp_max"] = -50
    days.to_csv(tmp_path / "days.csv", index=False)
    run = runner.run(weather.flow, path=str(tmp_path / "days.csv"), out=str(tmp_path))
    assert len(run["add_up"].children) == 12
    assert sum(row["days"] for row in run.result(weather.rows)) == 1460
