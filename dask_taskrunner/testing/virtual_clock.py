"""A clock that stands still while something can be done, and then goes on to what is next."""

from __future__ import annotations

import queue
import time
from typing import Any, Final, Protocol

from dask_taskrunner.clocks import Clock

#: How long the word of another thread is waited for before the driver looks around, in real time.
_LOOK_EVERY: Final = 0.02


class Work(Protocol):
    """What there is to do."""

    def next_at(self) -> float | None:
        """Return when something is to be done, or None."""

    def step(self) -> None:
        """Do one thing that is due."""


class VirtualClock(Clock):
    """The clock of one flow run; it begins at the real time."""

    #: Everything has its own moment.
    batch = 0
    gathers = False

    def __init__(self, work: Work) -> None:
        self._work = work
        self._now = time.monotonic()
        self._epoch = time.time() - self._now

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._now

    def time(self) -> float:
        """Return seconds since the epoch."""
        return self._epoch + self._now

    def take(
        self,
        inbox: queue.SimpleQueue[Any],
        wake_at: float | None,
        next_sweep: float,  # noqa: ARG002  # what is lost is told of at once
    ) -> Any:
        """Do what is to be done until there is news; see :meth:`Clock.take`."""
        while inbox.empty():
            due = self._work.next_at()
            if due is not None and (wake_at is None or due <= wake_at):
                self._now = max(self._now, due)
                self._work.step()
            elif wake_at is not None:
                self._now = max(self._now, wake_at)
                raise queue.Empty
            else:
                # Somebody else has the next word: the user, or a thread that plans a graph.
                return inbox.get(timeout=_LOOK_EVERY)._replace(at=self._now)
        # Who posted it knew only the real time.
        return inbox.get()._replace(at=self._now)
