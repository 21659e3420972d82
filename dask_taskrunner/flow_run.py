"""What a user holds of a flow run: the same object while it runs and after.

It reads the machine's records and asks for things; only the driver changes anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from dask_taskrunner import exceptions
from dask_taskrunner.driver import Driver
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.headers import TaskRunId, format_bytes, to_state
from dask_taskrunner.machine.commands import CallHook
from dask_taskrunner.machine.commands import Note as NoteCommand
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.reporting import failure_report, table_row
from dask_taskrunner.states import Failed, Pending, Running, State, TriggerFailed, utc
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.view.failure_text import failure_text
from dask_taskrunner.view.text import flow_run_repr

logger = logging.getLogger("dask_taskrunner")

#: So many failed task runs of a flow run are logged one by one.
LOGGED: Final = 20
#: How many seconds a closing runner gives one result to arrive.
_KEEP_PATIENCE: Final = 30.0


class Note(NamedTuple):
    """Something about a flow run that is no state: a lost worker, an execution more.

    Attributes
    ----------
    time : pendulum.DateTime
        In UTC.
    level : int
        As in :mod:`logging`.
    task_run : str or None
        The slug of the task run, where it is about one.
    text : str
        What happened.
    """

    time: Any
    level: int
    task_run: str | None
    text: str


class FlowRun:
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
    notes : list of Note
        What happened besides changes of state.
    """

    def __init__(
        self,
        flow: Flow,
        plan: FlowPlan,
        run_id: str,
        run_name: str,
        parameters: Mapping[str, Any],
    ) -> None:
        self.flow = flow
        self.run_id = run_id
        self.run_name = run_name
        self.parameters = dict(parameters)
        self.notes: list[Note] = []
        self._plan = plan
        self._driver: Driver = None  # type: ignore[assignment]  # attach() follows at once
        #: Failures that were heard of; the first ones are logged one by one.
        self._failed = 0

    def attach(self, driver: Driver) -> None:
        """Take the driver, which needs this object's callbacks and so comes after it."""
        self._driver = driver

    # -- states ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The flow run's own state."""
        final = self._driver.final
        if final is not None:
            return to_state(final, self.run_name)
        return Running() if self.history else Pending()

    @property
    def states(self) -> dict[str, State]:
        """The state of every task run, by slug: headers, whose results may lie on workers."""
        return {slug: self._task_run(id).state for slug, id in self._plan.ids.items()}

    @property
    def history(self) -> list[HistoryEntry]:
        """Every change of state, oldest first, as small tuples."""
        return self._driver.machine.history

    @property
    def error(self) -> Exception | None:
        """Why the run ended without its tasks: a lost cluster, or an error of this package."""
        return self._driver.error

    def __getitem__(self, task: Any) -> TaskRun:
        """Return a task run by its bound task, its slug, or its task where that is used once."""
        bound = self.flow.resolve_task(task)
        if bound.slug not in self._plan.ids:
            raise exceptions.UnknownTask(
                f"{bound.slug!r} is a parameter, which is no task run: run.parameters[...] has it"
            )
        return self._task_run(self._plan.ids[bound.slug])

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.ids)

    def __len__(self) -> int:
        return len(self._plan.ids)

    def _task_run(self, id: TaskRunId) -> TaskRun:
        retries = self._plan.resolved[id[0]].max_retries
        return TaskRun(self._driver.machine.records[id], self._driver, retries)

    @property
    def task_runs(self) -> list[TaskRun]:
        """All task runs, in the order of the plan."""
        return [self._task_run(id) for id in self._plan.ids.values()]

    @property
    def failures(self) -> list[TaskRun]:
        """The task runs that failed by themselves, root causes first."""
        return [self._task_run(record.id) for record in self._records(_failed_by_itself)]

    @property
    def still_running(self) -> list[TaskRun]:
        """The task runs whose code is known to be running, those of a cancelled run included."""

        def runs(record: TaskRunRecord) -> bool:
            return record.running is not None or record.left_running is not None

        return [self._task_run(record.id) for record in self._records(runs)]

    def _records(self, wanted: Callable[[TaskRunRecord], bool]) -> list[TaskRunRecord]:
        return [record for record in self._driver.machine.records.values() if wanted(record)]

    # -- results --------------------------------------------------------------------------

    def result(self, task: Any = None, timeout: float | None = None) -> Any:
        """Return a task run's result, or the reference tasks'.

        Parameters
        ----------
        task : BoundTask or str or Task, optional
            Default: the only reference task, else a dict of the reference tasks by slug.
        timeout : float, optional
            In seconds, for each.

        Raises
        ------
        Exception
            As :meth:`TaskRun.result`.
        """
        if task is not None:
            return self[task].result(timeout)
        slugs = [task.slug for task in self.flow.reference_tasks()]
        results = {slug: self[slug].result(timeout) for slug in sorted(slugs)}
        return next(iter(results.values())) if len(results) == 1 else results

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
        self._driver.channel.close()

    def keep_results(self, limit: int) -> None:
        """Fetch held results up to so many bytes in all, smallest first, before a cluster ends."""
        driver = self._driver
        held = [
            (record.header.nbytes, record.id, record.plan.slug)
            for record in driver.machine.records.values()
            if record.header is not None and driver.channel.holds(record.id)
        ]
        left: list[str] = []
        for nbytes, id, slug in sorted(held):
            if nbytes <= limit:
                limit -= nbytes
                driver.keep(id, _KEEP_PATIENCE)
            else:
                left.append(f"{slug} ({format_bytes(nbytes)})")
                text = f"the result of {slug} ({format_bytes(nbytes)}) was not fetched: the runner"
                driver.leave(id, f"{text} closed, and fetch_limit was used up")
        if left:
            text = f"not fetched when the runner closed, beyond fetch_limit: {', '.join(left)}"
            self.add_note(NoteCommand(text, None, logging.WARNING), time.time())
        driver.channel.close()

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
        if self._driver.error is not None:
            raise self._driver.error
        return self

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

    def failure_text(self) -> str:
        """Return what failed and what did not run because of it, as people read it."""
        machine = self._driver.machine
        report = failure_report(
            self.flow.name, self.run_name, list(machine.records.values()),
            lambda record: self._task_run(record.id).max_attempts,
            lambda record: self._plan.resolved[record.id[0]].trigger,
        )  # fmt: skip
        return failure_text(report)

    # -- looking --------------------------------------------------------------------------

    def table(self, task: Any = None) -> list[dict[str, Any]]:
        """Return a row for each task run, one ``pandas.DataFrame(...)`` away from a table.

        Parameters
        ----------
        task : BoundTask or str or Task, optional
            Only this one's.

        Returns
        -------
        list of dict
            With ``slug task map_index state message attempts worker queued started ended
            seconds nbytes inputs``; times are UTC, ``seconds`` is the last body's duration.
        """
        runs = self.task_runs if task is None else [self[task]]
        records = self._driver.machine.records
        return [table_row(records[self._plan.ids[run.slug]], run) for run in runs]

    @property
    def counts(self) -> dict[str, int]:
        """How many task runs show which state."""
        total: dict[str, int] = {}
        for counts in self._driver.machine.counts.values():
            for state, count in counts.items():
                if count:
                    total[state] = total.get(state, 0) + count
        return total

    @property
    def names(self) -> dict[TaskRunId, str]:
        """The task's name for each task run, as views group them."""
        return {run.id: run.name for run in self._plan.machine.runs}

    def __repr__(self) -> str:
        return flow_run_repr(
            self.flow.name, self.run_name, type(self.state).__name__, self.counts
        )

    # -- called in the hooks' thread ------------------------------------------------------

    def call_hook(self, command: CallHook) -> None:
        """Call state handlers; they cannot replace a state here, and an error is a note."""
        if command.id is None:
            owner: Any = self.flow
            handlers, slug = self.flow.state_handlers, self.run_name
        else:
            owner = self._plan.resolved[command.id[0]]
            handlers, slug = owner.state_handlers, self._plan.tasks[command.id[0]].slug
        old = to_state(command.old, slug) if command.old is not None else Pending()
        new = to_state(command.new, slug)
        for handler in handlers:
            try:
                handler(owner, old, new)
            except Exception as error:  # It is the user's, and must not end the run.
                name = getattr(handler, "__name__", repr(handler))
                text = f"state handler {name} of {slug}: {type(error).__name__}: {error}"
                self.add_note(NoteCommand(text, command.id, logging.WARNING), time.time())

    def add_note(self, note: NoteCommand, at: float) -> None:
        """Keep a note, and log it at INFO."""
        slug = self._plan.tasks[note.id[0]].slug if note.id is not None else None
        self.notes.append(Note(utc(at), note.level, slug, note.text))
        logger.info("%s: %s", self.run_name, note.text)

    def task_run_failed(self, id: TaskRunId) -> None:
        """Log a final failure: quiet is never silent about failure."""
        self._failed += 1
        if self._failed <= LOGGED:
            run = self._task_run(id)
            logger.error("%s: %s failed: %s", self.run_name, run.slug, run.state.message)

    def run_ended(self) -> None:
        """Log what the failures came to."""
        if self._failed > LOGGED:
            logger.error("%s: %d more task runs failed", self.run_name, self._failed - LOGGED)
        if isinstance(self.state, Failed):
            logger.error("%s", self.failure_text())


def _failed_by_itself(record: TaskRunRecord) -> bool:
    header = record.header
    return (
        header is not None
        and issubclass(header.state_class, Failed)
        and not issubclass(header.state_class, TriggerFailed)
    )
