"""``InProcessRunner``: a runner for tests, which needs no cluster and no time."""

from __future__ import annotations

import difflib
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

from dask_taskrunner.dask_backend.connecting import Connection
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import NoCluster, RunnerClosed, UnknownTask
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.flow_running import RunsFlows
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.options import check_options
from dask_taskrunner.observing import OnEvent, read_on_event
from dask_taskrunner.packing import MAX_CONSTANT_BYTES
from dask_taskrunner.result_cache import ResultCache
from dask_taskrunner.session import Session
from dask_taskrunner.submitting import RunsCalls
from dask_taskrunner.testing.faults import Fault, Script, positive
from dask_taskrunner.testing.in_process import InProcessBackend
from dask_taskrunner.testing.in_process_channel import InProcessChannel
from dask_taskrunner.view.progress import Progress


class InProcessRunner(RunsFlows, RunsCalls):
    """Runs flows in this process, by a virtual clock, with what a script lets go wrong.

    States, triggers, retries and crashes are those of a cluster. Bodies are run one after the
    other, always in the same order; a delay of an hour costs nothing, and neither does a body that
    :func:`takes` one. Each run has workers and a clock of its own. All its workers are alike: a
    task's ``workers`` and ``resources`` say nothing here.

    Parameters
    ----------
    *faults
        What :func:`fail`, :func:`kill_worker` and :func:`takes` return.
    workers : int
        How many workers there are.
    threads : int
        How many bodies run at a time on each, by the virtual clock.
    task_defaults, on_event : optional
        As :class:`DaskTaskRunner` takes them.

    Raises
    ------
    OptionError
        An argument is wrong.

    Examples
    --------
    >>> run = InProcessRunner(fail("load", attempts=2)).run(flow)  # doctest: +SKIP
    >>> assert_attempts(run, "load", ["retrying", "retrying", "success"])  # doctest: +SKIP
    """

    where = "this process"
    _session: Session | None = None

    def __init__(
        self,
        *faults: Fault,
        workers: int = 1,
        threads: int = 1,
        task_defaults: Mapping[str, Any] | None = None,
        on_event: OnEvent | Sequence[OnEvent] = (),
    ) -> None:
        self._script = Script(faults)
        self._task_defaults = check_options(dict(task_defaults or {}), where="task_defaults")
        self._on_event = read_on_event(on_event)
        self._max_constant_bytes = MAX_CONSTANT_BYTES
        self._own_backend = InProcessBackend(
            self._script,
            positive("workers", workers),
            positive("threads", threads),
            InProcessChannel,
        )
        self._own_cache = ResultCache(self._own_backend)
        self._going: weakref.WeakSet[Driver] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, flow: Flow, *, progress: Progress = None, **options: Any) -> FlowRun:
        """Run a flow, and wait for its end.

        Parameters, result and errors are those of :meth:`DaskTaskRunner.run`, and:

        Raises
        ------
        UnknownTask
            The script speaks of a task run that this run did not have.
        """
        run = super().run(flow, progress=progress, **options)
        known = set(run)
        for slug in self._script.slugs:
            if slug not in known:
                near = difflib.get_close_matches(slug, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it had {sorted(known)}"
                raise UnknownTask(
                    f"the script speaks of {slug!r}, which {run.run_name!r} had not{hint}"
                )
        return run

    def close(self) -> None:
        """Cancel what still runs."""
        with self._lock:
            self._is_closed = True
            unfinished = [driver for driver in self._going if not driver.ended.is_set()]
        for driver in unfinished:
            driver.cancel("the runner was closed")
            driver.ended.wait()
        self._own_cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None and self._session is not None:
            self._session.close()
            self._session.driver.ended.wait()
        self.close()

    # -- what running flows asks for ------------------------------------------------------

    @property
    def _connection(self) -> Connection:
        raise NoCluster(
            "an InProcessRunner has no Dask client, cluster or dashboard: "
            "what needs one is tested with DaskTaskRunner()"
        )

    @property
    def _backend(self) -> InProcessBackend:
        return self._own_backend

    @property
    def _cache(self) -> ResultCache:
        return self._own_cache

    def _shown(self, progress: Progress) -> Progress:
        # A test has no view, unless it asks for one.
        return progress or False

    def _check_open(self) -> None:
        if self._is_closed:
            raise RunnerClosed("this InProcessRunner is closed; make a new one")

    def _keep_track(self, run: FlowRun) -> None:
        with self._lock:
            self._going.add(run._driver)

    def _keep_going(self, driver: Driver) -> None:
        with self._lock:
            self._going.add(driver)
