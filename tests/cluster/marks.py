"""Files by which tasks tell a test what they did, and wait for a word of it.

They outlive a killed worker, and cost the cluster nothing that could disturb what is tested.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

#: A test that waits longer than this has failed.
PATIENCE = 20.0


def eventually(condition, timeout=PATIENCE):
    """Return the first true value of a condition, or its last false one."""
    deadline = time.monotonic() + timeout
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


class Marks:
    """A directory of a test's own."""

    def __init__(self, directory) -> None:
        self.directory = Path(directory)

    def add(self, name, text="") -> int:
        """Write a line, and return how many there are of this name."""
        path = self.directory / f"{name}.mark"
        line = f"{os.getpid()} {time.monotonic()} {text}\n".encode()
        # One write of a few bytes in append mode is not torn by another process.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return self.count(name)

    def lines(self, name) -> list[list[str]]:
        path = self.directory / f"{name}.mark"
        return (
            [line.split(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def count(self, name) -> int:
        return len(self.lines(name))

    def pids(self, name) -> list[int]:
        return [int(line[0]) for line in self.lines(name)]

    def times(self, name) -> list[float]:
        """When the lines were written, by the one monotonic clock of this machine."""
        return [float(line[1]) for line in self.lines(name)]

    def texts(self, name) -> list[str]:
        return [line[2] for line in self.lines(name)]

    def wait(self, name, count=1) -> None:
        """Wait for lines of this name."""
        if not eventually(lambda: self.count(name) >= count):
            raise TimeoutError(f"{self.count(name)} of {count} {name} after {PATIENCE} s")


def is_whole(cluster):
    """Return whether both workers are there, and would be started again if they were killed.

    A nanny hears of its worker up to 50 ms after the scheduler does. A worker that is killed in
    between is never started again: the nanny waits for the first start to end.
    """
    nannies = cluster.workers.values()
    return len(cluster.scheduler.workers) == 2 and all(
        nanny.process is not None and nanny.process.status.name == "running" for nanny in nannies
    )
