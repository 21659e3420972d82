"""What ``result()`` gives or raises: from a task run's record to a value or an exception."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Final

from dask_taskrunner import exceptions
from dask_taskrunner.driver import Driver
from dask_taskrunner.headers import Header, TaskRunId, open_exception
from dask_taskrunner.machine.plans import InnerPlan
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import all_inside, children_of, tries_of
from dask_taskrunner.states import Failed

#: So many of the children that failed are named.
_NAMED: Final = 3


def value_of(record: TaskRunRecord, driver: Driver, timeout: float | None) -> object:
    """Return the value of a run that succeeded.

    Raises
    ------
    ResultLost, ResultReleased, ResultNotSerializable, TimeoutError
        As in :meth:`~dask_taskrunner.backend.Channel.fetch`.
    """
    header = record.header
    assert header is not None
    if record.length is not None:
        return values_of([*children_of(record, driver.machine.records)], driver, timeout)
    if record.inner is not None and header.kind:
        return _value_of_inner(record.inner, driver, timeout)
    if header.small is not None:
        return pickle.loads(header.small)
    if not header.kind:
        return None
    deadline = None if timeout is None else time.monotonic() + timeout
    # A lost value that is being made again is worth waiting for.
    driver.wait_for(lambda: record.phase == "finished" or driver.final is not None, timeout)
    # One that was taken over without its result has lost none.
    if record.by_value is not None and not record.plan.has_no_result:
        raise exceptions.ResultLost(str(record.by_value.message))
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    value = driver.values.fetch(record.id, left)
    # Dask may have executed the task again, and it did not succeed this time.
    is_other = value is None or isinstance(value, BaseException)
    if is_other and type(value).__name__ != header.kind:
        raise exceptions.ResultLost(
            f"the result of {record.plan.slug} was lost with worker {header.worker}; "
            f"executed again by Dask, it came to {value!r}"
        )
    return value


def _value_of_inner(inner: InnerPlan, driver: Driver, timeout: float | None) -> object:
    records = driver.machine.records
    values = values_of([records[id] for id in inner.results], driver, timeout)
    return values[0] if inner.names is None else dict(zip(inner.names, values, strict=True))


def values_of(
    records: Sequence[TaskRunRecord], driver: Driver, timeout: float | None
) -> list[object]:
    """Return the values of runs that succeeded: what lies on workers comes in one message."""
    far = [record.id for record in records if record.header and not record.header.is_complete]
    fetched = driver.values.fetch_many(far, timeout) if len(far) > 1 else {}
    return [
        fetched[record.id] if record.id in fetched else value_of(record, driver, timeout)
        for record in records
    ]


def error_of(
    record: TaskRunRecord,
    driver: Driver,
    records: Mapping[TaskRunId, TaskRunRecord],
    max_attempts: int,
    timeout: float | None,
) -> BaseException | None:
    """Return what ``result()`` raises for a run's state, or None where it has a result."""
    header, slug = record.header, record.plan.slug
    if header is None:
        unfinished = exceptions.NotFinished(f"{slug} did not finish: {_last_known(record)}")
        unfinished.__cause__ = driver.error
        return unfinished
    message = f"{slug}: {header.message}"
    if record.inner is not None and header.state == "Failed":
        cause = _find_inside(record, header.more["root_cause"][0], records)
        return error_of(cause, driver, records, max_attempts, timeout)
    if header.state == "Mapped":
        return _children_failed(record, driver, records, max_attempts, timeout)
    if header.state == "TriggerFailed":
        return _upstream_failed(record, message, driver, records, max_attempts, timeout)
    if header.state == "TimedOut":
        return exceptions.TaskTimedOut(message)
    if header.state == "Crashed":
        return exceptions.TaskCrashed(message)
    if header.state == "Cancelled":
        return exceptions.TaskCancelled(message)
    if issubclass(header.state_class, Failed):
        return _own_exception(record, header, driver, max_attempts, timeout)
    return None


def _children_failed(
    record: TaskRunRecord,
    driver: Driver,
    records: Mapping[TaskRunId, TaskRunRecord],
    max_attempts: int,
    timeout: float | None,
) -> BaseException | None:
    failed = [
        child
        for child in children_of(record, records)
        if child.header is not None and not child.header.is_successful
    ]
    if not failed:
        return None
    told = [(child.plan.slug, child.header.message if child.header else "") for child in failed]
    cause = error_of(failed[0], driver, records, max_attempts, timeout)
    return mapped_failed(told, cause)


def mapped_failed(
    failed: Sequence[tuple[str, str | None]], cause: BaseException | None
) -> exceptions.MappedFailed:
    """Return the error for task runs of one map that have no result, with why of each."""
    named = "; ".join(f"{slug}: {message}" for slug, message in failed[:_NAMED])
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    error = exceptions.MappedFailed(f"{len(failed)} have no result: {named}{more}")
    error.__cause__ = cause
    return error


def _upstream_failed(
    record: TaskRunRecord,
    message: str,
    driver: Driver,
    records: Mapping[TaskRunId, TaskRunRecord],
    max_attempts: int,
    timeout: float | None,
) -> BaseException:
    cause = record.header.more.get("root_cause") if record.header is not None else None
    error = exceptions.UpstreamFailed(message, root_cause=tuple(cause) if cause else None)
    if cause:
        root = _find_upstream(record, cause[0], records)
        if root is not None:
            error.__cause__ = error_of(root, driver, records, max_attempts, timeout)
    return error


def _find_inside(
    record: TaskRunRecord, slug: str, records: Mapping[TaskRunId, TaskRunRecord]
) -> TaskRunRecord:
    """Return the inner run of a slug, at any depth."""
    return next(one for one in all_inside(record, records) if one.plan.slug == slug)


def _find_upstream(
    record: TaskRunRecord, slug: str, records: Mapping[TaskRunId, TaskRunRecord]
) -> TaskRunRecord | None:
    """Return the failed run of a slug that is upstream; another run's may have the same slug."""
    stack, seen = [record], {record.id}
    while stack:
        for id in stack.pop().plan.upstream:
            source = records.get(id)
            if source is None or id in seen:
                continue
            inside = (source, *children_of(source, records), *all_inside(source, records))
            for one in inside:
                if one.plan.slug == slug and one.header is not None:
                    return one
            seen.add(id)
            stack.append(source)
    return None


def _own_exception(
    record: TaskRunRecord,
    header: Header,
    driver: Driver,
    max_attempts: int,
    timeout: float | None,
) -> BaseException:
    """Return the task's own exception, with a note on where it was raised."""
    if not header.more.get("has_exception"):
        return open_exception(header)
    error = open_exception(header)
    if "exception" not in header.more and driver.values.holds(record.id):
        # Where it is gone after all, its type and text must do.
        with contextlib.suppress(exceptions.RunError):
            fetched = driver.values.fetch(record.id, timeout)
            error = fetched if isinstance(fetched, BaseException) else error
    where = [record.plan.slug]
    if record.values:
        where.append(f"attempt {tries_of(record)} of {max_attempts}")
    if header.worker:
        where.append(header.worker)
    for note in (", ".join(where), header.more.get("traceback", "").rstrip()):
        # A fetched exception is the same object each time.
        if note and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    return error


def _last_known(record: TaskRunRecord) -> str:
    state = record.retry_header
    if record.phase in ("delayed", "paused") and state is not None:
        return f"{state.state}({state.message or ''})"
    return f"it waits for {record.unfinished_upstream} upstream runs that did not, either"
