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
    from opentelemetry.trace import Span, Tracer

#: So many upstream runs are linked to, besides the one that is the parent.
_LINKS: Final = 32
#: Outcomes that a span shows as errors.
_ERRORS: Final = frozenset(
    {"failed", "retrying", "timed-out", "crashed", "worker-lost"}
)  # fmt: skip


class OpenTelemetry:
    """Makes a trace of each flow run; give it to a runner as ``on_event``.

    The flow run is the root span, and each attempt a span of its own, under the attempt of that
    upstream run which ended last; of further ones, and of the attempt before, there are links. A
    span is made when the client has heard of the attempt's end, with the worker's own times. What
    was submitted without a flow is one trace for each runner.

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
    """One run's."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._root: Span | None = None
        #: Under what everything is that waited for nothing.
        self._base: Context | None = None
        self._made: dict[str, int] = {}
        #: The last attempt of each task run, and whichever ended last of all that it is made of.
        self._bodies: dict[str, Context] = {}
        self._ends: dict[str, tuple[int, Context]] = {}
        self._whole_of: dict[str, str] = {}
        self._count = 0

    def take(self, change: StateChange) -> None:
        if change.slug is None:
            self._take_run(change)
        else:
            self._take_task_run(change, change.slug)

    # -- the run --------------------------------------------------------------------------

    def _take_run(self, change: StateChange) -> None:
        if change.new == "Running":
            self._open_root(change)
            return
        if self._root is None:
            # A run of nothing ends with its first event.
            self._open_root(change)
        assert self._root is not None
        self._root.set_attribute("dask_taskrunner.state", change.new)
        if issubclass(STATE_CLASSES[change.new], Failed):
            _set_error(self._root, change.message or change.new)
        self._root.end(_nanoseconds(change.at))
        self._root = None

    def _open_root(self, change: StateChange) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        self._root = self._tracer.start_span(
            change.flow_name or change.run_name,
            # A run that goes on after a pause is a span under what it was before.
            context=self._base or Context(),
            start_time=_nanoseconds(change.at),
            attributes=_of_run(change),
        )
        self._base = self._base or set_span_in_context(self._root, Context())

    # -- the task runs --------------------------------------------------------------------

    def _take_task_run(self, change: StateChange, slug: str) -> None:
        if change.part_of is not None:
            self._whole_of[slug] = change.part_of
        if self._base is None:
            self._open_root(change)
        parent, others = self._upstream(change)
        # A single call that is forgotten brings no more than its last attempt.
        made = (
            min(self._made.get(slug, 0), max(0, len(change.attempts) - 1))
            if (change.task is None)
            else self._made.get(slug, 0)
        )
        for attempt in change.attempts[made:]:
            if attempt.outcome == "running":
                break
            before = [self._bodies[slug]] if slug in self._bodies else []
            self._bodies[slug] = self._span(change, attempt, parent, [*before, *others])
            self._made[slug] = self._made.get(slug, 0) + 1
            self._ended(slug, self._bodies[slug])
        if _is_final(change.new) and slug not in self._ends:
            # What was not run stands in nobody's way: others are under what it waited for.
            self._ended(slug, parent)

    def _upstream(self, change: StateChange) -> tuple[Context, list[Context]]:
        """Return what an attempt is under, and what else it waited for."""
        found: list[tuple[int, Context]] = []
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

    def _ended(self, slug: str, context: Context) -> None:
        self._count += 1
        self._ends[slug] = (self._count, context)
        whole = self._whole_of.get(slug)
        if whole is not None:
            self._ended(whole, context)

    def _span(
        self, change: StateChange, attempt: Attempt, parent: Context, others: list[Context]
    ) -> Context:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, get_current_span, set_span_in_context

        started = change.at if attempt.started is None else attempt.started
        span = self._tracer.start_span(
            change.task or change.slug or "",
            context=parent,
            links=[Link(get_current_span(other).get_span_context()) for other in others],
            start_time=_nanoseconds(started),
            attributes=_of_run(change) | _of_attempt(change, attempt),
        )
        ended = max(started, attempt.ended or started)
        if attempt.outcome in _ERRORS:
            _set_error(span, attempt.error or attempt.outcome)
            kind, _, text = (attempt.error or attempt.outcome).partition(": ")
            described = {"exception.type": kind, "exception.message": text}
            span.add_event("exception", described, _nanoseconds(ended))
        span.end(_nanoseconds(ended))
        return set_span_in_context(span, Context())


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
