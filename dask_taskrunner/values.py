"""Where a flow run's results can be had: on the cluster, or here once they were fetched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from dask_taskrunner.backend import Channel
from dask_taskrunner.exceptions import ResultReleased, describe
from dask_taskrunner.headers import TaskRunId


class Values:
    """The results of one flow run.

    Parameters
    ----------
    channel : Channel
        Where those are fetched from that are not here.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._fetched: dict[TaskRunId, object] = {}
        #: Why a value was not fetched while there was a cluster.
        self._left_behind: dict[TaskRunId, str] = {}

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a task run's value can be fetched."""
        return id in self._fetched or self._channel.holds(id)

    def fetch(self, id: TaskRunId, timeout: float | None) -> object:
        """Return a value, as :meth:`~dask_taskrunner.backend.Channel.fetch` does."""
        if id in self._left_behind:
            raise ResultReleased(self._left_behind[id])
        if id in self._fetched:
            return self._fetched[id]
        return self._channel.fetch(id, timeout)

    def here(self, ids: Iterable[TaskRunId]) -> dict[TaskRunId, object]:
        """Return those of the values that were fetched already."""
        return {id: self._fetched[id] for id in ids if id in self._fetched}

    def give(self, values: Mapping[TaskRunId, object]) -> None:
        """Take values that were here from the beginning."""
        self._fetched.update(values)

    def fetch_many(
        self, ids: Sequence[TaskRunId], timeout: float | None
    ) -> dict[TaskRunId, object]:
        """Return those of the values that can be had in one go; the others say why when asked."""
        far = [id for id in ids if id not in self._left_behind and id not in self._fetched]
        return self._channel.fetch_many(far, timeout)

    def keep(self, ids: Sequence[TaskRunId], timeout: float) -> None:
        """Fetch values while there is a cluster to fetch them from; a failure is told when asked.

        ``timeout`` is for each. Where one does not come in time none is waited for after it: a
        cluster that does not answer would take that long for each of them.
        """
        # One by one each would be a round trip.
        with contextlib.suppress(Exception):  # Then they are asked for one by one.
            self._fetched |= self._channel.fetch_many(ids, timeout) if len(ids) > 1 else {}
        left = iter([id for id in ids if id not in self._fetched])
        for id in left:
            try:
                self._fetched[id] = self._channel.fetch(id, timeout)
            except TimeoutError:
                why = f"the runner closed, and its results did not come within {timeout:.0f} s"
                for late in (id, *left):
                    self.leave(late, why)
            except Exception as error:  # noqa: BLE001 (whatever it is, the other values count)
                self.leave(id, describe(error))

    def drop(self, ids: Iterable[TaskRunId]) -> None:
        """Forget values that were fetched, and that nobody will ask for."""
        for id in ids:
            self._fetched.pop(id, None)
            self._left_behind.pop(id, None)

    def leave(self, id: TaskRunId, why: str) -> None:
        """Remember why a value was not fetched; one that is here need not be."""
        if id not in self._fetched:
            self._left_behind[id] = why
