"""Finds out at connect whether what is sent from here can be run there, and what to do if not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from distributed import Client

from dask_taskrunner.worker.wire import PROTOCOL

_NAMED: Final = 3


class Found(NamedTuple):
    """What workers say of themselves, by their addresses.

    Attributes
    ----------
    pythons : mapping
        ``"3.11"``.
    protocols : mapping
        The protocol of the package there, None where it is missing.
    """

    pythons: Mapping[str, str]
    protocols: Mapping[str, str | None]


class Problems(NamedTuple):
    """What keeps all workers from running anything of ours, and what keeps some of them.

    Attributes
    ----------
    errors, warnings : list of str
        Each says what to install where.
    """

    errors: list[str]
    warnings: list[str]


def look(client: Client, look_there: Callable[[], str | None]) -> Found:
    """Ask the workers of a cluster for their versions.

    Parameters
    ----------
    client : Client
        Connected.
    look_there : callable
        Returns the protocol of the package where it is called; see
        :class:`~dask_taskrunner.worker.bootstrap.Bootstraps`.
    """
    said_by: Any = client.get_versions()
    workers: dict[str, dict[str, Any]] = said_by["workers"]
    pythons = {
        worker: ".".join(str(said["host"]["python"]).split(".")[:2])
        for worker, said in workers.items()
    }
    # No function can be sent to another Python: its bytecode is another.
    same = [worker for worker, python in pythons.items() if python == _HERE]
    found = client.run(look_there, workers=same, on_error="ignore") if same else {}
    return Found(pythons, found)


_HERE: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"


def problems_of(found: Found, *, ships: bool) -> Problems:
    """Return what is to be said of the workers' versions.

    Parameters
    ----------
    found : Found
        What they are.
    ships : bool
        Whether this package is sent along.
    """
    pythons, protocols, ours = found.pythons, found.protocols, version("dask-taskrunner")
    other = [worker for worker, python in pythons.items() if python != _HERE]
    missing = [worker for worker, protocol in protocols.items() if protocol is None]
    old = [worker for worker, protocol in protocols.items() if protocol not in (None, PROTOCOL)]
    said: list[tuple[list[str], str]] = []
    if other:
        there = ", ".join(sorted({pythons[worker] for worker in other}))
        text = (
            f"Python {there} runs on {_some(other)} and {_HERE} here, and functions cannot be "
            f"sent from one to the other: use Python {_HERE} there, or {there} here"
        )
        said.append((other, text))
    if old:
        text = f"another version of dask_taskrunner is installed on {_some(old)}"
        said.append((old, f"{text}: pip install dask-taskrunner=={ours} there"))
    if missing and not ships:
        text = (
            f"dask_taskrunner is not installed on {_some(missing)}: "
            f"pip install dask-taskrunner=={ours} there, or send it along by "
            "DaskTaskRunner(ship=[dask_taskrunner])"
        )
        said.append((missing, text))
    return Problems(
        [text for workers, text in said if len(workers) == len(pythons)],
        [text for workers, text in said if len(workers) < len(pythons)],
    )


def _some(workers: Collection[str]) -> str:
    listed = sorted(workers)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{'worker' if len(listed) == 1 else 'workers'} {', '.join(listed[:_NAMED])}{more}"
