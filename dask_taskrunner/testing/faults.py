"""What a script lets go wrong, and how long things take. It knows no cluster."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple, TypeAlias

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.times import to_seconds


class ScriptedFailure(Exception):
    """What a task raises by :func:`fail` where no other error was given."""


class Fail(NamedTuple):
    """See :func:`fail`."""

    slug: str
    attempts: int
    error: BaseException


class KillWorker(NamedTuple):
    """See :func:`kill_worker`."""

    slug: str
    attempt: int


class Takes(NamedTuple):
    """See :func:`takes`."""

    slug: str
    seconds: float


Fault: TypeAlias = Fail | KillWorker | Takes


def fail(slug: str, *, attempts: int = 1, error: BaseException | None = None) -> Fail:
    """Let the first bodies of a task run raise, in place of being called.

    Parameters
    ----------
    slug : str
        The task run, such as ``"load"`` or ``"load[3]"``; the name of a mapped task stands for all
        its children.
    attempts : int
        Up to this run number: what ``max_retries`` counts.
    error : BaseException, optional
        What is raised.
    """
    return Fail(slug, positive("attempts", attempts), error or ScriptedFailure(f"{slug} fails"))


def kill_worker(slug: str, *, attempt: int = 1) -> KillWorker:
    """Let the worker die while the body of a task run is running there.

    What lay on that worker is lost with it, and made again where it is needed; another worker
    comes in its place.

    Parameters
    ----------
    slug : str
        As in :func:`fail`.
    attempt : int
        Of all attempts of the run, retries and crashes together, this one, from 1.
    """
    return KillWorker(slug, positive("attempt", attempt))


def takes(slug: str, duration: timedelta | float) -> Takes:
    """Let the bodies of a task run take some time by the virtual clock; others take none.

    Parameters
    ----------
    slug : str
        As in :func:`fail`.
    duration : timedelta or float
        In seconds.
    """
    return Takes(slug, to_seconds(duration))


class Script:
    """All that was scripted for a runner.

    Parameters
    ----------
    faults : iterable
        What :func:`fail` and its likes return.

    Raises
    ------
    OptionError
        Something else is among them.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        for fault in self._faults:
            if not isinstance(fault, Fail | KillWorker | Takes):
                raise OptionError(
                    f"a script is made of fail(...), kill_worker(...) and takes(...), not {fault!r}"
                )

    @property
    def slugs(self) -> list[str]:
        """The task runs of which it speaks."""
        return [fault.slug for fault in self._faults]

    def error(self, slug: str, run_number: int) -> BaseException | None:
        """Return what a body raises."""
        for fault in self._faults:
            if isinstance(fault, Fail) and _means(fault, slug) and run_number <= fault.attempts:
                return fault.error
        return None

    def kills(self, slug: str, attempt: int) -> bool:
        """Return whether the worker dies under a body."""
        return any(
            isinstance(fault, KillWorker) and _means(fault, slug) and fault.attempt == attempt
            for fault in self._faults
        )

    def seconds(self, slug: str) -> float:
        """Return how long a body takes."""
        found = (f.seconds for f in self._faults if isinstance(f, Takes) and _means(f, slug))
        return next(found, 0.0)


def _means(fault: Fault, slug: str) -> bool:
    name, bracket, _ = slug.rpartition("[")
    return fault.slug in (slug, name if bracket else slug)


def positive(name: str, number: object) -> int:
    """Return a number of things.

    Raises
    ------
    OptionError
        It is none.
    """
    if not isinstance(number, int) or number < 1:
        raise OptionError(f"{name} is a whole number from 1, not {number!r}")
    return number
