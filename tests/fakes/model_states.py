"""What a task run's execution comes to in the model cluster: scripts, values and the pipeline.

A task run's final state and result follow from its script and its upstream runs alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

from dask_taskrunner.headers import NOTHING_MORE, Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.states import Finished


@dataclass(frozen=True)
class Script:
    """What the body of a task run does.

    Attributes
    ----------
    does : tuple of str
        By run number, the last one for all that follow: ``small`` and ``big`` succeed with such a
        result, ``list0 list1 ...`` with a big one of so many elements and ``few0 few1 ...`` with
        a small one, ``retry`` fails and is due again, ``fail``, ``skip``, ``pause``, ``cancel``.
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
        return self.again if again and self.again and is_success(word) else word


class Value(NamedTuple):
    """What a future holds: the header, and the result that stays on the worker."""

    header: Header
    result: object

    @classmethod
    def of_header(cls, header: Header) -> Value:
        return cls(header, None if header.small is None else pickle.loads(header.small))


class Elements(tuple[object, ...]):
    """A result of which others can take elements."""


#: What upstream runs are to a trigger: the states of each, of which a mapped one has many.
Seen: TypeAlias = Sequence[Sequence[str]]

#: Word of a script, without its number -> class of the state, and kind of the result.
_STATES = {
    "small": ("Success", "tuple"),
    "big": ("Success", "DataFrame"),
    "few": ("Success", "list"),
    "list": ("Success", "list"),
    "fail": ("Failed", ""),
    "skip": ("Skipped", ""),
    "cancel": ("Cancelled", ""),
    "retry": ("Retrying", ""),
    "pause": ("Paused", ""),
}


def state_of(word: str) -> tuple[str, str]:
    """Return the class of the state that a word of a script stands for, and its result's kind."""
    return _STATES[word.rstrip("0123456789")]


def is_success(word: str) -> bool:
    return state_of(word)[0] == "Success"


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


def before_body(script: Script, seen: Seen) -> str | None:
    """Return the state of a run whose body does not run, given its upstream's states."""
    states = [state for each in seen for state in each]
    failed = any(state in ("Failed", "TriggerFailed", "Crashed") for state in states)
    skipped = any(each and set(each) == {"Skipped"} for each in seen)
    if skipped and not failed:
        return "Skipped"
    if script.trigger == "all_successful" and (failed or "Cancelled" in states):
        return "TriggerFailed"
    return None


def result_of(id: TaskRunId, word: str, inputs: Sequence[object]) -> object:
    """Return what the body makes of its inputs, which tells what they were."""
    result = (id, *inputs)
    length = word.removeprefix("few").removeprefix("list")
    return Elements((*result, k) for k in range(int(length))) if length != word else result


def gathered(upstream: Sequence[Value], widths: Mapping[int, int]) -> list[Value | list[Value]]:
    """Return what came by the position in the plan: the children of a mapped run together."""
    found: list[Value | list[Value]] = []
    values = iter(upstream)
    while len(found) <= max(widths, default=-1):
        width = widths.get(len(found))
        found.append(next(values) if width is None else [*islice(values, width)])
    return [*found, *values]


def seen_in(upstream: Sequence[Value | list[Value]]) -> Seen:
    """Return what a trigger sees."""
    return [
        [value.header.state for value in source]
        if isinstance(source, list)
        else list(source.header.more["counts"])
        if source.header.state == "Mapped"
        else [source.header.state]
        for source in upstream
    ]


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
    sources = gathered(upstream, run.widths)
    if (state := before_body(script, seen_in(sources))) is not None:
        return value(state)
    if run.expands:
        return value("Running", more={"expands": True})
    word = script.at(run.run_number, again)
    state, kind = state_of(word)
    if word == "retry":
        return value(state, at, more={"delay": script.delay})
    if state != "Success":
        return value(state, at)
    inputs = [_input(source, run.promised.get(n), run.id) for n, source in enumerate(sources)]
    if LENGTH_CHANGED in inputs:
        return value("Failed")
    result = result_of(run.id, word, inputs)
    small = pickle.dumps(result) if word in ("small",) or word.startswith("few") else None
    more = {"length": len(result)} if isinstance(result, Elements) else NOT_MAPPED_OVER
    return Value(value(state, at, kind=kind, small=small, more=more).header, result)


LENGTH_CHANGED = object()
NOT_MAPPED_OVER = {"no_length": "Write {argument}=unmapped(...) to pass the same to each"}


def _input(source: Value | list[Value], promised: int | None, id: TaskRunId) -> object:
    """Return what a body gets of one upstream run, or list of them."""
    if isinstance(source, list):
        return tuple(_input(child, None, id) for child in source)
    if source.header.state == "Success":
        assert source.result is not None, "a value is missing"
    if promised is None or source.result is None:
        return source.result
    assert isinstance(source.result, Elements)
    return source.result[id[1]] if len(source.result) == promised else LENGTH_CHANGED
