"""What the import costs, in fresh processes, beside that of distributed."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measuring import row

_TIME = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"


def seconds(module: str) -> float:
    """Return how long a fresh interpreter imports a module."""
    # Byte code is what an installed package has.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _TIME.format(module)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def measure(rounds: int) -> list[dict[str, object]]:
    """Return one row."""
    seconds("dask_taskrunner")
    pairs = [(seconds("distributed"), seconds("dask_taskrunner")) for _ in range(rounds)]
    raw, ours = zip(*pairs, strict=True)
    return [row("import, seconds (raw: distributed)", raw, ours)]
