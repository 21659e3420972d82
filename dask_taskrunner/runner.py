"""``DaskTaskRunner``: connects to a cluster and runs flows there."""

from __future__ import annotations

import atexit
import sys
import threading
import warnings
import weakref
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, Self

from dask_taskrunner import interrupts
from dask_taskrunner.backend import Backend
from dask_taskrunner.connected import Connected
from dask_taskrunner.dask_backend.backend import DaskBackend
from dask_taskrunner.dask_backend.connecting import Connection, connect, current_client
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import RunnerClosed, TaskRunnerWarning
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.options import check_options
from dask_taskrunner.launching import Keep, launch, merge_parameters, prepare
from dask_taskrunner.main_guard import check_main_guard
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.view.tally import Tally
from dask_taskrunner.view.terminal import Title, watching
from dask_taskrunner.worker.clients import is_inside_task

#: How many bytes of held results are fetched, in all, when a runner closes.
FETCH_LIMIT: Final = 256_000_000
#: How long a runner that nobody closed waits for that.
_EXIT_PATIENCE: Final = 0.5

#: The runner of the innermost ``with``.
_surrounding: ContextVar[DaskTaskRunner | None] = ContextVar("dask_taskrunner_runner", default=None)


class DaskTaskRunner(Connected):
    """Runs flows on a Dask cluster.

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
    task_defaults : mapping, optional
        Task options for what neither a flow nor a task sets.
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
        fetch_limit: int = FETCH_LIMIT,
    ) -> None:
        self._task_defaults = check_options(dict(task_defaults or {}), where="task_defaults")
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

    # -- running --------------------------------------------------------------------------

    def run(self, flow: Flow, *, progress: bool | None = None, **options: Any) -> FlowRun:
        """Run a flow, and wait for its end.

        Parameters
        ----------
        flow : Flow
            What to run.
        progress : bool, optional
            Whether to show a live block; default: where standard error is a terminal, not in tasks.
        **options
            As :meth:`start`.

        Returns
        -------
        FlowRun
            Also of a flow that failed; see its ``state``.

        Raises
        ------
        FlowRunFailed
            The flow failed, and ``raise_on_failure`` was asked for.
        KeyboardInterrupt
            Ctrl-C: the run was cancelled, and is the exception's attribute ``run``.
        """
        raise_on_failure = options.pop("raise_on_failure", False)
        # Also while it is being launched, and while the view is being loaded.
        with (
            interrupts.remembering() as interrupted,
            interrupts.noting_launches() as launched,
            interrupts.cancelling(launched),
        ):
            run = self.start(flow, **options)
            title = Title(flow.name, run.run_name, self.where)
            with (
                # The last picture shows what has become of the run.
                watching(run.history, Tally(run.names), title, progress=self._shown(progress)),
                interrupts.cancelling(launched),
            ):
                interrupts.wait(run, interrupted)
        return run.raise_for_failure() if raise_on_failure else run

    def start(
        self,
        flow: Flow,
        *,
        parameters: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        return_tasks: Collection[Any] | Literal["all"] | None = None,
        context: Mapping[str, Any] | None = None,
        keep: Keep = "reference",
        **more_parameters: Any,
    ) -> FlowRun:
        """Start a flow, and return at once.

        Parameters
        ----------
        flow : Flow
            What to run.
        parameters, **more_parameters
            Values of the flow's parameters, by name.
        run_name : str, optional
            What people call the run: a `str.format` template over the parameters, such as
            ``"etl {date}"``; default: the flow's name and the run's id.
        return_tasks : collection of tasks, or 'all', optional
            Tasks whose results to keep besides the reference tasks'.
        context : mapping, optional
            Further entries of the context of every task run, under names of their own.
        keep : {'reference', 'all', 'none'}
            Which results stay on the cluster after the run.

        Returns
        -------
        FlowRun

        Raises
        ------
        RunnerClosed
            The runner is closed.
        OptionError, ParameterError, EmptyFlow, UnknownTask, UnpicklableArgument
            The flow cannot be run so; nothing was sent.
        """
        self._check_open()
        return launch(
            flow,
            self._backend,
            parameters=merge_parameters(parameters, more_parameters),
            run_name=run_name,
            return_tasks=return_tasks,
            context={} if context is None else context,
            keep=keep,
            task_defaults=self._task_defaults,
            check=self._warn,
            before_start=self._keep_track,
        )

    def _keep_track(self, run: FlowRun) -> None:
        with self._lock:
            self.last_run = run
            self._runs.add(run)
            self._going.add(run._driver)
        interrupts.note_launch(run)

    def _unfinished(self) -> list[Driver]:
        with self._lock:
            return [driver for driver in self._going if not driver.ended.is_set()]

    def _warn(self, plan: FlowPlan) -> None:
        """Warn, in the caller's thread and before anything is sent, of what the caller can mend."""
        if self._connection.is_temporary and any(task.cache_for for task in plan.resolved):
            warnings.warn(
                "cache_for has no effect here: this runner's cluster ends with it, and the cached "
                "results with the cluster. Give DaskTaskRunner an address, a cluster or a client.",
                TaskRunnerWarning,
                stacklevel=_frames_to_the_user(),
            )


def _frames_to_the_user() -> int:
    """Return the stacklevel of the line that called this package, for the caller's warning."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("dask_taskrunner."):
        frame, level = frame.f_back, level + 1
    return level


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
    keep: Keep = "reference",
    run_name: str | None = None,
    context: Mapping[str, Any] | None = None,
    progress: bool | None = None,  # noqa: ARG001  # the rest are the flow's parameters
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
    )
