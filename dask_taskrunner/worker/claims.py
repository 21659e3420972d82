"""Finds out whether an attempt is started a second time, by a word that the scheduler keeps."""

from __future__ import annotations

from typing import Any

from distributed import Event, Worker

from dask_taskrunner.user_code import StartedBefore
from dask_taskrunner.worker.wire import Call, claim_name


def claim_start(worker: Any, call: Call) -> None:
    """Claim the start of an attempt that may be started only once.

    Raises
    ------
    StartedBefore
        It was.
    """
    numbers = call.n, call.map_index, call.loop_count, call.run_number, call.attempt
    if not claim(worker, claim_name(call.run, *numbers)):
        raise StartedBefore(
            f"{call.slug} was started before, on a worker that has died or lost its result, and "
            "rerun_on_loss=False lets it start only once"
        )


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
