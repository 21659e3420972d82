"""Whether a task is tried again, and after how long: policies as small callables.

All of it is pure: the clock and the chance are the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.signals import FAIL
from dask_taskrunner.states import to_seconds

Delay: TypeAlias = timedelta | float
#: One delay, one for each run number of which the last repeats, or ``(run_number, exception)`` ->
#: delay.
RetryDelay: TypeAlias = Delay | Sequence[Delay] | Callable[[int, BaseException | None], Delay]
RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)


def exponential(base: float = 2, maximum: Delay | None = None) -> _Exponential:
    """Return a ``retry_delay`` that grows: `base` to the power of the run number, in seconds.

    Parameters
    ----------
    base : float
        The first delay; the factor between one delay and the next.
    maximum : timedelta or float, optional
        No delay is longer than this.

    Examples
    --------
    >>> delay = exponential(base=2, maximum=60)
    >>> [delay(run_number, None) for run_number in (1, 2, 3, 10)]
    [2.0, 4.0, 8.0, 60.0]
    """
    if not base > 0:
        raise OptionError(f"exponential: base is a positive number, not {base!r}")
    return _Exponential(float(base), math.inf if maximum is None else to_seconds(maximum))


@dataclass(frozen=True)
class _Exponential:
    base: float
    maximum: float

    @property
    def __name__(self) -> str:
        limit = "" if self.maximum == math.inf else f", maximum={self.maximum:g}"
        return f"exponential(base={self.base:g}{limit})"

    def __call__(self, run_number: int, exception: BaseException | None) -> float:  # noqa: ARG002
        try:
            delay = self.base**run_number
        except OverflowError:
            delay = math.inf
        return min(delay, self.maximum)

    def __repr__(self) -> str:
        return self.__name__


def delay_before(
    retry_delay: RetryDelay,
    retry_jitter: float,
    run_number: int,
    exception: BaseException | None,
    random: Callable[[], float],
) -> float:
    """Return how long to wait after an attempt, in seconds.

    Parameters
    ----------
    retry_delay : timedelta, float, sequence of these, or callable
        The option of the task.
    retry_jitter : float
        The delay is lengthened by up to this fraction of itself, never shortened.
    run_number : int
        The number that the attempt ran as, from 1.
    exception : BaseException or None
        What the attempt raised.
    random : callable
        Returns a number from 0 to 1.
    """
    if callable(retry_delay):
        delay = retry_delay(run_number, exception)
    elif isinstance(retry_delay, Sequence):
        delay = retry_delay[min(run_number, len(retry_delay)) - 1]
    else:
        delay = retry_delay
    return to_seconds(delay) * (1 + retry_jitter * random())


def accepts(retry_on: RetryOn, exception: BaseException) -> bool:
    """Whether `retry_on` lets a task be tried again after this exception.

    Parameters
    ----------
    retry_on : exception type, tuple of these, or predicate
        The option of the task.
    exception : BaseException
        What the attempt raised. A `FAIL` is no `Exception`, but counts as one.
    """
    if not isinstance(retry_on, (type, tuple)):
        return bool(retry_on(exception))
    if isinstance(exception, retry_on):
        return True
    return isinstance(exception, FAIL) and issubclass(Exception, retry_on)
