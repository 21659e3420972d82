"""``python -m benchmarks overhead|memory|retry|imports|futures|map|large|soak|view|predict``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks import futures, imports, large, maps, memory, overhead, predict, retry, soak, view
from benchmarks.measuring import machine, print_table

_json = click.option("--json", "path", type=click.Path(path_type=Path), help="Also write here.")
_rounds = click.option("--rounds", default=5, show_default=True, help="Rounds of each, in turn.")


@click.group()
def main() -> None:
    """Print what dask_taskrunner costs, raw Dask beside it in the same run."""
    click.echo(machine())


def _report(title: str, rows: list[dict[str, object]], path: Path | None) -> None:
    print_table(title, rows)
    if path is not None:
        figures = {"machine": machine(), "benchmark": title, "rows": rows}
        path.write_text(json.dumps(figures, indent=2) + "\n")


@main.command("overhead")
@_rounds
@_json
@click.option("--prefect", metavar="PYTHON", help="An interpreter that has Prefect 1.4.1.")
def overhead_command(rounds: int, path: Path | None, prefect: str | None) -> None:
    """Fan-out of 1,000, chain of 300, grid of 30 x 30: no-ops, seconds."""
    _report("overhead", overhead.measure(rounds, prefect), path)


@main.command("memory")
@_json
def memory_command(path: Path | None) -> None:
    """Memory on the scheduler and on the client, and a chain of large results."""
    _report("memory", memory.measure(), path)


@main.command("view")
@click.option("--rounds", default=20, show_default=True, help="Rounds of each, in turn.")
@_json
def view_command(rounds: int, path: Path | None) -> None:
    """A fan-out of 1,000 with the live block of a notebook, and without."""
    _report("view", view.measure(rounds), path)


@main.command("predict")
@click.option("--rounds", default=3, show_default=True, help="Rounds of each.")
@_json
def predict_command(rounds: int, path: Path | None) -> None:
    """How far what_if(workers=...) is from real runs on so many workers, in per cent."""
    _report("predict", predict.measure(rounds), path)


@main.command("futures")
@_rounds
@_json
def futures_command(rounds: int, path: Path | None) -> None:
    """Single calls and maps beside raw Dask's, shared constants, and a large result."""
    _report("futures", futures.measure(rounds), path)


@main.command("map")
@_rounds
@_json
def map_command(rounds: int, path: Path | None) -> None:
    """Mapped tasks of a flow beside ``client.map``: time, memory, retries, constants."""
    _report("map", maps.measure(rounds), path)


@main.command("imports")
@click.option("--rounds", default=15, show_default=True, help="Rounds of each, in turn.")
@_json
def imports_command(rounds: int, path: Path | None) -> None:
    """Seconds of ``import dask_taskrunner`` and of ``import distributed``."""
    _report("imports", imports.measure(rounds), path)


@main.command("retry")
@_rounds
@_json
def retry_command(rounds: int, path: Path | None) -> None:
    """How fast a due retry is sent, and what a retry above 1,000 dependents costs."""
    _report("retry", retry.measure(rounds), path)


@main.command("large")
@_rounds
@click.option("--megabytes", default=large.MEGABYTES, show_default=True)
@_json
def large_command(rounds: int, megabytes: int, path: Path | None) -> None:
    """A large result that is passed from worker to worker."""
    _report("large", large.measure(rounds, megabytes), path)


@main.command("soak")
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the first flow.")
@click.option("--every", default=3.0, show_default=True, help="Seconds between two kills, about.")
@click.option("--budget", default=1000, show_default=True, help="max_crash_retries of all tasks.")
@_json
def soak_command(minutes: float, seed: int, every: float, budget: int, path: Path | None) -> None:
    """Random flows on three workers that are killed all the time, beside an oracle."""
    rows = soak.measure(minutes, seed, every, budget)
    _report("soak", rows, path)
    bad = sum(int(str(row["count"])) for row in rows if row["what"] in ("wrong states", "hangs"))
    raise SystemExit(1 if bad else 0)


@main.command("kill-workers", hidden=True)
@click.argument("address")
@click.option("--every", default=3.0)
@click.option("--seed", default=0)
def kill_workers_command(address: str, every: float, seed: int) -> None:
    """Kill workers of a cluster, for ever: a part of the soak."""
    soak.kill_workers(address, every, seed)


if __name__ == "__main__":
    main()
