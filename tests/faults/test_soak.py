"""Half a minute of random flows on workers that are killed all the time, beside an oracle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_in_half_a_minute_of_killed_workers_no_state_is_wrong_and_nothing_hangs():
    command = [sys.executable, "-m", "benchmarks", "soak", "--minutes", "0.5", "--seed", "77"]
    soak = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    print(soak.stdout)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    counts = {}
    for line in soak.stdout.splitlines():
        words = line.split()
        if words and words[-1].isdigit():
            counts[" ".join(words[:-1])] = int(words[-1])
    assert counts["wrong states"] == counts["hangs"] == 0
    # It was worth something.
    assert counts["runs"] > 10
    assert counts["kills"] > 5
    assert counts["executions that were lost"] + counts["re-executions"] > 0
