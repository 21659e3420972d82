"""Makes OpenTelemetry spans of what a runner tells: a trace for each run, a span for each attempt.

It is one of those that are told of each change of state, and knows no more than that. The package
``opentelemetry-api`` is loaded where it is used: it is an optional extra.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.machine.records import Attempt
from dask_taskrunner.observing import StateChange
from dask_taskrunner.states import STATE_CLASSES, Failed, Finished

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

#: So many upstream runs are linked to, besides the one that is the parent.
_LINKS: Final = 32
#: So many single calls are remembered, for those to come that wait for them.
_CALLS: Final = 10_000
#: Outcomes that a span shows as errors, and what :meth:`TaskRun.result` raises for them where the
#: task has raised nothing.
_ERRORS: Final = {
    "failed": "TaskRunnerError",
    "retrying": "TaskRunnerError",
    "timed-out": "TaskTimedOut",
    "crashed": "TaskCrashed",
    "worker-lost": "TaskCrashed",
}


class OpenTelemetry:
    """Makes a trace of each flow run; give it to a runner as ``on_event``.

    The flow run is the root span, and each attempt a span of its own, under the attempt of that
    upstream run which ended last; of further ones, and of the attempt before, there are links. A
    span is made when the client has heard of the attempt's end, with the worker's own times; that
    of a body which still ran when its task run was cancelled, or its flow run over, ends then, and
    its outcome is ``running``. What was submitted without a flow is one trace for each runner.

    Parameters
    ----------
    tracer_provider : opentelemetry.trace.TracerProvider, optional
        Default: the global one.

    Raises
    ------
    OptionError
        OpenTelemetry is not installed.

    Examples
    --------
    >>> DaskTaskRunner(on_event=OpenTelemetry())  # doctest: +SKIP
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        try:
            # Not at the top of the file: it is optional, and importing us must stay cheap.
            from opentelemetry import trace
        except ImportError as error:
            raise OptionError(
                "OpenTelemetry() needs the package opentelemetry-api: "
                "pip install 'dask-taskrunner[otel]'"
            ) from error
        provider = tracer_provider or trace.get_tracer_provider()
        self._tracer: Tracer = provider.get_tracer("dask_taskrunner")
        # Each run tells in a thread of its own.
        self._lock = threading.Lock()
        self._traces: dict[str, _Trace] = {}

    def __call__(self, change: StateChange) -> None:
        """Take in a change of state."""
        with self._lock:
            trace = self._traces.get(change.run_id)
            if trace is None:
                trace = self._traces[change.run_id] = _Trace(self._tracer)
            trace.take(change)
            if change.slug is None and _is_final(change.new):
                del self._traces[change.run_id]


class _Trace:
    """One run's.

    A span is made and ended in one step, and only its context is kept: a run may have very many.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._root: Span | None = None
        #: Under what everything is that waited for nothing.
        self._base: SpanContext | None = None
        self._made: dict[str, int] = {}
        #: The last attempt of each task run, and whichever ended last of all that it is made of.
        self._bodies: dict[str, SpanContext] = {}
        self._ends: dict[str, tuple[int, SpanContext]] = {}
        self._whole_of: dict[str, str] = {}
        #: Of those whose bodies run, what was told last.
        self._running: dict[str, StateChange] = {}
        self._count = 0

    def take(self, change: StateChange) -> None:
        if change.slug is None:
            self._take_run(change)
        else:
            self._take_task_run(change, change.slug)
            if change.flow_name is None:
                self._forget()

    def _forget(self) -> None:
        """Forget the oldest of single calls, which have no end."""
        for known in (self._made, self._bodies, self._ends, self._whole_of):
            if len(known) > _CALLS:
                del known[next(iter(known))]

    # -- the run --------------------------------------------------------------------------

    def _take_run(self, change: StateChange) -> None:
        if change.new == "Running":
            self._open_root(change)
            return
        if self._root is None:
            # A run of nothing ends with its first event.
            self._open_root(change)
        assert self._root is not None
        # Nothing more is told of a run that was cancelled, or whose cluster was lost.
        for slug, last in [*self._running.items()] if _is_final(change.new) else ():
            self._make_spans(last._replace(at=change.at), slug, is_over=True)
        self._root.set_attribute("dask_taskrunner.state", change.new)
        if issubclass(STATE_CLASSES[change.new], Failed):
            _set_error(self._root, change.message or change.new)
        self._root.end(_nanoseconds(change.at))
        self._root = None

    def _open_root(self, change: StateChange) -> None:
        self._root = self._tracer.start_span(
            change.flow_name or change.run_name,
            # A run that goes on after a pause is a span under what it was before.
            context=_under(self._base),
            start_time=_nanoseconds(change.at),
            attributes=_of_run(change),
        )
        self._base = self._base or self._root.get_span_context()

    # -- the task runs --------------------------------------------------------------------

    def _take_task_run(self, change: StateChange, slug: str) -> None:
        if change.part_of is not None:
            self._whole_of[slug] = change.part_of
        if self._base is None:
            self._open_root(change)
        parent = self._make_spans(change, slug, is_over=_is_final(change.new))
        if _is_final(change.new) and slug not in self._ends:
            # What was not run stands in nobody's way: others are under what it waited for.
            self._ended(slug, parent)

    def _make_spans(self, change: StateChange, slug: str, *, is_over: bool) -> SpanContext:
        """Make a span of each attempt that has ended, or will not be heard of any more.

        Returns
        -------
        SpanContext
            What they are under.
        """
        parent, others = self._upstream(change)
        made = self._made.get(slug, 0)
        if change.task is None:
            # A single call that is forgotten brings no more than its last attempt.
            made = min(made, max(0, len(change.attempts) - 1))
        for attempt in change.attempts[made:]:
            if attempt.outcome == "running" and not is_over:
                self._running[slug] = change
                break
            before = [self._bodies[slug]] if slug in self._bodies else []
            self._bodies[slug] = self._span(change, attempt, parent, [*before, *others])
            self._made[slug] = self._made.get(slug, 0) + 1
            self._running.pop(slug, None)
            self._ended(slug, self._bodies[slug])
        return parent

    def _upstream(self, change: StateChange) -> tuple[SpanContext, list[SpanContext]]:
        """Return what an attempt is under, and what else it waited for."""
        found: list[tuple[int, SpanContext]] = []
        for slug in change.upstream:
            if slug == change.part_of and slug in self._bodies:
                # It is a part of that one, and waited for its body only.
                found.append((0, self._bodies[slug]))
            elif slug in self._ends:
                found.append(self._ends[slug])
        found.sort(key=lambda one: one[0], reverse=True)
        contexts = [context for _, context in found]
        assert self._base is not None
        return (contexts[0], contexts[1 : 1 + _LINKS]) if contexts else (self._base, [])

    def _ended(self, slug: str, context: SpanContext) -> None:
        self._count += 1
        self._ends[slug] = (self._count, context)
        whole = self._whole_of.get(slug)
        if whole is not None:
            self._ended(whole, context)

    def _span(
        self,
        change: StateChange,
        attempt: Attempt,
        parent: SpanContext,
        others: list[SpanContext],
    ) -> SpanContext:
        from opentelemetry.trace import Link

        started = change.at if attempt.started is None else attempt.started
        ended = max(started, change.at if attempt.ended is None else attempt.ended)
        span = self._tracer.start_span(
            change.task or change.slug or "",
            context=_under(parent),
            links=[Link(other) for other in others],
            start_time=_nanoseconds(started),
            attributes=_of_run(change) | _of_attempt(change, attempt),
        )
        # What asked to be tried again has gone wrong in nobody's eyes.
        if attempt.outcome in _ERRORS and attempt.error is not None:
            _set_error(span, attempt.error)
            span.add_event("exception", _exception(change, attempt), _nanoseconds(ended))
        span.end(_nanoseconds(ended))
        return span.get_span_context()


def _under(parent: SpanContext | None) -> Context:
    """Return what makes a span the child of another one that may be over, or of none."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    # Whatever span is open where this is called has nothing to do with it.
    return set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()


def _exception(change: StateChange, attempt: Attempt) -> dict[str, str]:
    """Return what is told of an error, in the words of OpenTelemetry's conventions."""
    error, stands_in = attempt.error or "", _ERRORS[attempt.outcome]
    kind, colon, text = error.partition(": ")
    is_newest = attempt.number == len(change.attempts)
    if is_newest and change.error_type:
        # What a signal says is not preceded by a type.
        told = {"exception.type": change.error_type}
        told["exception.message"] = text if colon and kind == change.error_type else error
    elif kind.isidentifier() and stands_in == "TaskRunnerError":
        told = {"exception.type": kind, "exception.message": text}
    else:
        told = {"exception.type": stands_in, "exception.message": error}
    if is_newest and change.traceback:
        told["exception.stacktrace"] = change.traceback
    return told


def _of_run(change: StateChange) -> dict[str, str | int]:
    named = {"run_id": change.run_id, "run_name": change.run_name, "flow": change.flow_name}
    return {f"dask_taskrunner.{name}": value for name, value in named.items() if value is not None}


def _of_attempt(change: StateChange, attempt: Attempt) -> dict[str, str | int]:
    return {
        "dask_taskrunner.task_run": change.slug or "",
        "dask_taskrunner.map_index": change.map_index,
        "dask_taskrunner.attempt": attempt.number,
        "dask_taskrunner.run_number": attempt.run_number,
        "dask_taskrunner.submission": attempt.submission,
        "dask_taskrunner.worker": attempt.worker,
        "dask_taskrunner.outcome": attempt.outcome,
    }


def _set_error(span: Span, text: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, text))


def _is_final(state: str) -> bool:
    return issubclass(STATE_CLASSES[state], Finished)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
