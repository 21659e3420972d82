"""What a cluster test looks at from outside: the scheduler's tasks, threads, worker processes."""

from __future__ import annotations

import os
import signal
import threading

from marks import eventually

#: So long what has ended may take to be gone everywhere.
SETTLING = 5.0


def tasks_on(client, but=()) -> set:
    """Return the keys of all tasks that the scheduler knows, but those in some states."""

    def look(but, dask_scheduler):
        return [key for key, ts in dask_scheduler.tasks.items() if ts.state not in but]

    return set(client.run_on_scheduler(look, but))


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("dask-taskrunner")]


def assert_nothing_left(client) -> None:
    """Assert that no task is on the scheduler, and no thread of ours lives on."""
    assert eventually(lambda: not tasks_on(client), SETTLING), tasks_on(client)
    assert not client.futures
    assert_no_threads()


def assert_no_threads() -> None:
    assert eventually(lambda: not our_threads(), SETTLING), our_threads()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def worker_pids(client) -> dict[str, int]:
    """Return the pid of each worker by its address."""
    return client.run(os.getpid)
