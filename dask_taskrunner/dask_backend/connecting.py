"""Connects to a cluster, or starts one, and closes what it opened."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, LocalCluster, performance_report

from dask_taskrunner.exceptions import ConnectFailed, OptionError
from dask_taskrunner.worker.clients import (
    get_client,
    is_inside_task,
    take_leave,
    task_scheduler,
)

#: A terminal's Ctrl-C reaches the whole process group. Without this it would kill the workers
#: before the client could cancel anything.
_IGNORE_SIGINT = (
    "import signal\ndef dask_setup(worker):\n    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
)


@dataclass(slots=True)
class Connection:
    """A client, its cluster where that is known, and what of them is ours to close."""

    client: Client
    cluster: Any = None
    #: Closes, innermost first, what was opened here.
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    #: In words, for the first line of a view.
    where: str = ""
    #: True where the cluster ends with the connection.
    is_temporary: bool = False
    #: How many seconds bodies that still run on a cluster of ours are given when it closes.
    patience: float = 2.0
    #: The thread of the task that made it; None outside of tasks.
    task_thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(getattr(self.client.scheduler, "address", ""))

    @property
    def is_like_here(self) -> bool:
        """True where the workers are processes of this computer, started here."""
        return self.is_temporary and isinstance(self.cluster, LocalCluster)

    def close(self) -> None:
        """Close what was opened here; a second time there is nothing left to close."""
        if self.is_temporary:
            _kill_later(self.cluster, self.patience)
        self.stack.close()


def current_client() -> Client | None:
    """Return the client that Dask itself would use now, if there is one.

    Raises
    ------
    OptionError
        It is asynchronous: to start another cluster beside it would surprise whoever made it.
    """
    try:
        client: Client = Client.current()
    except ValueError:
        return None
    if client.status != "running":
        return None
    if client.asynchronous:
        raise OptionError(
            "the current Dask client is asynchronous, and a runner has one of its own that is not: "
            "write DaskTaskRunner(address=client.scheduler.address)"
        )
    return client


def starts_cluster(*, client: Any, address: Any, cluster: Any, **more: Any) -> bool:
    """Return whether :func:`connect` would start a cluster.

    Raises
    ------
    OptionError
        The options contradict each other.
    """
    given = {"client": client, "address": address, "cluster": cluster, **more}
    _check(**given)
    if client is not None:
        _check_client(client)
    if is_inside_task() and (client, address, cluster, more.get("cluster_class")) == (None,) * 4:
        return False
    if all(option is None for option in given.values()):
        return current_client() is None
    return client is None and address is None and cluster is None


def connect(
    *,
    client: Any = None,
    address: str | None = None,
    cluster: Any = None,
    cluster_class: Any = None,
    cluster_kwargs: Mapping[str, Any] | None = None,
    adapt_kwargs: Mapping[str, Any] | None = None,
    client_kwargs: Mapping[str, Any] | None = None,
    performance_report_path: str | None = None,
) -> Connection:
    """Return a connection to the one cluster that is named.

    Where none is, inside a Dask task to that task's own; else to the current client's, else to a
    new local one.

    Parameters
    ----------
    client, address, cluster, cluster_class, cluster_kwargs, adapt_kwargs, client_kwargs
        As :class:`~dask_taskrunner.DaskTaskRunner` takes them.
    performance_report_path : str, optional
        Where to write Dask's performance report when the connection closes.

    Raises
    ------
    OptionError
        The options contradict each other.
    ConnectFailed
        Nobody answers.
    """
    given = (client, address, cluster, cluster_class, cluster_kwargs, adapt_kwargs, client_kwargs)
    _check(*given)
    inside = is_inside_task()
    is_open = all(option is None for option in given)
    if is_open and not inside:
        client = current_client()
    if inside and given[:4] == (None,) * 4:
        connection = _open_inside(is_open)
    elif client is not None:
        connection = Connection(_check_client(client), client.cluster, where=_where(client))
    else:
        stack = contextlib.ExitStack()
        try:
            connection = _open(
                stack, address, cluster, cluster_class, cluster_kwargs or {}, client_kwargs or {}
            )
            if adapt_kwargs is not None:
                connection.cluster.adapt(**adapt_kwargs)
        except BaseException:
            stack.close()
            raise
    if inside:
        _take_leave(connection)
    if performance_report_path is not None:
        _report_to(performance_report_path, connection)
    return connection


def _open_inside(is_open: bool) -> Connection:
    """Return a connection to the cluster that the calling task runs on."""
    if not is_open:
        raise OptionError(
            "inside a task a runner uses the task's own cluster: cluster_kwargs, adapt_kwargs and "
            "client_kwargs would start another in a worker. Leave them out, or name a cluster."
        )
    client = get_client()
    return Connection(client, client.cluster, where=f"the task's own cluster {task_scheduler()}")


def _take_leave(connection: Connection) -> None:
    """Have the calling task give up its place while a connection to its own cluster is open."""
    connection.task_thread = threading.current_thread()
    if connection.address == task_scheduler():
        connection.stack.callback(take_leave())


def _open(
    stack: contextlib.ExitStack,
    address: str | None,
    cluster: Any,
    cluster_class: Any,
    cluster_kwargs: Mapping[str, Any],
    client_kwargs: Mapping[str, Any],
) -> Connection:
    is_temporary = address is None and cluster is None
    if is_temporary:
        cluster = _start_cluster(cluster_class, cluster_kwargs)
        stack.callback(cluster.close)
    # Not the default client: other Dask code of the user's must not run here unasked.
    options = {"set_as_default": False, **client_kwargs}
    client = _make_client(address if address is not None else cluster, options)
    stack.callback(_close, client)
    return Connection(client, cluster, stack, _where(client), is_temporary)


def _close(client: Client) -> None:
    """Close a client, also one that looks for a scheduler that is gone.

    To break that off is what is asked for; Dask would tell it as an error, with a traceback.
    """

    def is_error(record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, asyncio.CancelledError)

    log = logging.getLogger("distributed.client")
    log.addFilter(is_error)
    try:
        client.close()
    finally:
        log.removeFilter(is_error)


def _make_client(target: Any, options: Mapping[str, Any]) -> Client:
    # In two steps, so that there is something to clean up where the second one fails.
    client = Client.__new__(Client)
    try:
        client.__init__(target, **options)  # type: ignore[misc]
    except (OSError, TimeoutError) as error:
        # Dask's close() does nothing for a client that never ran, and its thread would live on.
        client._loop_runner.stop()
        raise ConnectFailed(
            f"no Dask scheduler answers at {target}: {error}. Is it running there, "
            "and is the port the scheduler's (8786 by default, not the dashboard's 8787)?"
        ) from error
    return client


def _check(
    client: Any,
    address: Any,
    cluster: Any,
    cluster_class: Any,
    cluster_kwargs: Any,
    adapt_kwargs: Any,
    client_kwargs: Any,
) -> None:
    named = {
        "client": client, "address": address, "cluster": cluster, "cluster_class": cluster_class,
    }  # fmt: skip
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise OptionError(f"DaskTaskRunner takes one of {' and '.join(given)}, not both")
    if address is not None and not isinstance(address, str):
        raise OptionError(f"address must be text such as 'tcp://host:8786', not {address!r}")
    if cluster_kwargs is not None and given and given != ["cluster_class"]:
        raise OptionError(f"cluster_kwargs start a cluster; {given[0]} names one that runs")
    if adapt_kwargs is not None and given and given[0] in ("client", "address"):
        raise OptionError(f"adapt_kwargs need a cluster or a cluster_class, not {given[0]}")
    if client_kwargs is not None and client is not None:
        raise OptionError("client_kwargs make a client; there is one already")


def _check_client(client: Any) -> Client:
    if not isinstance(client, Client):
        raise OptionError(f"client must be a distributed.Client, not {client!r}")
    if client.asynchronous:
        raise OptionError(
            "client is asynchronous, and what a runner does waits for it. Give the address, for "
            "a client of the runner's own: DaskTaskRunner(address=client.scheduler.address); "
            "`await runner.run_async(flow)` and `await future` block no event loop all the same"
        )
    if client.status != "running":
        raise ConnectFailed(f"the client is {client.status}; make a new one: Client(address)")
    return client


def _start_cluster(cluster_class: Any, cluster_kwargs: Mapping[str, Any]) -> Any:
    factory = _resolve(cluster_class) if cluster_class is not None else LocalCluster
    options = dict(cluster_kwargs)
    if inspect.isclass(factory) and issubclass(factory, LocalCluster):
        options = _local_options(options)
    return factory(**options)


def _local_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a cluster whose every loss is told, and which says nothing itself."""
    options = {
        # A port of its own: 8787 may be taken, and Dask would warn about that.
        "dashboard_address": ":0",
        # Dask logs every lost worker in the client's process; the flow run's notes say it.
        # Above CRITICAL, for so it logs each message to a client that has gone.
        "silence_logs": logging.CRITICAL + 1,
        **given,
    }
    # Each death comes to us, who count it: Dask would start the task again, without a word.
    options["scheduler_kwargs"] = {"allowed_failures": 0, **(options.get("scheduler_kwargs") or {})}
    if options.get("processes", True) is not False:
        preload = options.get("preload") or []
        preload = [preload] if isinstance(preload, str) else list(preload)
        options["preload"] = [*preload, _IGNORE_SIGINT]
    return options


def _resolve(cluster_class: Any) -> Any:
    if isinstance(cluster_class, str):
        module, _, name = cluster_class.rpartition(".")
        try:
            cluster_class = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise OptionError(
                f"cluster_class {module}.{name} cannot be imported: {error}"
            ) from error
    if not callable(cluster_class):
        raise OptionError(
            "cluster_class must be a class, a callable or a dotted name such as "
            f"'dask_jobqueue.SLURMCluster', not {cluster_class!r}"
        )
    return cluster_class


def _kill_later(cluster: Any, seconds: float) -> None:
    """Have worker processes killed that a closing cluster waits for in vain.

    A body cannot be stopped from outside, and Dask waits for it. The cluster's own loop keeps the
    time: at interpreter exit no thread can be started any more.
    """
    nannies = getattr(cluster, "workers", {}).values()
    pids = [pid for nanny in nannies if (pid := getattr(nanny, "pid", None))]
    if pids and hasattr(cluster, "loop"):
        cluster.loop.add_callback(cluster.loop.call_later, seconds, _kill, pids)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        # Most have ended by themselves, and then there is nothing of this number.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _report_to(path: str, connection: Connection) -> None:
    try:
        importlib.import_module("bokeh")
    except ImportError as error:
        connection.close()
        raise OptionError(
            "performance_report_path needs bokeh: python -m pip install bokeh"
        ) from error
    # It looks for the current client when it begins and when it ends.
    connection.stack.enter_context(_as_current(connection.client))
    connection.stack.enter_context(performance_report(filename=path))


@contextlib.contextmanager
def _as_current(client: Client) -> Any:
    with client.as_current():
        yield


def _where(client: Client) -> str:
    address = getattr(client.scheduler, "address", "?")
    cluster = client.cluster
    return f"{type(cluster).__name__} {address}" if cluster is not None else f"cluster {address}"
