"""``DaskTaskRunner``: connects to a cluster and runs flows there."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple, Self

from dask_taskrunner import interrupts
from dask_taskrunner.backend import Backend
from dask_taskrunner.dask_backend.backend import DaskBackend
from dask_taskrunner.dask_backend.connecting import (
    Connection,
    connect,
    current_client,
    starts_cluster,
)
from dask_taskrunner.dask_backend.roll_call import read_patience
from dask_taskrunner.dask_backend.shipping import check_ship
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import ConnectFailed, RunnerClosed
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.flow_running import RunsFlows
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.options import check_options
from dask_taskrunner.keeping import keep_results
from dask_taskrunner.launching import Keep, merge_parameters, prepare
from dask_taskrunner.main_guard import check_main_guard
from dask_taskrunner.observing import OnEvent, read_on_event
from dask_taskrunner.packing import MAX_CONSTANT_BYTES, Packer
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.session import Session
from dask_taskrunner.states import State
from dask_taskrunner.submitting import RunsCalls
from dask_taskrunner.version_check import VersionCheck
from dask_taskrunner.view.progress import Progress
from dask_taskrunner.worker.clients import is_inside_task

#: How many bytes of held results are fetched, in all, when a runner closes.
FETCH_LIMIT: Final = 256_000_000
#: How long a runner that nobody closed waits for that.
_EXIT_PATIENCE: Final = 0.5

#: The runner of the innermost ``with``.
_surrounding: ContextVar[DaskTaskRunner | None] = ContextVar("dask_taskrunner_runner", default=None)


class DaskTaskRunner(RunsFlows, RunsCalls):
    """Runs flows, and single calls, on a Dask cluster.

    With none of the first four arguments it uses the current default Dask client where there is
    one, else it starts a `LocalCluster` of worker processes. It closes only what it opened.
    Inside a task it uses the task's own cluster, and the task gives up its place there meanwhile.

    Parameters
    ----------
    client : distributed.Client, optional
        One that exists already; it stays open.
    address : str, optional
        A scheduler's, such as ``tcp://host:8786``.
    cluster : distributed cluster object, optional
        One that exists already; it stays open.
    cluster_class : class, callable or str, optional
        What starts a cluster, called with `cluster_kwargs`; a str is a dotted name such as
        ``"dask_jobqueue.SLURMCluster"``.
    cluster_kwargs : mapping, optional
        For `cluster_class`, or for the local cluster.
    adapt_kwargs : mapping, optional
        The cluster is told to adapt with these, such as ``{"minimum": 0, "maximum": 20}``.
    client_kwargs : mapping, optional
        For the client that is made, such as ``{"timeout": "10 s"}``.
    performance_report_path : str, optional
        Where to write Dask's performance report at the end; needs bokeh.
    stall_timeout : timedelta or float, optional
        A flow run in which nothing happens for so many seconds (no body runs, no retry waits for
        its time, no state changes) ends as `Crashed`. By default it waits on, and a note says for
        what.
    cluster_timeout : timedelta or float
        A scheduler that does not answer for so many seconds is lost; 60 by default.
    ship : list of module, optional
        Modules that workers need not have: their files are sent along with each flow run, as they
        are then, so that edits arrive. With ``ship=[dask_taskrunner]`` they need only Dask.
    task_defaults : mapping, optional
        Task options for what neither a flow nor a task sets.
    max_constant_bytes : int
        An argument with a larger pickle is an error; each over 100 MB is warned about.
    fetch_limit : int
        How many bytes of held results are fetched, in all, before the runner closes.
    on_event : callable, or list of callable
        Called with a :class:`StateChange` for each one, in order, in a thread of the run's own.
        What it raises is a note, and ends nothing.

    Attributes
    ----------
    client : distributed.Client
        The client in use.
    cluster : object or None
        The cluster, where it is known.
    last_run : FlowRun or None
        The flow run that was started last.

    Raises
    ------
    OptionError
        The options contradict each other.
    ConnectFailed
        Nobody answers, or the client is closed.
    MissingMainGuard
        A script would start worker processes without ``if __name__ == "__main__":``.
    """

    last_run: FlowRun | None = None
    _session: Session | None = None
    _link: _Link | None = None
    _finalizer: Any = None
    _is_closed = False

    def __init__(
        self,
        client: Any = None,
        address: str | None = None,
        cluster: Any = None,
        cluster_class: Any = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | None = None,
        *,
        stall_timeout: timedelta | float | None = None,
        cluster_timeout: timedelta | float = 60.0,
        ship: Collection[ModuleType] = (),
        task_defaults: Mapping[str, Any] | None = None,
        max_constant_bytes: int = MAX_CONSTANT_BYTES,
        fetch_limit: int = FETCH_LIMIT,
        on_event: OnEvent | Sequence[OnEvent] = (),
    ) -> None:
        self._task_defaults = check_options(dict(task_defaults or {}), where="task_defaults")
        self._max_constant_bytes = max_constant_bytes
        patience = read_patience(stall_timeout, cluster_timeout)
        self._backend_options = (patience, adapt_kwargs is not None, check_ship(ship))
        self._fetch_limit, self._on_event = fetch_limit, read_on_event(on_event)
        self._runs: weakref.WeakSet[FlowRun] = weakref.WeakSet()
        # What goes on is held by its own thread: a run that nobody holds lets go of its results.
        self._going: weakref.WeakSet[Driver] = weakref.WeakSet()
        self._lock, self._tokens = threading.Lock(), list[Any]()
        where = {
            "client": client, "address": address, "cluster": cluster,
            "cluster_class": cluster_class, "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs, "client_kwargs": client_kwargs,
        }  # fmt: skip
        if starts_cluster(**where):
            check_main_guard()
        self._connect = partial(connect, **where, performance_report_path=performance_report_path)
        # Connecting waits, and an event loop must not.
        if not _in_event_loop():
            self._open()

    # -- the connection -------------------------------------------------------------------

    def _open(self) -> _Link:
        """Connect, where that has not been done yet."""
        with self._lock:
            if self._link is None:
                connection = self._connect()
                backend = DaskBackend(connection.client, *self._backend_options)
                check = VersionCheck(connection, backend)
                try:
                    check()
                except ConnectFailed:
                    backend.close()
                    connection.close()
                    raise
                self._link = _Link(connection, backend, ResultCache(backend), check)
                # Also when it is collected, and at interpreter exit.
                self._finalizer = weakref.finalize(self, _close, self._link, self._going)
                _close_at_exit(self)
            return self._link

    @property
    def _connection(self) -> Connection:
        return self._open().connection

    @property
    def _backend(self) -> Backend:
        link = self._open()
        link.check()
        return link.backend

    @property
    def _cache(self) -> ResultCache:
        return self._open().cache

    @property
    def closed(self) -> bool:
        """Whether the runner is closed."""
        return self._is_closed or (self._finalizer is not None and not self._finalizer.alive)

    def __enter__(self) -> Self:
        self._check_open()
        self._open()
        self._tokens.append(_surrounding.set(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self._uncover()
        self._leave(kind)

    async def __aenter__(self) -> Self:
        self._check_open()
        await asyncio.to_thread(self._open)
        self._tokens.append(_surrounding.set(self))
        return self

    def _uncover(self) -> None:
        # Servers and test suites leave a block in another task than they entered it in, which has
        # a context of its own.
        with contextlib.suppress(ValueError):
            _surrounding.reset(self._tokens.pop())

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self._uncover()
        await asyncio.to_thread(self._leave, kind)

    def _leave(self, kind: type[BaseException] | None) -> None:
        """Wait for what goes on, but not where something was raised, and close."""
        if kind is None:
            if self._session is not None:
                self._session.close()
            for driver in self._unfinished():
                driver.ended.wait()
        self.close()

    def close(self) -> None:
        """Cancel what still runs, fetch what is held, and close what the runner opened.

        A second call does nothing.
        """
        if self.closed:
            return
        for driver in self._unfinished():
            driver.cancel("the runner was closed")
            driver.ended.wait(interrupts.PATIENCE)
        self._is_closed = True
        if self._finalizer is None:
            return
        holders = [run.holder for run in list(self._runs)]
        if self._session is not None:
            holders.append(self._session.holder)
        keep_results(holders, self._fetch_limit)
        if any(run.still_running for run in list(self._runs)):
            # Nobody waits for the bodies of a cancelled run.
            self._connection.patience = 0.2
        self._finalizer()

    def clear_cache(self) -> None:
        """Let go of all results of tasks with ``cache_for``: the next run makes them anew."""
        if self._link is not None:
            self._link.cache.clear()

    def _check_open(self) -> None:
        if self.closed:
            raise RunnerClosed("this DaskTaskRunner is closed; make a new one")

    def _keep_track(self, run: FlowRun) -> None:
        with self._lock:
            self.last_run = run
            self._runs.add(run)
            self._going.add(run._driver)
        interrupts.note_launch(run)

    def _keep_going(self, driver: Driver) -> None:
        with self._lock:
            self._going.add(driver)

    def _unfinished(self) -> list[Driver]:
        with self._lock:
            return [driver for driver in self._going if not driver.ended.is_set()]


class _Link(NamedTuple):
    """A connection in use."""

    connection: Connection
    backend: Backend
    cache: ResultCache
    check: VersionCheck


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _close(link: _Link, going: weakref.WeakSet[Driver]) -> None:
    unfinished = [driver for driver in going if not driver.ended.is_set()]
    for driver in unfinished:
        driver.cancel("the runner was closed")
    for driver in unfinished:
        # Else what closing does to its tasks would be told as failures of theirs.
        driver.ended.wait(_EXIT_PATIENCE)
    link.cache.close()
    link.backend.close()
    link.connection.close()


#: The runners that are open, once there has been one.
_open: weakref.WeakSet[DaskTaskRunner] = weakref.WeakSet()


def _close_at_exit(runner: DaskTaskRunner) -> None:
    if not _open:
        # What is registered last is called first: Dask has registered its own closing when it was
        # imported, and would close the cluster under a run that goes on.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _open.add(runner)


def _close_all() -> None:
    for runner in list(_open):
        runner._finalizer()


def run_flow(flow: Flow, *, runner: DaskTaskRunner | None = None, **options: Any) -> FlowRun:
    """Run a flow: what :meth:`Flow.run` does.

    On ``runner``, else on that of the surrounding ``with``; inside a task else on the task's own
    cluster; else with the current default Dask client, else on a local cluster for this one run.
    """
    if runner is None:
        runner = _surrounding_runner()
    if runner is not None:
        return runner.run(flow, **options)
    if not is_inside_task() and current_client() is None:
        # Before a cluster is started for it.
        _check_flow(flow, **options)
    with DaskTaskRunner() as own:
        own._is_for_one_run = True
        return own.run(flow, **options)


def _surrounding_runner() -> DaskTaskRunner | None:
    runner = _surrounding.get()
    if runner is None or not is_inside_task():
        return runner
    # Dask may begin a task in a copy of another's context, or of that in which a cluster of threads
    # was started. With a runner of theirs, this task would wait in its own place.
    is_own = runner._connection.task_thread is threading.current_thread()
    return runner if is_own else None


def _check_flow(
    flow: Flow,
    *,
    parameters: Mapping[str, Any] | None = None,
    return_tasks: Collection[Any] | Literal["all"] | None = None,
    start_tasks: Any = None,
    task_states: Mapping[Any, State] | None = None,
    resume: FlowRun | None = None,
    rerun: Collection[Any] = (),
    keep: Keep = "reference",
    run_name: str | None = None,
    context: Mapping[str, Any] | None = None,
    progress: Progress = None,  # noqa: ARG001  # the rest are the flow's parameters
    raise_on_failure: bool = False,  # noqa: ARG001
    **more_parameters: Any,
) -> None:
    prepare(
        flow,
        parameters=merge_parameters(parameters, more_parameters),
        run_name=run_name,
        context={} if context is None else context,
        return_tasks=return_tasks,
        keep=keep,
        task_defaults={},
        packer=Packer(),
        start_tasks=start_tasks,
        task_states=task_states,
        resume=resume,
        rerun=rerun,
    )
