"""Four years of Seattle's weather: read, validate, repair what must be, add up by month, draw.

It needs `pip install 'dask-taskrunner[examples]'`. On processes of this machine:
`dask-taskrunner run dask_taskrunner.examples.weather:flow -p out=weather`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from dask_taskrunner import Flow, Parameter, case, merge, task, unmapped

#: A table of days; pandas is imported where it is needed, on the workers.
Frame: TypeAlias = Any

COLUMNS = ["date", "precipitation", "temp_max", "temp_min", "wind", "weather"]


@task(max_retries=2, retry_delay=1)
def read(path: str) -> Frame:
    """Read the days: of a CSV file, else those that come with the `vega_datasets` package."""
    import pandas as pd

    if path:
        return pd.read_csv(path, parse_dates=["date"])
    from vega_datasets import local_data

    return local_data.seattle_weather()


@task
def find_faults(days: Frame) -> list[str]:
    """Say what is wrong with the days; a table without the columns is an error."""
    missing = [name for name in COLUMNS if name not in days]
    if missing:
        raise ValueError(f"there is no column {', '.join(missing)}")
    faults = {
        "values are missing": days[COLUMNS].isna().to_numpy().any(),
        "nights are warmer than their days": (days["temp_min"] > days["temp_max"]).any(),
        "days are there twice": days["date"].duplicated().any(),
    }
    return [fault for fault, is_there in faults.items() if is_there]


@task
def repair(days: Frame) -> Frame:
    """Leave out what cannot be right."""
    days = days.dropna(subset=COLUMNS).drop_duplicates("date")
    return days[days["temp_min"] <= days["temp_max"]]


@task
def by_month(days: Frame) -> list[Frame]:
    """Cut the days into months of all years."""
    return [month for _, month in days.groupby(days["date"].dt.month)]


@task
def add_up(month: Frame, wet: float) -> dict[str, Any]:
    """Make the row of one month."""
    return {
        "month": int(month["date"].iloc[0].month),
        "days": len(month),
        "warmest": float(month["temp_max"].max()),
        "coldest": float(month["temp_min"].min()),
        "mean": round(float(month[["temp_max", "temp_min"]].to_numpy().mean()), 1),
        "rain": round(float(month["precipitation"].sum()), 1),
        "wet": round(float((month["precipitation"] >= wet).mean()), 3),
    }


@task
def write(rows: list[dict[str, Any]], out: str) -> str:
    """Write the table, and return its path."""
    import pandas as pd

    path = Path(out) / "weather.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@task
def draw(rows: list[dict[str, Any]], out: str) -> str:
    """Draw temperatures and rain by month, and return the picture's path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    months = [row["month"] for row in rows]
    coldest, warmest = ([row[name] for row in rows] for name in ("coldest", "warmest"))
    axes.fill_between(months, coldest, warmest, alpha=0.25, color="tab:red", label="from, to")
    axes.plot(months, [row["mean"] for row in rows], color="tab:red", label="mean")
    axes.set(xlabel="month", ylabel="°C", title="Seattle", xticks=months)
    rain = axes.twinx()
    rain.bar(months, [row["rain"] for row in rows], alpha=0.3, color="tab:blue", label="rain")
    rain.set_ylabel("mm in all years")
    figure.legend(loc="outside lower center", ncols=3)
    path = Path(out) / "weather.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return str(path)


with Flow("weather") as flow:
    path = Parameter("path", default="", help="a CSV file of days; empty: Seattle, 2012 to 2015")
    out = Parameter("out", default="weather", help="where the table and the picture go")
    wet = Parameter("wet", default=1.0, help="from how many mm on a day is wet")
    days = read(path)
    faults = find_faults(days)
    with case(faults.is_equal([]), False):
        repaired = repair(days)
    rows = add_up.map(by_month(merge(repaired, days)), wet=unmapped(wet))
    table = write(rows, out)
    picture = draw(rows, out)
