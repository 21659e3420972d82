"""What a user holds of one task run: a look at its record. It changes nothing."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, overload

from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import NotAValue
from dask_taskrunner.headers import Header, TaskRunId, to_state
from dask_taskrunner.logs import Logs, logs_of, logs_of_several
from dask_taskrunner.machine.events import ResultsWanted
from dask_taskrunner.machine.plans import InnerPlan
from dask_taskrunner.machine.records import Attempt, TaskRunRecord
from dask_taskrunner.machine.sources import has_its_result_elsewhere, record_of_result
from dask_taskrunner.origins import Origin
from dask_taskrunner.outcomes import error_of, value_of
from dask_taskrunner.reporting import max_attempts
from dask_taskrunner.shown import Shown
from dask_taskrunner.states import Failed, Pending, Running, State
from dask_taskrunner.view.text import format_some, task_run_repr


class TaskRun(Shown):
    """One task run of a flow run, while it runs and after.

    Get one by ``run[task]`` or ``run["slug"]``.
    """

    def __init__(
        self,
        record: TaskRunRecord,
        driver: Driver,
        max_retries: int,
        find: Callable[[TaskRunId], TaskRun] | None = None,
    ) -> None:
        self._record = record
        self._driver = driver
        self._max_retries = max_retries
        #: Finds other task runs of the same flow run.
        self._find = find

    @property
    def record(self) -> TaskRunRecord:
        """What the machine knows; not for users."""
        return self._record

    @property
    def driver(self) -> Driver:
        """What drives the run; not for users."""
        return self._driver

    @property
    def has_result(self) -> bool:
        """Whether the run succeeded with a result; None is one, but not for a skip."""
        return has_result(self._record)

    @property
    def future(self) -> Any:
        """A Dask future of the plain value, for other Dask code; waits for the run's end.

        It is a small task, sent when it is asked for, that opens the result where it lies. A run
        that failed fails it with the task's own exception.

        Raises
        ------
        ResultReleased
            The result is not held any more.
        NotFinished
            The run ended without a state.
        NotAValue
            The task is mapped: each child has a future. Or its result is a dict of several.
        """
        driver, record = self._driver, self._record
        if record.inner is not None:
            return self._future_inside(record.inner)
        if record.plan.maps is not None:
            raise NotAValue(
                f"{self.slug!r} is mapped: its results lie where its children ran. Write "
                f"[child.future for child in run[{self.slug!r}].children]"
            )
        # Were it to end meanwhile, nobody might hold its result by the time it is asked for.
        driver.post(ResultsWanted(time.monotonic(), (record.id,)))
        driver.hurry()
        try:
            driver.wait_for(lambda: driver.has_ended(record.id), None)
            if record.header is None:
                raise error_of(record, driver, {}, self.max_attempts, None) or AssertionError
            return driver.channel.value_future(record.id, self._telling_header(record.header))
        finally:
            driver.drop((record.id,))

    def _future_inside(self, inner: InnerPlan) -> Any:
        assert self._find is not None
        results = [self._find(id) for id in inner.results]
        if inner.names is not None:
            ways = ", ".join(f"run[{run.slug!r}].future" for run in results)
            raise NotAValue(f"the result of {self.slug!r} is a dict of several; write {ways}")
        return results[0].future

    def _telling_header(self, header: Header) -> Header:
        """Return a header with what :meth:`result` raises, where no exception came with it."""
        if header.is_successful or header.more.get("has_exception"):
            return header
        data = pickle.dumps(self.exception(), protocol=5)
        more = {**header.more, "has_exception": True, "exception": data}
        return header._replace(state=Failed.__name__, more=more)

    @property
    def slug(self) -> str:
        """The name of the task run inside its flow run."""
        return self._record.plan.slug

    @property
    def name(self) -> str:
        """What people call the task run: by the task's ``task_run_name``, else its slug.

        Known once the body has ended.
        """
        for header in (self._record.header, self._record.retry_header):
            if header is not None and "name" in header.more:
                return str(header.more["name"])
        return self.slug

    @property
    def state(self) -> State:
        """What is known of the task run; a header, whose result may lie on a worker."""
        record = self._record
        if record.header is not None:
            having = record_of_result(record, self._driver.machine.records).header
            return to_state(record.header, self.slug, Origin(self._driver, having or record.header))
        if record.running is not None:
            state: State = Running(message=f"on {record.running.worker}")
            state.at = record.running.started
            return state
        if record.phase in ("delayed", "paused", "expanded") and record.retry_header is not None:
            return to_state(record.retry_header, self.slug)
        if record.phase == "growing":
            return Running(message="it grows")
        if record.inner is not None:
            total = len(record.inner.runs)
            ended = total - record.unfinished_children
            return Running(message=f"grown: {ended} of {total} finished")
        if record.length is not None:
            ended = record.length - record.unfinished_children
            return Running(message=f"{ended} of {record.length} finished")
        return Pending(message=_waiting(record))

    @property
    def inputs(self) -> Mapping[str, str]:
        """One line for each argument of the attempt that failed; empty where none did."""
        header = self._record.header
        return dict(header.more.get("inputs", {})) if header is not None else {}

    @property
    def attempts(self) -> list[Attempt]:
        """Each execution of the body, in the order in which they are known to have begun."""
        return self._record.attempts()

    @property
    def logs(self) -> Logs:
        """What the body has logged, and printed with ``log_prints``, while it runs and after.

        Of a mapped task run, the lines of all its children, by their time; of one that has grown,
        those of its inner runs behind its own.
        """
        store = self._driver.channel.logs
        own = logs_of(self._record, store, store.get(self._record.id))
        children = self.children
        return logs_of_several([own, *(one.logs for one in children)]) if children else own

    @property
    def children(self) -> Children:
        """The children of a mapped task run, in the order of the elements.

        Of one that has grown to a graph, the runs of its tasks; of any other, none.
        """
        records, inner = self._driver.machine.records, self._record.inner
        # Somebody may look while they join: then those that have are all that there are.
        if inner is not None and self._find is not None:
            return Children(self._find(id) for id in inner.runs if id in records)
        n, length = self._record.id[0], self._record.length or 0
        found = [records[id] for index in range(length) if (id := (n, index)) in records]
        runs = (TaskRun(one, self._driver, self._max_retries, self._find) for one in found)
        return Children(runs)

    @property
    def results(self) -> TaskRun | dict[str, TaskRun]:
        """What has the result: other runs, in a dict where they are several; not for users."""
        inner = self._record.inner
        if inner is None or self._find is None or not has_its_result_elsewhere(self._record):
            return self
        found = [self._find(id) for id in inner.results]
        return found[0] if inner.names is None else dict(zip(inner.names, found, strict=True))

    def with_all_inside(self) -> list[TaskRun]:
        """Return this run, and behind it its children and theirs; not for users."""
        return [self, *(one for child in self.children for one in child.with_all_inside())]

    @property
    def max_attempts(self) -> int:
        """How often the body may run where nothing crashes."""
        return max_attempts(self._record, self._max_retries)

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, from wherever it lies; wait for it where the run goes on.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Raises
        ------
        Exception
            A failed run raises the task's own exception, with notes on where it was raised, and
            `RemoteTaskError` where the object did not survive the trip.
        UpstreamFailed
            The trigger kept the task from running; its ``__cause__`` is the root cause.
        TaskTimedOut, TaskCrashed, TaskCancelled
            The run ended so.
        NotFinished
            The flow run ended, or paused, without this one.
        ResultReleased, ResultLost, ResultNotSerializable
            The result cannot be had.
        TimeoutError
            It did not come in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback has this frame: else the two would keep each other alive.
                del error
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return value_of(self._record, self._driver, left)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what :meth:`result` raises for the run's state, or None.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Raises
        ------
        TimeoutError
            The run went on for longer.
        """
        driver, record = self._driver, self._record
        done = driver.wait_for(
            lambda: driver.final is not None or driver.has_ended(record.id), timeout
        )
        if not done:
            raise TimeoutError(f"{self.slug} has not finished after {timeout} s")
        return error_of(record, driver, driver.machine.records, self.max_attempts, timeout)

    def __reduce__(self) -> NoReturn:
        # Inside what is not looked into it would not be replaced by its result.
        raise NotAValue(
            f"task run {self.slug!r} cannot be pickled or copied; pass it as an argument by itself "
            "or in a list, tuple, set, dict or dataclass, or pass its result()"
        )

    def __repr__(self) -> str:
        state = self.state
        attempts = len(self._record.values)
        return task_run_repr(self.slug, type(state).__name__, state.message, attempts, self.name)


class Children(Sequence[TaskRun]):
    """The children of a mapped task run, or the runs to which one has grown."""

    def __init__(self, runs: Iterable[TaskRun]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> TaskRun: ...

    @overload
    def __getitem__(self, index: slice) -> Children: ...

    def __getitem__(self, index: int | slice) -> TaskRun | Children:
        if isinstance(index, slice):
            return Children(self._runs[index])
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def failed(self) -> Children:
        """Those that failed, for whatever reason."""
        return Children(run for run in self._runs if run.state.is_failed())

    def __repr__(self) -> str:
        names = [run.slug for run in self._runs]
        return f"<Children {format_some(names, 3)}>" if names else "<Children: none>"


def has_result(record: TaskRunRecord) -> bool:
    """Return whether a run succeeded with a result."""
    header = record.header
    return header is not None and bool(header.kind) and header.is_successful


def _waiting(record: TaskRunRecord) -> str | None:
    if record.phase == "submitted":
        return "submitted"
    if record.unfinished_upstream:
        return f"waits for {record.unfinished_upstream} upstream runs"
    return None
