"""The clock that a flow run is driven by: the machine's own, unless a channel brings another.

It knows no cluster. Whoever waits for news waits through it, so that a clock may go forward where
nothing can happen before a time.
"""

from __future__ import annotations

import queue
import time
from typing import Any


class Clock:
    """The computer's clock."""

    #: How much more news is taken in before something is sent.
    batch = 1000
    #: Whether news is left some time to gather.
    gathers = True

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def take(self, inbox: queue.SimpleQueue[Any], wake_at: float | None, next_sweep: float) -> Any:
        """Wait for news.

        Raises
        ------
        queue.Empty
            None came until one of the times.
        """
        until = next_sweep if wake_at is None else min(wake_at, next_sweep)
        return inbox.get(timeout=max(0.0, until - time.monotonic()))


#: The one that all channels to real clusters have.
REAL_CLOCK = Clock()
