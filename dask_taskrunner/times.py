"""Times and durations as the package keeps them: seconds, shown to people as `pendulum` has them.

It knows nothing but Python; pendulum is loaded where somebody looks at a time.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from numbers import Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pendulum


def epoch_seconds(moment: datetime | float) -> float:
    """Return a moment as seconds since the epoch.

    Raises
    ------
    TypeError
        It is neither a number nor a datetime that knows its timezone.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            # The worker's local time would be meant by one user, and UTC by the next.
            raise TypeError(f"{moment!r} has no timezone; write datetime.now(UTC)")
        return moment.timestamp()
    if isinstance(moment, Real):
        return float(moment)
    raise TypeError(f"a time is an aware datetime or seconds since the epoch, not {moment!r}")


def to_seconds(duration: timedelta | float) -> float:
    """Return a duration in seconds.

    Raises
    ------
    TypeError
        It is neither a number nor a timedelta.
    ValueError
        It is negative or not finite.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not isinstance(seconds, Real):
        raise TypeError(f"a delay is a timedelta or a number of seconds, not {duration!r}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a delay is finite and not negative, unlike {duration!r}")
    return float(seconds)


def utc(seconds: float) -> pendulum.DateTime:
    """Return seconds since the epoch as a time in UTC."""
    import pendulum  # 60 ms, and only needed where somebody looks at a time

    return pendulum.from_timestamp(seconds)
