"""One execution of one submission: inputs in, :class:`TaskRunner`, an envelope out.

It turns what Dask hands over into the pipeline's terms and back, and tells the client by a header
what came of it. It decides nothing about states.
"""

from __future__ import annotations

import copy
import pickle
import random
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from dask.sizeof import sizeof
from distributed import Worker, get_worker

from dask_taskrunner.exceptions import MissingResult, ResultNotSerializable
from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.headers import (
    NOTHING_MORE,
    Header,
    describe,
    shorten_message,
    small_result,
    state_name,
)
from dask_taskrunner.run_context import context, no_entries
from dask_taskrunner.states import Failed, Pending, Retrying, Skipped, State, Success
from dask_taskrunner.task_runner import TaskRunner
from dask_taskrunner.tracebacks import user_traceback
from dask_taskrunner.worker.envelope import Envelope, Received
from dask_taskrunner.worker.outbox import OUTBOX
from dask_taskrunner.worker.placeholders import Placeholder
from dask_taskrunner.worker.reports import START_REPORTS
from dask_taskrunner.worker.wire import Call, FlowDefinition

#: How many flow runs' definitions a process keeps open.
_OPEN_FLOWS: Final = 16
_flows: OrderedDict[str, _OpenFlow] = OrderedDict()


class _OpenFlow:
    """A flow run's shared definition, unpickled as far as it was needed."""

    def __init__(self, definition: bytes) -> None:
        self.definition = FlowDefinition._make(pickle.loads(definition))
        self.context: dict[str, Any] = pickle.loads(self.definition.context)
        self._tasks: dict[int, Any] = {}

    def task(self, position: int) -> Any:
        """Return a task's definition. What unpickling it raises is the user's to see."""
        if position not in self._tasks:
            self._tasks[position] = pickle.loads(self.definition.tasks[position])
        return self._tasks[position]


def run_task(call: bytes, definition: bytes, upstream: tuple[Any, ...]) -> Envelope:
    """Run a task run's pipeline.

    Parameters
    ----------
    call : bytes
        A pickled :class:`~dask_taskrunner.worker.wire.Call`.
    definition : bytes
        A pickled :class:`~dask_taskrunner.worker.wire.FlowDefinition`.
    upstream : tuple
        The upstream envelopes or their wire forms, in the plan's order, without those that
        came by value.
    """
    execution = _Execution(Call._make(pickle.loads(call)), definition)
    # Where a task makes room for another one, Dask begins that one in a copy of its context.
    with no_entries():
        return execution.run(upstream)


class _Execution:
    """What one execution needs on its way."""

    def __init__(self, call: Call, definition: bytes) -> None:
        self.call = call
        self.flow = _open_flow(call.run, definition)
        self.worker: Worker = get_worker()
        self.number = random.getrandbits(60)
        self.started: float | None = None
        self.seconds: float | None = None
        #: What the body raised, for the attempts' list: a retry's state does not carry it.
        self.error: str | None = None
        #: What people call this run, where its task names its runs.
        self.name: str | None = None
        self.unopened: ResultNotSerializable | None = None

    def run(self, upstream: tuple[Any, ...]) -> Envelope:
        received = self._receive(upstream)
        waits_for = next((r.header for r in received if not r.state.is_finished()), None)
        state = self._run_pipeline(received, waits_for is None)
        header = self._header(state, waits_for)
        OUTBOX.send(
            self.worker,
            self.flow.definition.topic,
            [self.call.run, header.to_wire()],
        )
        if isinstance(state, Pending):
            # The inputs that it has cached come again with the next submission.
            state.cached_inputs = None
        return Envelope(header, self.call.slug, state)

    def _receive(self, upstream: tuple[Any, ...]) -> list[Received]:
        # Many upstream runs come as one list.
        if upstream and isinstance(upstream[0], list):
            upstream = tuple(upstream[0])
        held = iter(upstream)
        by_value = self.call.by_value
        # Dask pads with None where a message's runs have differently many upstream runs.
        count = len(by_value) + sum(source is not None for source in upstream)
        return [
            Received.by_value(*by_value[position]) if position in by_value else Received(next(held))
            for position in range(count)
        ]

    def _run_pipeline(self, received: list[Received], ready: bool) -> State:
        call = self.call
        try:
            task = self._task()
            inputs = self._inputs(received) if ready else {}
        except Exception as error:  # noqa: BLE001 (the user's modules and classes are unpickled)
            text = f"{type(error).__name__}: {error}"
            return Failed(
                message=f"{text} (when {call.slug} was unpickled on worker {self.worker.address})",
                exception=error,
                traceback=user_traceback(error),
            )
        if self.unopened is not None:
            # There are no inputs to name the run by, and the body's error is the one to tell.
            task.task_run_name = None
        initial: State = Pending()
        if call.run_number > 1:
            initial = Retrying(last_run_number=call.run_number - 1)
        return TaskRunner(task).run(
            state=initial,
            upstream_states={r.slug: r.state for r in received},
            inputs=inputs,
            context=self._context(),
        )

    def _task(self) -> Any:
        """Return this execution's own copy of the task, with its clock around the body."""
        task = copy.copy(self.flow.task(self.call.definition))
        task.name, task.slug = self.call.name, self.call.slug
        body = task.call
        if task.task_run_name is not None:
            body = self._remembering_name(body)
        task.call = lambda inputs: self._timed(body, inputs)
        return task

    def _remembering_name(self, body: Any) -> Any:
        def call(inputs: Mapping[str, Any]) -> Any:
            self.name = context.task_run_name
            return body(inputs)

        return call

    def _timed(self, body: Any, inputs: Mapping[str, Any]) -> Any:
        if self.unopened is not None:
            raise self.unopened
        call, number = self.call, self.number
        self.started = time.time()
        line = [call.n, call.map_index, call.submission, number, self.started]
        START_REPORTS.began(number, self.worker, self.flow.definition.topic, call.run, line)
        begin = time.monotonic()
        try:
            return body(inputs)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.seconds = time.monotonic() - begin
            START_REPORTS.ended(number)

    def _inputs(self, received: list[Received]) -> dict[str, Any]:
        try:
            for upstream in received:
                upstream.open()
        except ResultNotSerializable as error:
            # The body is the place to raise it: after the trigger, and as a failure like others.
            self.unopened = error
            return {}

        def result_of(placeholder: Any) -> Any:
            source = received[placeholder.position]
            # A header without a kind has no result; None has one: NoneType.
            if source.header.kind:
                return source.state.result
            return MissingResult(source.slug, source.state)

        arguments: dict[str, Any] = pickle.loads(self.call.arguments)
        return {name: replace(value, Placeholder, result_of) for name, value in arguments.items()}

    def _context(self) -> dict[str, Any]:
        call = self.call
        return {
            **self.flow.context,
            "task_run_number": call.run_number,
            "attempt": call.attempt,
            "task_name": call.name,
            "slug": call.slug,
            "map_index": call.map_index,
        }

    def _header(self, state: State, waits_for: Header | None) -> Header:
        call = self.call
        kind, nbytes, small = "", 0, None
        if isinstance(state, Success):
            result = state.result
            # A skip without a result has none, which is not the same as None.
            if result is not None or not isinstance(state, Skipped):
                small = small_result(result)
                kind, nbytes = type(result).__name__, len(small) if small else _size_of(result)
        more = describe(state, self.name)
        if self.error is not None and not isinstance(state, Failed):
            more = {**more, "error": shorten_message(self.error)}
        if waits_for is not None:
            more = {**more, "waits_for": list(waits_for.id)}
        return Header(
            call.n, call.map_index, call.submission, self.number, state_name(state),
            shorten_message(state.message), self.worker.address, call.run_number, self.started,
            self.seconds, state.at, kind, nbytes, small, more or NOTHING_MORE,
        )  # fmt: skip


def _size_of(result: object) -> int:
    """Return a result's size as Dask estimates it; 0 where its class gets in the way."""
    try:
        return int(sizeof(result))
    except Exception:  # noqa: BLE001 (a user's `__sizeof__` may do anything)
        return 0


def _open_flow(run: str, definition: bytes) -> _OpenFlow:
    flow = _flows.get(run)
    if flow is None:
        # Two threads may both open it; they agree, and one of the two is dropped.
        flow = _flows[run] = _OpenFlow(definition)
        while len(_flows) > _OPEN_FLOWS:
            _flows.popitem(last=False)
    return flow
