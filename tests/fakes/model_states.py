"""What a task run's execution comes to in the model cluster: scripts, values and the pipeline.

A task run's final state and result follow from its script and its upstream runs alone, so a flow
run in which nothing is lost for good has one right outcome, whatever else happens: the oracle's.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from dask_taskrunner.headers import NOTHING_MORE, Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.states import Finished

#: The name of a state's class, and the result.
Outcome: TypeAlias = tuple[str, object]
NOTHING_FORCED: Mapping[TaskRunId, Outcome | None] = MappingProxyType({})


@dataclass(frozen=True)
class Script:
    """What the body of a task run does.

    Attributes
    ----------
    does : tuple of str
        By run number, the last one for all that follow: ``small`` and ``big`` succeed with such a
        result, ``retry`` fails and is due again, ``fail``, ``skip``, ``pause``, ``cancel``.
    trigger : str
        ``all_successful`` or ``all_finished``.
    again : str or None
        What it does when Dask executes a submission that has been executed before.
    delay : float
        Of its retries, in seconds.
    """

    does: tuple[str, ...] = ("small",)
    trigger: str = "all_successful"
    again: str | None = None
    delay: float = 1.0

    def at(self, run_number: int, again: bool) -> str:
        word = self.does[min(run_number, len(self.does)) - 1]
        # What was no success may be executed again, but comes to the same.
        return self.again if again and self.again and word in ("small", "big") else word


class Value(NamedTuple):
    """What a future holds: the header, and the result that stays on the worker."""

    header: Header
    result: object

    @classmethod
    def of_header(cls, header: Header) -> Value:
        return cls(header, None if header.small is None else pickle.loads(header.small))


#: word of a script -> class of the state, and kind of the result
_STATES = {
    "small": ("Success", "tuple"),
    "big": ("Success", "DataFrame"),
    "fail": ("Failed", ""),
    "skip": ("Skipped", ""),
    "cancel": ("Cancelled", ""),
    "retry": ("Retrying", ""),
    "pause": ("Paused", ""),
}


def header_of(
    run: Submission,
    state: str,
    *,
    execution: int = 1,
    worker: str = "w1",
    at: float = 0.0,
    started: float | None = 0.0,
    kind: str = "",
    small: bytes | None = None,
    more: Mapping[str, object] = NOTHING_MORE,
) -> Header:
    """Return the header of an execution of a submission."""
    return Header(
        *run.id, run.submission, execution, state, None, worker, run.run_number, started,
        None if started is None else 0.01, at, kind, 10_000 if kind else 0, small, more,
    )  # fmt: skip


def waits_for(upstream: Sequence[Value]) -> Header | None:
    """Return the first upstream header that is not final."""
    headers = (value.header for value in upstream)
    return next((h for h in headers if not issubclass(h.state_class, Finished)), None)


def before_body(script: Script, states: Sequence[str]) -> str | None:
    """Return the state of a run whose body does not run, given its upstream's states."""
    failed = any(state in ("Failed", "TriggerFailed", "Crashed") for state in states)
    if "Skipped" in states and not failed:
        return "Skipped"
    if script.trigger == "all_successful" and (failed or "Cancelled" in states):
        return "TriggerFailed"
    return None


def result_of(id: TaskRunId, upstream: Sequence[object]) -> tuple[object, ...]:
    """Return what the body makes of its inputs, which tells what they were."""
    return (id[0], *upstream)


def outcome_of(
    script: Script,
    run: Submission,
    upstream: Sequence[Value],
    unfinished: Header | None,
    *,
    execution: int,
    worker: str,
    at: float,
    again: bool,
) -> Value:
    """Walk the pipeline."""

    def value(state: str, started: float | None = None, **more: object) -> Value:
        header = header_of(
            run, state, execution=execution, worker=worker, at=at, started=started, **more
        )
        return Value(header, None)

    if unfinished is not None:
        return value("Pending", more={"waits_for": list(unfinished.id)})
    if (state := before_body(script, [source.header.state for source in upstream])) is not None:
        return value(state)
    word = script.at(run.run_number, again)
    state, kind = _STATES[word]
    if word == "retry":
        return value(state, at, more={"delay": script.delay})
    if state != "Success":
        return value(state, at)
    for source in upstream:
        assert source.result is not None or source.header.state != "Success", "a value is missing"
    result = result_of(run.id, [source.result for source in upstream])
    small = pickle.dumps(result) if word == "small" else None
    return Value(value(state, at, kind=kind, small=small).header, result)


def oracle(
    plan: Plan,
    scripts: Mapping[TaskRunId, Script],
    forced: Mapping[TaskRunId, Outcome | None] = NOTHING_FORCED,
) -> dict[TaskRunId, Outcome | None]:
    """Return the right final state and result of each run; None where it ends unfinished.

    Of some it may be known otherwise.
    """
    found: dict[TaskRunId, Outcome | None] = {}
    for run in plan.runs:
        if run.id in forced:
            found[run.id] = forced[run.id]
            continue
        upstream = [found[id] for id in run.upstream]
        if any(outcome is None for outcome in upstream):
            found[run.id] = None
            continue
        known = [outcome for outcome in upstream if outcome is not None]
        script = scripts[run.id]
        state = before_body(script, [outcome[0] for outcome in known])
        if state is not None:
            found[run.id] = (state, None)
            continue
        word = next((word for word in script.does if word != "retry"), script.does[-1])
        assert word != "retry", "this one never ends"
        state = _STATES[word][0]
        if word == "pause":
            found[run.id] = None
        elif state == "Success":
            found[run.id] = (state, result_of(run.id, [outcome[1] for outcome in known]))
        else:
            found[run.id] = (state, None)
    return found


def flow_state(plan: Plan, states: Mapping[TaskRunId, str | None]) -> str:
    """Return the flow run's right state, given its task runs'."""
    of_reference = [states[id] for id in plan.reference]
    if any(s in ("Failed", "TriggerFailed", "Crashed") for s in of_reference):
        return "Failed"
    if None in of_reference:
        return "Paused"
    return "Cancelled" if "Cancelled" in of_reference else "Success"
