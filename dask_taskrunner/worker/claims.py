"""Finds out whether an attempt is started a second time, by a word that the scheduler keeps."""

from __future__ import annotations

from typing import Any

from distributed import Event, Worker


def claim(worker: Any, name: str) -> bool:
    """Claim a name, and return whether nobody had.

    Parameters
    ----------
    worker : Worker
        On which this is called, by a task; or what stands for one, and keeps its own claims.
    name : str
        See :func:`~dask_taskrunner.worker.wire.claim_name`; the client lets go of it.
    """
    if not isinstance(worker, Worker):
        return bool(worker.claim(name))
    event = Event(name)
    if event.is_set():
        return False
    event.set()
    return True
