"""What a user holds of a flow run: the same object while it runs and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

from dask_taskrunner import exceptions
from dask_taskrunner.awaiting import ended
from dask_taskrunner.driver import Driver
from dask_taskrunner.flow_insight import FlowInsight
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.keeping import Holder
from dask_taskrunner.machine.events import Approved, Rejected
from dask_taskrunner.shown import ShownLive
from dask_taskrunner.states import Failed

#: Seconds that the last picture of a run is waited for.
_LAST_PICTURE: Final = 1.0


class FlowRun(FlowInsight, ShownLive):
    """One run of a flow.

    Attributes
    ----------
    flow : Flow
        What runs.
    run_id : str
        Eight hexadecimal digits.
    run_name : str
        For people.
    parameters : dict
        The value of every parameter.
    where : str
        The cluster, in words.
    """

    where: str = ""
    #: Waits for the run as it was waited for when it was started, where it was; not for users.
    wait_again: Callable[[FlowRun], object] | None = None
    #: Draws the run until its end, where a notebook shows it; not for users.
    view: threading.Thread | None = None

    def attach(self, driver: Driver) -> None:
        """Take the driver, which needs this object's listener and so comes after it."""
        self._driver = driver

    def release(self) -> None:
        """Let the cluster forget the results that it holds for this run.

        Raises
        ------
        NotFinished
            The run goes on, and needs them.
        """
        if not self._driver.ended.is_set():
            raise exceptions.NotFinished(
                f"flow run {self.run_name!r} goes on and needs its results; "
                "run.cancel() or run.wait() first"
            )
        self._driver.is_closed = True
        self._driver.channel.close()

    @property
    def holder(self) -> Holder:
        """What a closing runner keeps results by; not for users."""
        return Holder(self._driver, self.listener.add_note)

    # -- waiting and ending ---------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> FlowRun:
        """Wait until the run is over, or paused.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Returns
        -------
        FlowRun
            This run.

        Raises
        ------
        TimeoutError
            It goes on; nothing has changed.
        ClusterLost, InternalError
            It ended so; the record is what was known by then.
        """
        if not self._driver.ended.wait(timeout):
            raise TimeoutError(f"flow run {self.run_name!r} goes on after {timeout} s")
        if self.view is not None:
            # What executes notebooks drops a picture that comes when the cell that waits is over.
            self.view.join(_LAST_PICTURE)
        if self._driver.error is not None:
            raise self._driver.error
        return self

    def __await__(self) -> Generator[Any, None, FlowRun]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> FlowRun:
        await ended(self._driver, None)
        return self.wait(0)

    def cancel(self, wait: float | None = None) -> None:
        """Cancel the run: nothing that has not begun begins; what runs cannot be stopped by force.

        Parameters
        ----------
        wait : float, optional
            Wait so many seconds until no code of the run is known to be running.

        Raises
        ------
        TimeoutError
            Some code still ran; :attr:`still_running` says whose.
        """
        self._driver.cancel("cancelled by the user")
        if wait is None:
            return
        ended = self._driver.wait_for(
            lambda: self._driver.final is not None and not self.still_running, wait
        )
        if not ended:
            slugs = ", ".join(run.slug for run in self.still_running)
            raise TimeoutError(f"the code of {slugs} still ran {wait} s after the cancel")

    def report(self, filename: str | Path) -> Path:
        """Write all that there is to tell of the run into one HTML file, which loads nothing.

        It has the graph, a timeline of all attempts, the critical path, a table of all task runs
        that can be sorted and filtered, tracebacks and logs. A run that goes on is told as it is.

        Parameters
        ----------
        filename : str or Path
            Where to.

        Returns
        -------
        Path
            The same.
        """
        # Most runs have none, and importing us must stay cheap.
        from dask_taskrunner.report.page import page
        from dask_taskrunner.reports import report_of

        path = Path(filename)
        path.write_text(page(report_of(self, self.where)), encoding="utf-8")
        return path

    # -- going on -------------------------------------------------------------------------

    def approve(self, *tasks: Any) -> FlowRun:
        """Let paused task runs go on, whatever their triggers say.

        A body that raised ``PAUSE`` is run from its beginning. The run goes on as the same run,
        with all its history; where it was run by :meth:`DaskTaskRunner.run`, this waits for it.

        Parameters
        ----------
        *tasks : BoundTask or str or Task
            What goes on; of a mapped task all children that paused. Default: all that paused.

        Returns
        -------
        FlowRun
            This run.

        Raises
        ------
        NotFinished
            One of them has not paused.
        RunnerClosed
            The run's runner has closed, or the run was released.
        """
        return self._go_on(Approved(time.monotonic(), self._paused_ids(tasks)))

    def reject(self, *tasks: Any) -> FlowRun:
        """Skip paused task runs, and go on without them.

        Parameters, result and errors are those of :meth:`approve`.
        """
        return self._go_on(Rejected(time.monotonic(), self._paused_ids(tasks)))

    def _go_on(self, event: Approved | Rejected) -> FlowRun:
        if self._driver.is_closed:
            raise exceptions.RunnerClosed(
                f"flow run {self.run_name!r} cannot go on: its runner has closed, or it was "
                "released. Run the flow again, from its middle: runner.run(flow, task_states=...)"
            )
        self._driver.go_on(event)
        if self.wait_again is not None:
            self.wait_again(self)
        return self

    def _paused_ids(self, tasks: tuple[Any, ...]) -> tuple[TaskRunId, ...]:
        paused = [run.record.id for run in self.task_runs if run.record.is_paused]
        found: list[TaskRunId] = []
        for task in tasks:
            run = self[task]
            own = [one.record.id for one in (run, *run.children) if one.record.id in paused]
            if not own:
                slugs = ", ".join(self._task_run(id).slug for id in paused) or "none is"
                raise exceptions.NotFinished(
                    f"{run.slug} has not paused: it is {run.state!r}; paused: {slugs}"
                )
            found += own
        if not tasks and not paused:
            raise exceptions.NotFinished(f"nothing of {self.run_name!r} has paused")
        return tuple(found) if tasks else tuple(paused)

    def raise_for_failure(self) -> FlowRun:
        """Return this run, or raise what failed.

        Raises
        ------
        FlowRunFailed
            The run's state is a failure; the text says which task runs and why.
        """
        self.wait()
        if isinstance(self.state, Failed):
            raise exceptions.FlowRunFailed(self.failure_text(), failures=self.failures)
        return self
