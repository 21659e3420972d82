"""The seam between the client's brain and a cluster: all that a second engine would have to do.

It is described here once and knows no Dask. The Dask backend and the fake of the tests both keep
it, and one contract test holds them to it.

A flow run opens a channel. Commands go in by its methods, which neither block nor raise for what
happens on the cluster; news comes out through the ``post`` that it was opened with, from any
thread and in the order in which it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Event


class RunSpec(NamedTuple):
    """What the cluster is told of one task run, whichever submission it is.

    Attributes
    ----------
    name, slug : str
        The task's name and the task run's.
    definition : int
        Position of its definition among the flow's.
    arguments : bytes
        The pickled arguments, with placeholders for upstream results.
    upstream_slugs : tuple of str
        The names of its upstream runs.
    priority : float
        Larger goes first.
    resources : mapping or None
        What a worker must have.
    workers : tuple of str or None
        Where it may run.
    """

    name: str
    slug: str
    definition: int
    arguments: bytes
    upstream_slugs: tuple[str, ...]
    priority: float = 0.0
    resources: Mapping[str, float] | Callable[[int], Mapping[str, float]] | None = None
    workers: tuple[str, ...] | None = None


class FlowSpec(NamedTuple):
    """What the cluster is told of a flow run.

    Attributes
    ----------
    run : str
        Eight hexadecimal digits that no other run has.
    definitions : tuple of bytes
        The pickled task definitions.
    context : mapping
        The entries of the context that all task runs share.
    runs : mapping
        Per task run.
    """

    run: str
    definitions: tuple[bytes, ...]
    context: Mapping[str, Any]
    runs: Mapping[TaskRunId, RunSpec] = {}


class Channel(Protocol):
    """One flow run's way to the cluster and back."""

    def submit(self, runs: Sequence[Submission]) -> None:
        """Send task runs, each behind its upstream runs; news of each comes later."""

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of futures. What has not started never starts."""

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        """Have the header of a finished future posted."""

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        """Return a held value, or a held exception.

        Raises
        ------
        ResultReleased
            No future holds it.
        ResultLost
            The future's end took it along.
        ResultNotSerializable
            It cannot be opened here.
        TimeoutError
            It did not arrive in time.
        """

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a future of the task run is held."""

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:
        """Look for what nobody reported: losses, removed workers, a lost cluster.

        ``awaited`` says of which task runs the machine waits for news.
        """

    def finish(self) -> None:
        """Send nothing more; what is held stays held until it is released."""

    def close(self) -> None:
        """Let go of everything."""


class Backend(Protocol):
    """A connection to a cluster."""

    def open_run(self, spec: FlowSpec, post: Callable[[Event], None]) -> Channel:
        """Return a new flow run's channel; ``post`` gets its news."""

    def close(self) -> None:
        """End the subscription and the connection, where this package opened it."""
