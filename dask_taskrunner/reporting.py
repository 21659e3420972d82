"""From the records of a flow run to what is told of it: failures, rows, log records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dask_taskrunner.control_codes import colored, harmless
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.logs import LogStore
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import tries_of
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.states import Failed, State, TriggerFailed, utc
from dask_taskrunner.view.failure_text import TOLD, Failure, FailureReport, NotRun, failure_text

#: So many lines of a failed task run's log are told.
_LAST_LINES: Final = 5


def describe_failures(
    flow_name: str,
    run_name: str,
    plan: FlowPlan,
    records: Mapping[TaskRunId, TaskRunRecord],
) -> str:
    """Return what failed in a flow run and what did not run because of it, as people read it."""
    return failure_text(failure_report(flow_name, run_name, plan, records))


def failure_report(
    flow_name: str,
    run_name: str,
    plan: FlowPlan,
    records: Mapping[TaskRunId, TaskRunRecord],
    logs: LogStore | None = None,
) -> FailureReport:
    """Return the same as plain data, with the last lines of logs where these are given."""
    failed: list[TaskRunId] = []
    not_run = []
    refused: set[str] = set()
    for id, record in sorted(records.items()):
        header, task = record.header, plan.resolved[id[0]]
        if header is None or not issubclass(header.state_class, Failed) or record.inner is not None:
            continue
        if issubclass(header.state_class, TriggerFailed):
            name = getattr(task.trigger, "__name__", "trigger")
            reason = f"trigger {_short(name, header.message)}"
            slug, cause = record.plan.slug, header.more.get("root_cause")
            # One that was refused may be what another one's trigger blames.
            is_by_itself = cause is None or cause[0] in refused
            refused |= {slug} if is_by_itself else set()
            not_run.append(NotRun(harmless(slug), reason, is_by_itself))
        else:
            failed.append(id)
    told = failures_of(most_telling_first(failed, TOLD), plan, records, logs)
    total = sum(record.is_counted for record in records.values())
    return FailureReport(harmless(flow_name), harmless(run_name), total, told, not_run)


def most_telling_first(failed: Sequence[TaskRunId], room: int) -> list[TaskRunId]:
    """Return task runs in their order, but before all others those for which there is room.

    A hundred children that failed alike must not keep silent that something else failed as well: of
    each task there is first one, then a second.
    """
    seen: Counter[int] = Counter()
    ranks = []
    for place, (n, _) in enumerate(failed):
        ranks.append((seen[n], place))
        seen[n] += 1
    order = [place for _, place in sorted(ranks)]
    return [failed[place] for part in (order[:room], order[room:]) for place in sorted(part)]


def failures_of(
    ids: Iterable[TaskRunId],
    plan: FlowPlan,
    records: Mapping[TaskRunId, TaskRunRecord],
    logs: LogStore | None = None,
) -> list[Failure]:
    """Return what is to be told of some task runs, which have failed by themselves."""
    return [
        _failure(records[id], max_attempts(records[id], plan.resolved[id[0]].max_retries), logs)
        for id in ids
    ]


def max_attempts(record: TaskRunRecord, max_retries: int) -> int:
    """Return how often a body may run where nothing crashes; what ran more often, ran so often."""
    return max(max_retries + 1, tries_of(record))


def _short(trigger: str, message: str | None) -> str:
    """Return a trigger's message without the root cause, which is told of by itself."""
    text = (message or trigger).partition(";")[0]
    return harmless(text.partition(" (")[0])


def _failure(record: TaskRunRecord, attempts: int, logs: LogStore | None) -> Failure:
    header = record.header
    assert header is not None
    message = header.message or ""
    if header.state != "Failed":
        message = f"{header.state}: {message}"
    is_given = record.plan.role == "given"
    lines = logs.read(logs.get(record.id))[0] if logs is not None else []
    return Failure(
        slug=harmless(record.plan.slug),
        message=harmless(message),
        attempt=None if is_given or header.started is None else (tries_of(record), attempts),
        worker="given, not run here" if is_given else header.worker,
        inputs={
            harmless(name): harmless(text) for name, text in header.more.get("inputs", {}).items()
        },
        traceback=harmless(header.more.get("traceback", "")),
        name=harmless(header.more.get("name", "")),
        # What a task has colored stays so.
        logged=[colored(line[2]) for line in lines[-_LAST_LINES:]],
    )


def table_row(record: TaskRunRecord, state: State) -> dict[str, Any]:
    """Return what a table says of one task run."""
    attempts = record.attempts()
    last = attempts[-1] if attempts else None
    header = record.header
    return {
        "slug": record.plan.slug,
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
        "inputs": dict(header.more.get("inputs", {})) if header else {},
    }
