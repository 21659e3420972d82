"""What attempts have claimed that must not start twice: the scheduler keeps it until it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from distributed import Client

from dask_taskrunner.backend import RunSpec
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.worker.wire import claim_name


class Claims:
    """One flow run's.

    Parameters
    ----------
    client : Client
        Lets go of them.
    run : str
        The flow run.
    """

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run
        self._names: list[str] = []
        #: Positions of the tasks that may claim something; mostly none.
        self._claiming: set[int] = set()

    def expect(self, specs: Mapping[TaskRunId, RunSpec]) -> None:
        """Take note of task runs that will be sent."""
        self._claiming.update(id[0] for id, spec in specs.items() if spec.claims)

    def add(self, runs: Sequence[Submission]) -> None:
        """Take note of what task runs that are sent may claim."""
        for run in runs if self._claiming else ():
            # A child's is that of its mapped run.
            if run.id[0] in self._claiming:
                numbers = *run.id, run.loop_count, run.run_number, run.attempt
                self._names.append(claim_name(self._run, *numbers))

    def clear(self) -> None:
        """Have the scheduler forget them."""
        names, self._names = self._names, []
        if names and self._client.status == "running":
            loop = cast(Any, self._client.loop).asyncio_loop
            asyncio.run_coroutine_threadsafe(self._clear(names), loop)

    async def _clear(self, names: list[str]) -> None:
        scheduler = cast(Any, self._client.scheduler)
        for name in names:
            # What Dask's Event.clear() asks for, which cannot be called on the event loop.
            await scheduler.event_clear(name=name)
