"""The half of a runner that runs flows."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from dask_taskrunner import interrupts
from dask_taskrunner.awaiting import Awaited
from dask_taskrunner.connected import Connected
from dask_taskrunner.exceptions import (
    LargeArgumentWarning,
    TaskRunnerWarning,
    UnsatisfiableWarning,
)
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.launching import Keep, launch, merge_parameters
from dask_taskrunner.listener import expecting_a_view
from dask_taskrunner.placement import Need, lacking
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.showing import watching
from dask_taskrunner.states import State
from dask_taskrunner.view.progress import Progress, check_progress


class RunsFlows(Connected):
    """See :class:`~dask_taskrunner.runner.DaskTaskRunner`, which has a backend and is closed."""

    _task_defaults: dict[str, Any]
    _max_constant_bytes: int
    #: True where it was made for one run, and is closed after it.
    _is_for_one_run = False

    @property
    def _cache(self) -> ResultCache:
        raise NotImplementedError

    def _keep_track(self, run: FlowRun) -> None:
        raise NotImplementedError

    def run(self, flow: Flow, *, progress: Progress = None, **options: Any) -> FlowRun:
        """Run a flow, and wait for its end.

        Parameters
        ----------
        flow : Flow
            What to run.
        progress : bool or str, optional
            Whether to show a live block; default: in a notebook, and where standard error is a
            terminal, but not in tasks. ``"plain"`` writes lines to standard error, ``"json"`` a
            JSON object a line to standard output; ``"rich"`` is the block, ``"none"`` nothing.
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
        check_progress(progress)
        raise_on_failure = options.pop("raise_on_failure", False)
        # Also while it is being launched, and while the view is being loaded.
        with (
            interrupts.remembering() as interrupted,
            interrupts.noting_launches() as launched,
            interrupts.cancelling(launched),
        ):
            with expecting_a_view():
                run = self.start(flow, **options)
            with (
                # The last picture shows what has become of the run.
                watching(run, progress=self._shown(progress)),
                interrupts.cancelling(launched),
            ):
                interrupts.wait(run, interrupted)
        # Not this object: a run that is held must not hold its runner.
        run.wait_again = functools.partial(_wait_again, progress=self._shown(progress))
        return run.raise_for_failure() if raise_on_failure else run

    def run_async(
        self, flow: Flow, *, progress: Progress = None, **options: Any
    ) -> Awaited[FlowRun]:
        """Run a flow without blocking the event loop: ``run = await runner.run_async(flow)``.

        Cancelling the await cancels the run.

        Parameters
        ----------
        flow, progress, **options
            As :meth:`run`.

        Returns
        -------
        awaitable of FlowRun

        Raises
        ------
        FlowRunFailed
            The flow failed, and ``raise_on_failure`` was asked for.
        ClusterLost, InternalError
            The run ended so.
        """
        check_progress(progress)
        line = "`run = await runner.run_async(flow)`"
        return Awaited(self._run_async(flow, progress, options), line)

    async def _run_async(self, flow: Flow, progress: Progress, options: dict[str, Any]) -> FlowRun:
        raise_on_failure = options.pop("raise_on_failure", False)
        launch = _Launch(functools.partial(self.start, flow, **options))
        try:
            # Planning pickles, and a runner that was made in an event loop has yet to connect.
            with expecting_a_view():
                run = await asyncio.to_thread(launch.start)
        except asyncio.CancelledError:
            launch.cancel()
            raise
        with watching(run, progress=self._shown(progress)):
            try:
                await run
            except asyncio.CancelledError:
                run.cancel()
                raise
        return run.raise_for_failure() if raise_on_failure else run

    def start(
        self,
        flow: Flow,
        *,
        parameters: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        return_tasks: Collection[Any] | Literal["all"] | None = None,
        start_tasks: Any = None,
        task_states: Mapping[Any, State] | None = None,
        resume: FlowRun | None = None,
        rerun: Collection[Any] = (),
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
        start_tasks : iterable of tasks, optional
            Exactly these and all downstream of them are run, from the beginning; whatever their
            triggers say. Default: all that are given no final state.
        task_states : mapping, optional
            Task -> its state, such as ``run["extract"].state`` of an earlier run, whose result it
            stands for, or ``Success(result=5)``. One that is final is not run; any other goes to
            the first attempt.
        resume : FlowRun, optional
            An earlier run on this cluster, which has ended: its successes are taken over, by slug,
            of mapped tasks child by child. What failed, crashed, was cancelled, paused or never ran
            is run, with all that is downstream of it; and so is what takes a parameter that has
            another value than then, or is passed the result of another task. A parameter that is
            given no value has the earlier run's. An edited function, or another constant, is no
            reason: see `rerun`. What it comes to is the first of :attr:`FlowRun.notes`.
        rerun : collection of tasks, optional
            What of the earlier run is run again although it succeeded, with all that is downstream
            of it: tasks, or single children such as ``"clean[17]"``.
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
        OptionError, ParameterError, EmptyFlow, UnknownTask, UnpicklableArgument, LargeArgument
            The flow cannot be run so; nothing was sent.
        NotFinished
            The run that is to be resumed goes on.
        MissingTaskState
            What is run needs the state of a task that is neither run nor given one.
        ResultReleased
            The result that an earlier run's state stands for is gone, or on another Dask client.
        """
        self._check_open()
        run = launch(
            flow,
            self._backend,
            parameters=merge_parameters(parameters, more_parameters),
            run_name=run_name,
            return_tasks=return_tasks,
            context={} if context is None else context,
            keep=keep,
            task_defaults=self._task_defaults,
            max_constant_bytes=self._max_constant_bytes,
            check=self._warn,
            start_tasks=start_tasks,
            task_states=task_states,
            resume=resume,
            rerun=rerun,
            cache=self._cache,
            before_start=self._before_start,
        )
        run.where = self.where
        return run

    def _before_start(self, run: FlowRun) -> None:
        run.listener.observe(run.run_id, self._on_event)
        self._keep_track(run)

    def _warn(self, plan: FlowPlan) -> None:
        """Warn, in the caller's thread and before anything is sent, of what the caller can mend."""
        for text in plan.warnings:
            warnings.warn(text, LargeArgumentWarning, stacklevel=frames_to_the_user())
        for text in self._lacking(plan):
            warnings.warn(text, UnsatisfiableWarning, stacklevel=frames_to_the_user())
        if self._is_for_one_run and any(task.cache_for for task in plan.resolved):
            warnings.warn(
                "cache_for has no effect here: a runner keeps cached results, and this one ends "
                "with the run. Use one for many: `with DaskTaskRunner() as runner: "
                "runner.run(flow)`.",
                TaskRunnerWarning,
                stacklevel=frames_to_the_user(),
            )

    def _lacking(self, plan: FlowPlan) -> list[str]:
        """Return what tasks need that no worker has."""
        needs = [
            Need(spec.slug, None if callable(spec.resources) else spec.resources, spec.workers)
            for spec in plan.specs.values()
            if spec.resources or spec.workers
        ]
        workers = self._backend.workers() if needs else None
        if workers is None:
            return []
        found = {text: None for need in needs if (text := lacking(need, workers)) is not None}
        return [f"{text}. It waits until one comes" for text in found]


def _wait_again(run: FlowRun, *, progress: Progress) -> None:
    """Wait for a run that goes on, as it was waited for before."""
    with interrupts.remembering() as interrupted, watching(run, progress=progress):
        interrupts.wait(run, interrupted)


class _Launch:
    """The start of a flow run in a thread, which may be given up meanwhile."""

    def __init__(self, start: Callable[[], FlowRun]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._run: FlowRun | None = None
        self._is_cancelled = False

    def start(self) -> FlowRun:
        """Start the run; one that nobody waits for any more is cancelled at once."""
        run = self._start()
        with self._lock:
            self._run = run
            if self._is_cancelled:
                run.listener.give_up_waiting()
                run.cancel()
        return run

    def cancel(self) -> None:
        """Cancel the run, whether it has started or will."""
        with self._lock:
            self._is_cancelled = True
            if self._run is not None:
                self._run.listener.give_up_waiting()
                self._run.cancel()


def frames_to_the_user() -> int:
    """Return the stacklevel of the line that called this package, for the caller's warning."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("dask_taskrunner."):
        frame, level = frame.f_back, level + 1
    return level
