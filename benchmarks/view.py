"""What it costs to look at a run: a fan-out with a notebook's live block, and without, in turn."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any

from benchmarks.measuring import cluster, noop
from dask_taskrunner import DaskTaskRunner, Flow, task

FAN_OUT = 1000
step = task(noop, name="noop")


class Notebook:
    """Stands for a kernel: what it is given is written as JSON, as a kernel does to send it."""

    def __init__(self) -> None:
        self.kernel = object()
        self.display_pub = self
        self.first: float | None = None
        self.most = self.count = 0

    def get_parent(self) -> dict[str, Any]:
        return {"header": {"msg_id": str(id(self))}}

    def publish(self, data: dict[str, str], **more: Any) -> None:
        sent = json.dumps({"data": data, **more})
        self.first = self.first or time.perf_counter()
        self.most, self.count = max(self.most, len(sent)), self.count + 1


def measure(rounds: int) -> list[dict[str, object]]:
    """Return a row on the time, and one on what is drawn."""
    ratios, firsts, largest, times = [], [], 0, []
    with cluster() as client, DaskTaskRunner(client=client) as runner:
        _run(runner)
        for number in range(rounds):
            seconds = {}
            # In turn, and not always in the same order.
            for is_shown in (True, False) if number % 2 else (False, True):
                notebook = Notebook()
                began = time.perf_counter()
                if is_shown:
                    sys.modules["IPython"] = SimpleNamespace(get_ipython=lambda n=notebook: n)  # type: ignore[assignment]
                try:
                    _run(runner, progress=is_shown)
                finally:
                    sys.modules.pop("IPython", None)
                seconds[is_shown] = time.perf_counter() - began
                if notebook.first is not None:
                    firsts.append(notebook.first - began)
                    largest = max(largest, notebook.most)
            ratios.append(seconds[True] / seconds[False])
            times.append(seconds[False])
    low, high = _interval(ratios)
    return [
        {
            "what": f"fan-out of {FAN_OUT}, live block on / off", "rounds": rounds,
            "off, s": round(statistics.median(times), 3),
            "ratio": round(statistics.median(ratios), 3), "95 %": f"{low:.3f} to {high:.3f}",
        },
        {
            "what": "from the call of run to the first picture, s", "rounds": len(firsts),
            "off, s": "", "ratio": round(statistics.median(firsts), 3),
            "95 %": f"largest message {largest / 1000:.1f} kB",
        },
    ]  # fmt: skip


def _run(runner: DaskTaskRunner, *, progress: bool = False) -> None:
    with Flow("fan-out") as flow:
        for number in range(FAN_OUT):
            step(number)
    run = runner.run(flow, progress=progress)
    assert run.state.is_successful(), run.state


def _interval(values: list[float]) -> tuple[float, float]:
    """Return the interval of the median, by resampling."""
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[-50]
