"""``DaskTaskRunner``: connects to a cluster and runs flows there."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, Self

from dask_taskrunner import interrupts
from dask_taskrunner.backend import Backend
from dask_taskrunner.dask_backend.backend import DaskBackend
from dask_taskrunner.dask_backend.connecting import Connection, connect, current_client
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import RunnerClosed
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.flow_running import RunsFlows
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.options import check_options
from dask_taskrunner.launching import Keep, prepare
from dask_taskrunner.main_guard import check_main_guard
from dask_taskrunner.packing import MAX_CONSTANT_BYTES, Packer

#: How many bytes of held results are fetched, in all, when a runner closes.
FETCH_LIMIT: Final = 256_000_000
#: How long a runner that nobody closed waits for that.
_EXIT_PATIENCE: Final = 0.5

#: The runner of the innermost ``with``.
_surrounding: ContextVar[DaskTaskRunner | None] = ContextVar("dask_taskrunner_runner", default=None)


class DaskTaskRunner(RunsFlows):
    """Runs flows on a Dask cluster.

    With none of the first four arguments it uses the current default Dask client where there is
    one, else it starts a `LocalCluster` of worker processes. It closes only what it opened.

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
    task_defaults : mapping, optional
        Task options for what neither a flow nor a task sets.
    max_constant_bytes : int
        An argument with a larger pickle is an error; each over 100 MB is warned about.
    fetch_limit : int
        How many bytes of held results are fetched, in all, before the runner closes.

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
        task_defaults: Mapping[str, Any] | None = None,
        max_constant_bytes: int = MAX_CONSTANT_BYTES,
        fetch_limit: int = FETCH_LIMIT,
    ) -> None:
        self._task_defaults = check_options(dict(task_defaults or {}), where="task_defaults")
        self._max_constant_bytes = max_constant_bytes
        self._fetch_limit = fetch_limit
        connection = connect(
            client=client,
            address=address,
            cluster=cluster,
            cluster_class=cluster_class,
            cluster_kwargs=cluster_kwargs,
            adapt_kwargs=adapt_kwargs,
            client_kwargs=client_kwargs,
            performance_report_path=performance_report_path,
            before_processes=check_main_guard,
        )
        super().__init__(connection)
        self._backend: Backend = DaskBackend(self._connection.client)
        self.last_run: FlowRun | None = None
        self._runs: weakref.WeakSet[FlowRun] = weakref.WeakSet()
        # What goes on is held by its own thread: a run that nobody holds lets go of its results.
        self._going: weakref.WeakSet[Driver] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._tokens: list[Any] = []
        # Also when it is collected, and at interpreter exit.
        self._finalizer = weakref.finalize(
            self, _close, self._backend, self._connection, self._going
        )
        _close_at_exit(self)

    # -- the connection -------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the runner is closed."""
        return not self._finalizer.alive

    def __enter__(self) -> Self:
        self._check_open()
        self._tokens.append(_surrounding.set(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        _surrounding.reset(self._tokens.pop())
        if kind is None:
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
        for run in list(self._runs):
            run.keep_results(self._fetch_limit)
            if run.still_running:
                # Nobody waits for the bodies of a cancelled run.
                self._connection.patience = 0.2
        self._finalizer()

    def _check_open(self) -> None:
        if self.closed:
            raise RunnerClosed("this DaskTaskRunner is closed; make a new one")

    def _keep_track(self, run: FlowRun) -> None:
        with self._lock:
            self.last_run = run
            self._runs.add(run)
            self._going.add(run._driver)
        interrupts.note_launch(run)

    def _unfinished(self) -> list[Driver]:
        with self._lock:
            return [driver for driver in self._going if not driver.ended.is_set()]


def _close(backend: Backend, connection: Connection, going: weakref.WeakSet[Driver]) -> None:
    unfinished = [driver for driver in going if not driver.ended.is_set()]
    for driver in unfinished:
        driver.cancel("the runner was closed")
    for driver in unfinished:
        # Else what closing does to its tasks would be told as failures of theirs.
        driver.ended.wait(_EXIT_PATIENCE)
    backend.close()
    connection.close()


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

    On ``runner``, else on that of the surrounding ``with``, else with the current default Dask
    client, else on a local cluster for this one run.
    """
    if runner is None:
        runner = _surrounding.get()
    if runner is not None:
        return runner.run(flow, **options)
    if current_client() is None:
        # Before a cluster is started for it.
        _check_flow(flow, **options)
    with DaskTaskRunner() as own:
        return own.run(flow, **options)


def _check_flow(
    flow: Flow,
    *,
    parameters: Mapping[str, Any] | None = None,
    return_tasks: Collection[Any] | Literal["all"] | None = None,
    keep: Keep = "reference",
    run_name: str | None = None,  # noqa: ARG001  # the rest are the flow's parameters
    context: Mapping[str, Any] | None = None,  # noqa: ARG001
    progress: bool | None = None,  # noqa: ARG001
    raise_on_failure: bool = False,  # noqa: ARG001
    **more_parameters: Any,
) -> None:
    prepare(
        flow,
        parameters={**(parameters or {}), **more_parameters},
        return_tasks=return_tasks,
        keep=keep,
        task_defaults={},
        packer=Packer(),
    )
