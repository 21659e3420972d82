"""What a flow run knows about itself: why something is as it is, and what its time went to.

It answers from the records and the history alone, and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from dask_taskrunner import exceptions
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.flow_record import FlowRecord
from dask_taskrunner.insight.paths import CriticalPath, critical_path
from dask_taskrunner.insight.readings import NodeId, Reading, read
from dask_taskrunner.insight.replays import Prediction, predict


class FlowInsight(FlowRecord):
    """The knowing half of :class:`~dask_taskrunner.flow_run.FlowRun`."""

    def critical_path(self) -> CriticalPath:
        """Return the chain of task runs that the run's time hung on.

        Making one of these faster, or having them begin earlier, makes the run faster; of all
        others only by as much as their neighbours let it. ``print`` shows it in words.

        Returns
        -------
        CriticalPath
            A sequence of steps, and the ``slack`` of every task run by slug: by how many seconds it
            could have ended later without the run ending later.

        Raises
        ------
        NotFinished
            The run goes on.
        """
        return critical_path(self._reading("critical path"))

    def what_if(
        self,
        factors: Mapping[Any, float] | None = None,
        *,
        workers: int | None = None,
        threads: int | None = None,
    ) -> Prediction:
        """Return how long the run would have taken with other bodies, or on other workers.

        The run is replayed: every attempt takes as long as it did, waits for what it waited for,
        and takes a place on a worker; inputs travel as fast as they did. How many bodies a worker
        runs at a time is not in the history: it is taken to be as many as one was ever seen to run.
        No place stays empty while something could take it, which Dask does not always bring about:
        the answer is rather too small than too large, and ``unchanged`` shows by how much.

        Parameters
        ----------
        factors : mapping, optional
            Task -> by what its bodies' durations are multiplied: ``{"fit": 0.5}`` has them twice
            as fast. A mapped task stands for all its children, ``"fit[3]"`` for one.
        workers, threads : int, optional
            How many workers, and bodies at a time on each. Default: as it was.

        Returns
        -------
        Prediction
            Its ``seconds`` are the answer; ``print`` shows it in words.

        Raises
        ------
        OptionError
            A number is wrong.
        UnknownTask
            There is no such task run.
        NotFinished
            The run goes on.
        """
        for name, number in (("workers", workers), ("threads", threads)):
            if number is not None and (type(number) is not int or number < 1):
                raise OptionError(f"what_if: {name} must be a whole number from 1, not {number!r}")
        named, scaled = self._factors({} if factors is None else factors)
        return predict(self._reading("what_if"), named, scaled, workers, threads)

    def _factors(self, factors: Any) -> tuple[dict[str, float], dict[NodeId, float]]:
        if not isinstance(factors, Mapping):
            raise OptionError(
                f"what_if: the first is a dict such as {{'fit': 0.5}}, not {factors!r}"
            )
        named: dict[str, float] = {}
        scaled: dict[NodeId, float] = {}
        for task, factor in factors.items():
            meant = self[task]
            is_number = isinstance(factor, Real) and not isinstance(factor, bool)
            if not is_number or not 0 <= factor < math.inf:
                raise OptionError(
                    f"what_if: {meant.slug!r} can take 0.5 or 2 times as long, but not {factor!r}"
                )
            named[meant.slug] = float(factor)
            for one in meant.with_all_inside():
                scaled[one.record.id, False] = scaled.get((one.record.id, False), 1.0) * factor
        return named, scaled

    def _reading(self, what: str) -> Reading:
        if self._driver.final is None:
            raise exceptions.NotFinished(
                f"the {what} of flow run {self.run_name!r} is known when it has ended: run.wait()"
            )
        return read(self._driver.machine.records, self.history)
