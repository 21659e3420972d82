"""From the records of a flow run to what is told of it: failures, rows, log records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.states import Failed, TriggerFailed, utc
from dask_taskrunner.view.failure_text import Failure, FailureReport, NotRun

if TYPE_CHECKING:
    from dask_taskrunner.task_run import TaskRun

def failure_report(
    flow_name: str,
    run_name: str,
    records: Sequence[TaskRunRecord],
    max_attempts: Callable[[TaskRunRecord], int],
    trigger: Callable[[TaskRunRecord], Any],
) -> FailureReport:
    """Return what is to be told of a flow run's failures."""
    failed, not_run = [], []
    for record in records:
        header = record.header
        if header is None or not issubclass(header.state_class, Failed):
            continue
        if issubclass(header.state_class, TriggerFailed):
            name = getattr(trigger(record), "__name__", "trigger")
            not_run.append(NotRun(record.plan.slug, f"trigger {_short(name, header.message)}"))
        else:
            failed.append(_failure(record, max_attempts(record)))
    return FailureReport(flow_name, run_name, len(records), failed, not_run)


def _short(trigger: str, message: str | None) -> str:
    """Return a trigger's message without the root cause, which is told of by itself."""
    text = (message or trigger).partition(";")[0]
    return text.partition(" (")[0]


def _failure(record: TaskRunRecord, max_attempts: int) -> Failure:
    header = record.header
    assert header is not None
    message = header.message or ""
    if header.state != "Failed":
        message = f"{header.state}: {message}"
    return Failure(
        slug=record.plan.slug,
        message=message,
        attempt=(len(record.values), max_attempts) if header.started is not None else None,
        worker=header.worker,
        inputs=header.more.get("inputs", {}),
        traceback=header.more.get("traceback", ""),
    )


def table_row(record: TaskRunRecord, run: TaskRun) -> dict[str, Any]:
    """Return what a table says of one task run."""
    state, attempts = run.state, run.attempts
    last = attempts[-1] if attempts else None
    header = record.header
    return {
        "slug": run.slug,
        "task": record.plan.name,
        "map_index": record.id[1],
        "state": type(state).__name__,
        "message": state.message,
        "attempts": len(attempts),
        "worker": (last.worker if last else header.worker if header else None) or None,
        "queued": None if record.queued_at is None else utc(record.queued_at),
        "started": utc(last.started) if last and last.started is not None else None,
        "ended": utc(last.ended) if last and last.ended is not None else None,
        "seconds": header.seconds if header else None,
        "nbytes": header.nbytes if header else None,
        "inputs": dict(run.inputs),
    }

