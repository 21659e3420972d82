"""One execution of one submission: inputs in, :class:`TaskRunner`, an envelope out.

It turns what Dask hands over into the pipeline's terms and back, and tells the client by a header
what came of it. It decides nothing about states.
"""

from __future__ import annotations

import copy
import pickle
import random
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

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
from dask_taskrunner.worker.envelope import Envelope, Received, open_parts, size_of
from dask_taskrunner.worker.outbox import OUTBOX
from dask_taskrunner.worker.placeholders import ConstantPlaceholder, Placeholder
from dask_taskrunner.worker.reports import START_REPORTS
from dask_taskrunner.worker.wire import NARROW, Call, FlowDefinition


class _OpenFlow:
    """A flow run's shared definition, unpickled as far as it was needed."""

    def __init__(self, data: bytes) -> None:
        self.definition = FlowDefinition._make(pickle.loads(data))
        self._size = len(data)
        self._context: dict[str, Any] | None = None
        self._tasks: dict[int, Any] = {}

    @property
    def context(self) -> dict[str, Any]:
        """What all task runs have in their context. What opening it raises is the user's, too."""
        if self._context is None:
            self._context = pickle.loads(self.definition.context)
        return self._context

    def task(self, position: int) -> Any:
        """Return a task's definition. What unpickling it raises is the user's to see."""
        if position not in self._tasks:
            self._tasks[position] = pickle.loads(self.definition.tasks[position])
        return self._tasks[position]

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        # To another worker it goes as it came.
        return bytes, (pickle.dumps(tuple(self.definition)),)

    def __sizeof__(self) -> int:
        return self._size


def run_task(call: bytes, definition: list[Any], references: tuple[Any, ...]) -> Envelope:
    """Run a task run's pipeline.

    Parameters
    ----------
    call : bytes
        A pickled :class:`~dask_taskrunner.worker.wire.Call`.
    definition : list
        Holds a pickled :class:`~dask_taskrunner.worker.wire.FlowDefinition`, and is given the
        opened one in its place.
    references : tuple
        Constants, then the upstream envelopes or their wire forms, in the plan's order, without
        those that came by value, then the envelope of a cached result or a large state to begin
        with.
    """
    execution = _Execution(Call._make(pickle.loads(call)), definition)
    # Where a task makes room for another one, Dask begins that one in a copy of its context.
    with no_entries():
        return execution.run(references)


class _Execution:
    """What one execution needs on its way."""

    def __init__(self, call: Call, definition: list[Any]) -> None:
        self.call = call
        self.flow = _open_flow(definition)
        self.worker: Worker = get_worker()
        self.number = random.getrandbits(60)
        self.started: float | None = None
        self.seconds: float | None = None
        #: What the body raised, for the attempts' list: a retry's state does not carry it.
        self.error: str | None = None
        #: What people call this run, where its task names its runs.
        self.name: str | None = None
        self.unopened: ResultNotSerializable | None = None

    def run(self, references: tuple[Any, ...]) -> Envelope:
        call = self.call
        # Many references come as one list, and few are padded with None where the runs of a
        # message have differently many.
        if call.references > NARROW:
            references = tuple(references[0])
        own = references[: call.references]
        constants, own = own[: call.constants], own[call.constants :]
        cached = None
        if call.has_cached:
            own, cached = own[:-1], own[-1]
        received = [] if call.is_foreign else self._receive(own)
        waits_for = next((r.header for r in received if not r.state.is_finished()), None)
        arguments = _Arguments(call, received, constants, own if call.is_foreign else ())
        state = self._run_pipeline(arguments, cached, waits_for is None)
        header = self._header(state, waits_for)
        OUTBOX.send(
            self.worker,
            self.flow.definition.topic,
            [self.call.run, header.to_wire()],
            self.worker.get_current_task(),
        )
        if isinstance(state, Pending):
            # The inputs that it has cached come again with the next submission. In a copy, for a
            # cached state that it began with may be another run's as well.
            state = copy.copy(state)
            state.cached_inputs = None
        return Envelope(header, self.call.slug, state)

    def _receive(self, upstream: tuple[Any, ...]) -> list[Received]:
        held = iter(upstream)
        by_value = self.call.by_value
        received = [
            Received.by_value(*by_value[position]) if position in by_value else Received(next(held))
            for position in range(len(by_value) + len(upstream))
        ]
        for position, slug in self.call.known_as.items():
            received[position].slug = slug
        return received

    def _run_pipeline(self, arguments: _Arguments, cached: Any, ready: bool) -> State:
        call = self.call
        try:
            task = self._task()
            inputs = self._inputs(arguments) if ready else {}
            initial = self._initial(cached)
            context = self._context(arguments)
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
        return TaskRunner(task).run(
            state=initial,
            upstream_states={r.slug: r.state for r in arguments.received},
            inputs=inputs,
            ignore_trigger=call.ignores_trigger,
            context=context,
        )

    def _initial(self, cached: Any) -> State:
        """Return the state that this execution begins with."""
        call = self.call
        if call.run_number > 1:
            return Retrying(last_run_number=call.run_number - 1)
        if isinstance(cached, list):
            large: State = open_parts(cached)
            return large
        if cached is not None:
            return self._of_earlier_run(cached) or Pending()
        if call.initial is not None:
            initial: State = pickle.loads(call.initial)
            return initial
        return Pending()

    @staticmethod
    def _of_earlier_run(source: Any) -> State | None:
        try:
            return Received(source).open_cached()
        except Exception:  # noqa: BLE001 (what cannot be opened here is no reason not to run)
            return None

    def _task(self) -> Any:
        """Return this execution's own copy of the task, with its clock around the body."""
        task = copy.copy(self.flow.task(self.call.definition))
        task.name, task.slug = self.call.name, self.call.slug
        if self.call.ignores_trigger:
            task.skip_on_upstream_skip = False
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

    def _inputs(self, arguments: _Arguments) -> dict[str, Any]:
        try:
            arguments.open()
        except ResultNotSerializable as error:
            # The body is the place to raise it: after the trigger, and as a failure like others.
            self.unopened = error
            return {}
        return arguments.inputs()

    def _context(self, arguments: _Arguments) -> dict[str, Any]:
        call = self.call
        shared = self.flow.context
        return {
            **shared,
            **arguments.large_parameters(shared.get("parameters", {})),
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
                kind, nbytes = type(result).__name__, len(small) if small else size_of(result)
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


def _open_flow(definition: list[Any]) -> _OpenFlow:
    # Two threads may both open it; they agree, and one of the two is dropped.
    opened = definition[0]
    if not isinstance(opened, _OpenFlow):
        opened = definition[0] = _OpenFlow(opened)
    return opened


class _Arguments(NamedTuple):
    """What comes with an execution, on its way to the inputs of the body."""

    call: Call
    received: list[Received]
    constants: tuple[list[Any], ...]
    #: The plain value of somebody else's future, alone.
    foreign: tuple[Any, ...]

    def open(self) -> None:
        """Open the values upstream.

        Raises
        ------
        ResultNotSerializable
            One of them cannot be opened here.
        """
        for upstream in self.received:
            upstream.open()

    def inputs(self) -> dict[str, Any]:
        """Return the arguments by parameter name."""
        if self.call.is_foreign:
            return {"value": self.foreign[0]}
        arguments: dict[str, Any] = pickle.loads(self.call.arguments)
        return {
            name: replace(value, (Placeholder, ConstantPlaceholder), self._value_of)
            for name, value in arguments.items()
        }

    def large_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flow's parameters, where large ones come beside the arguments."""
        if not any(isinstance(value, ConstantPlaceholder) for value in parameters.values()):
            return {}
        return {
            "parameters": {
                name: self._value_of(value) if isinstance(value, ConstantPlaceholder) else value
                for name, value in parameters.items()
            }
        }

    def _value_of(self, placeholder: Any) -> Any:
        if isinstance(placeholder, ConstantPlaceholder):
            return open_parts(self.constants[placeholder.position])
        source = self.received[placeholder.position]
        # A header without a kind has no result; None has one: NoneType.
        if source.header.kind:
            return source.state.result
        return MissingResult(source.slug, source.state)
