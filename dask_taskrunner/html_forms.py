"""How a notebook shows each thing that a user holds: what it is, as plain data for the view."""

from __future__ import annotations

from collections import Counter
from functools import singledispatch
from inspect import Parameter, Signature
from typing import Any

from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.tasks import Task
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.machine.records import Attempt
from dask_taskrunner.showing import flow_run_html
from dask_taskrunner.states import Failed, State
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures
from dask_taskrunner.view import cards


@singledispatch
def html_of(thing: Any) -> str:
    """Return a thing as HTML."""
    raise NotImplementedError(f"a {type(thing).__name__} has no form in HTML")


html_of.register(FlowRun, flow_run_html)


@html_of.register
def _(flow: Flow) -> str:
    return cards.flow_card(flow.name, flow.visualize().still.html)


@html_of.register
def _(task: Task) -> str:  # type: ignore[type-arg]
    options = {name: _told(value) for name, value in task.explicit_options.items()}
    return cards.task_card(task.name, _written(task.signature), options)


@html_of.register
def _(state: State) -> str:
    traceback = state.traceback if isinstance(state, Failed) else ""
    return cards.state_card(type(state).__name__, state.color, state.message, traceback)


@html_of.register
def _task_run(run: TaskRun) -> str:
    state = run.state
    return cards.future_card(
        run.slug,
        type(state).__name__,
        state.message,
        name=run.name,
        attempts=[_try(attempt) for attempt in run.attempts],
        inputs=run.inputs,
        traceback=state.traceback if isinstance(state, Failed) else "",
    )


@html_of.register
def _(future: TaskRunFuture) -> str:  # type: ignore[type-arg]
    if future._record is None:
        # Not sent yet, or not known any more: whoever only looks does not wait for it.
        state = future.state
        return cards.future_card(future.slug, type(state).__name__, state.message)
    return _task_run(future.task_run)


@html_of.register
def _(futures: TaskRunFutures) -> str:  # type: ignore[type-arg]
    states = [(future.slug, future.state) for future in futures]
    counts = Counter(type(state).__name__ for _, state in states)
    failed = [(slug, state.message) for slug, state in states if state.is_failed()]
    return cards.futures_card(futures.name, counts, failed)


def _try(attempt: Attempt) -> cards.Try:
    began, ended = attempt.started, attempt.ended
    seconds = None if began is None or ended is None else ended - began
    return cards.Try(attempt.number, attempt.outcome, attempt.worker, seconds, attempt.error or "")


def _written(signature: Signature) -> str:
    """Write a signature as it was written, but with each default in a line."""
    parameters = [
        parameter.replace(
            annotation=_unquoted(parameter.annotation),
            default=_default_line(parameter.default),
        )
        for parameter in signature.parameters.values()
    ]
    returned = _unquoted(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


class _Words:
    """Is written as it is, where others are by their reprs."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _unquoted(annotation: Any) -> Any:
    # Under `from __future__ import annotations` all are text, which nobody wrote in quotes.
    return _Words(annotation) if isinstance(annotation, str) else annotation


def _default_line(default: Any) -> Any:
    return default if default is Parameter.empty else _Words(line_of(default))


def _told(value: object) -> str:
    """Write the value of an option: functions are known by their names."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_told, value))}]"
    name = getattr(value, "__name__", None)
    return name if callable(value) and isinstance(name, str) else line_of(value)
