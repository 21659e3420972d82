"""Finds out at connect whether what is sent from here can be run there, and what to do if not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final, NamedTuple, cast

from distributed import Client

from dask_taskrunner.worker.wire import PROTOCOL

_NAMED: Final = 3
#: Seconds that workers are waited for.
_PATIENCE: Final = 1.0
#: In so many groups they are asked.
_GROUPS: Final = 32


class Found(NamedTuple):
    """What those who answer say of themselves; workers by their addresses.

    Attributes
    ----------
    pythons : mapping
        ``"3.11"``.
    protocols : mapping
        The protocol of the package there, None where it is missing.
    scheduler : str, optional
        The scheduler's Python.
    """

    pythons: Mapping[str, str]
    protocols: Mapping[str, str | None]
    scheduler: str | None = None


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
    """Ask a scheduler and its workers for their versions.

    Who does not answer in time is not among the answers: the code of a task may keep a worker from
    it as long as it likes.

    Parameters
    ----------
    client : Client
        Connected.
    look_there : callable
        Returns the protocol of the package where it is called; see
        :class:`~dask_taskrunner.worker.bootstrap.Bootstraps`.
    """
    return cast(Found, client.sync(_look, client, look_there))


async def _look(client: Client, look_there: Callable[[], str | None]) -> Found:
    scheduler: Any = client.scheduler
    there = await scheduler.versions()
    workers = list((await scheduler.identity())["workers"])

    async def versions(some: list[str]) -> dict[str, Any]:
        said: dict[str, Any] = await scheduler.broadcast(
            msg={"op": "versions"}, workers=some, on_error="ignore"
        )
        return said

    pythons = {worker: _python(said) for worker, said in (await _ask(versions, workers)).items()}
    # No function can be sent to another Python: its bytecode is another.
    same = [worker for worker, python in pythons.items() if python == _HERE]
    return Found(pythons, await _ask(partial(_run, client, look_there), same), _python(there))


def run_within(seconds: float, client: Client, function: Callable[..., Any], *args: Any) -> None:
    """Run a function on all workers, and wait a while for those who do not answer."""

    async def run_all() -> None:
        scheduler: Any = client.scheduler
        workers = list((await scheduler.identity())["workers"])
        await _ask(partial(_run, client, partial(function, *args)), workers, seconds)

    client.sync(run_all)


async def _run(client: Client, function: Callable[[], Any], workers: list[str]) -> dict[str, Any]:
    asked: Any = client.run(function, workers=workers, on_error="ignore", asynchronous=True)
    said: dict[str, Any] = await asked
    return said


async def _ask(
    ask: Callable[[list[str]], Coroutine[Any, Any, dict[str, Any]]],
    workers: list[str],
    seconds: float = _PATIENCE,
) -> dict[str, Any]:
    """Return the answers that come in time.

    One that does not answer keeps back those who are asked together with it, and each by itself is
    too many questions on large clusters.
    """
    groups = [workers[start::_GROUPS] for start in range(min(_GROUPS, len(workers)))]
    if not groups:
        return {}
    done, late = await asyncio.wait(
        [asyncio.ensure_future(ask(group)) for group in groups], timeout=seconds
    )
    for asked in late:
        asked.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return {worker: answer for asked in done for worker, answer in asked.result().items()}


def _python(said: Mapping[str, Any]) -> str:
    """Return the minor version of Python, of what Dask says of somebody's versions."""
    return ".".join(str(said["host"]["python"]).split(".")[:2])


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
    errors = [text for workers, text in said if len(workers) == len(pythons)]
    if found.scheduler not in (None, _HERE):
        errors.append(
            f"Python {found.scheduler} runs on the scheduler and {_HERE} here, and it receives "
            f"what is sent first: use Python {_HERE} there, or {found.scheduler} here"
        )
    return Problems(
        errors,
        [text for workers, text in said if len(workers) < len(pythons)],
    )


def _some(workers: Collection[str]) -> str:
    listed = sorted(workers)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{'worker' if len(listed) == 1 else 'workers'} {', '.join(listed[:_NAMED])}{more}"
