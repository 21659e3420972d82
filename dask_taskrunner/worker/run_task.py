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
from typing import Any

from distributed import Worker, get_worker

from dask_taskrunner.exceptions import ResultNotSerializable, TaskRunnerError
from dask_taskrunner.graph.mapping import elements_if_any, measure
from dask_taskrunner.headers import (
    NOTHING_MORE,
    Header,
    describe,
    small_result,
    state_name,
)
from dask_taskrunner.run_context import context, no_entries
from dask_taskrunner.short_texts import shorten_message
from dask_taskrunner.states import (
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
)
from dask_taskrunner.task_runner import TaskRunner
from dask_taskrunner.time_limits import is_overdue
from dask_taskrunner.tracebacks import user_traceback
from dask_taskrunner.user_code import error_text
from dask_taskrunner.worker.arguments import Arguments, LengthChanged
from dask_taskrunner.worker.bodies import body_of, checked
from dask_taskrunner.worker.claims import claim_start
from dask_taskrunner.worker.envelope import Envelope, Received, open_parts, open_result, size_of
from dask_taskrunner.worker.expanding import pickled
from dask_taskrunner.worker.gathering import Upstream, gathered, name_all
from dask_taskrunner.worker.lines import BodyLines
from dask_taskrunner.worker.open_flow import open_flow
from dask_taskrunner.worker.outbox import OUTBOX
from dask_taskrunner.worker.reports import START_REPORTS
from dask_taskrunner.worker.transfers import fetched, note_end
from dask_taskrunner.worker.wire import NARROW, Call


def run_task(
    call: bytes, definition: list[Any], references: tuple[Any, ...], worker: Any = None
) -> Envelope:
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
    worker : object, optional
        What stands for a Dask worker where there is none; default: the one of this thread.
    """
    execution = _Execution(Call._make(pickle.loads(call)), definition, worker)
    # Where a task makes room for another one, Dask begins that one in a copy of its context.
    with no_entries():
        return execution.run(references)


class _Execution:
    """What one execution needs on its way."""

    def __init__(self, call: Call, definition: list[Any], worker: Any) -> None:
        self.call = call
        self.flow = open_flow(definition)
        self.worker: Worker = get_worker() if worker is None else worker
        self.key = self.worker.get_current_task()
        self.number = random.getrandbits(60)
        # Before Dask lets go of what was fetched.
        self.fetched = fetched(self.worker, self.key)
        self.lines = BodyLines(self.worker, self.flow.definition.topic, call, self.number)
        self.started: float | None = None
        self.seconds: float | None = None
        #: What the body raised, for the attempts' list: a retry's state does not carry it.
        self.error: str | None = None
        #: What people call this run, where its task names its runs.
        self.name: str | None = None
        #: Why there are no inputs.
        #: The iteration before, which lies on this worker or came from another one.
        self.before: Any = None
        self.unopened: TaskRunnerError | None = None
        #: Whether a second start of this attempt is to be found out.
        self.claims = False

    def run(self, references: tuple[Any, ...]) -> Envelope:
        call = self.call
        # Many references come as one list, and few are padded with None where the runs of a
        # message have differently many.
        if call.references > NARROW:
            references = tuple(references[0])
        own = references[: call.references]
        constants, own = own[: call.constants], own[call.constants :]
        cached = None
        if call.loop_count > 1:
            own, self.before = own[:-1], own[-1]
        elif call.has_cached:
            own, cached = own[:-1], own[-1]
        upstream = [] if call.is_foreign else self._receive(own)
        arguments = Arguments(call, upstream, constants, own if call.is_foreign else ())
        waits_for = next(
            (r.header for r in arguments.received() if not r.state.is_finished()), None
        )
        state = self._run_pipeline(arguments, cached, waits_for is None)
        note_end()
        if call.is_mapped_over and isinstance(state, Success):
            state = self._with_elements(state)
        header = self._header(state, waits_for)
        OUTBOX.send(
            self.worker,
            self.flow.definition.topic,
            [self.call.run, header.to_wire()],
            self.key,
            self.lines.take_rest(),
        )
        if isinstance(state, Pending):
            # The inputs that it has cached come again with the next submission. In a copy, for a
            # cached state that it began with may be another run's as well.
            state = copy.copy(state)
            state.cached_inputs = None
        return Envelope(header, self.call.slug, state)

    def _receive(self, upstream: tuple[Any, ...]) -> list[Upstream]:
        held = iter(upstream)
        by_value = self.call.by_value
        received = [
            Received.by_value(*by_value[position]) if position in by_value else Received(next(held))
            for position in range(len(by_value) + len(upstream))
        ]
        widths = self.call.widths
        found: list[Upstream] = [*received]
        if widths:
            found = gathered(received, widths, self.call.trees)
        for position, slug in self.call.known_as.items():
            name_all(found[position], slug)
        return found

    def _run_pipeline(self, arguments: Arguments, cached: Any, ready: bool) -> State:
        call = self.call
        try:
            task = self._task()
            if getattr(task, "wants_ends", False):
                arguments = arguments._replace(wants_ends=True)
            inputs = self._inputs(arguments) if ready and not call.expands else {}
            initial = self._initial(cached)
            context = self._context(arguments)
        except Exception as error:  # noqa: BLE001 (the user's modules and classes are unpickled)
            return self._failed(error, "was unpickled")
        if self.unopened is not None or call.expands:
            # There are no inputs to name the run by, and the body's error is the one to tell.
            task.task_run_name = None
        runner = _Expansion(task) if call.expands else TaskRunner(task)
        return runner.run(
            state=initial,
            upstream_states=arguments.states(),
            inputs=inputs,
            ignore_trigger=call.ignores_trigger,
            context=context,
        )

    def _failed(self, error: Exception, what: str) -> Failed:
        """Return the state for what failed before or after the pipeline."""
        text = f"{type(error).__name__}: {error}"
        return Failed(
            message=f"{text} (when {self.call.slug} {what} on worker {self.worker.address})",
            exception=error,
            traceback=user_traceback(error),
        )

    def _with_elements(self, state: Success) -> State:
        """Return a state with a result of which others can take elements, wherever it is from.

        A signal or a state handler may have brought what can be read only once.
        """
        try:
            elements = elements_if_any(state.result)
        except Exception as error:  # noqa: BLE001 (the user's own iterator)
            return self._failed(error, "was made a list")
        return state if elements is state.result else state.copy_with(result=elements)

    def _initial(self, cached: Any) -> State:
        """Return the state that this execution begins with."""
        call = self.call
        if call.run_number > 1:
            return Retrying(last_run_number=call.run_number - 1)
        if call.loop_count > 1:
            return Looped(self._loop_result(), loop_count=call.loop_count - 1)
        if isinstance(cached, list):
            large: State = open_parts(cached)
            return large
        if cached is not None:
            return _of_earlier_run(cached) or Pending()
        if call.initial is not None:
            initial: State = pickle.loads(call.initial)
            return initial
        return Pending()

    def _task(self) -> Any:
        """Return this execution's own copy of the task, with its clock around the body."""
        task = copy.copy(self.flow.task(self.call.definition))
        task.name, task.slug = self.call.name, self.call.slug
        if self.call.ignores_trigger:
            task.skip_on_upstream_skip = False
            # What catches skips has a rule of its own.
            task.ignores_branch = True
        body = task.call
        if self.call.is_mapped_over or task.timeout is not None or task.isolate is not None:
            code = self.flow.definition.tasks[self.call.definition]
            body = body_of(task, code, self.worker, self.call, self._is_cancelled)
        # It is kept here, inside of what else is done around a body.
        task.timeout = None
        self.claims = not task.rerun_on_loss
        if task.check_result:
            body = checked(body)
        if task.task_run_name is not None:
            body = self._remembering_name(body)
        body = self.lines.around(body, task)
        task.call = lambda inputs: self._timed(lambda given: pickled(body(given), task), inputs)
        return task

    def _remembering_name(self, body: Any) -> Any:
        def call(inputs: Mapping[str, Any]) -> Any:
            self.name = context.task_run_name
            return body(inputs)

        return call

    def _timed(self, body: Any, inputs: Mapping[str, Any]) -> Any:
        if self.unopened is not None:
            raise self.unopened
        if self.claims:
            claim_start(self.worker, self.call)
        call, number = self.call, self.number
        self.started = time.time()
        line = [call.n, call.map_index, call.submission, number, self.started]
        START_REPORTS.began(number, self.worker, self.flow.definition.topic, call.run, line)
        begin = time.monotonic()
        try:
            return body(inputs)
        except BaseException as error:
            self.error = error_text(error)
            raise
        finally:
            self.seconds = time.monotonic() - begin
            START_REPORTS.ended(number)

    def _inputs(self, arguments: Arguments) -> dict[str, Any]:
        try:
            arguments.open()
            return arguments.inputs()
        except (ResultNotSerializable, LengthChanged) as error:
            # The body is the place to raise it: after the trigger, and as a failure like others.
            self.unopened = error
            return {}

    def _context(self, arguments: Arguments) -> dict[str, Any]:
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
            "task_loop_count": call.loop_count,
            "task_loop_result": self._loop_result(),
            "cancelled": self._is_cancelled,
        }

    def _is_cancelled(self) -> bool:
        """Return whether nobody wants this execution's result any more."""
        task = self.worker.state.tasks.get(self.key) if self.key is not None else None
        return is_overdue() or (task is not None and task.state == "cancelled")

    def _loop_result(self) -> Any:
        return None if self.before is None else open_result(self.before).state.result

    def _header(self, state: State, waits_for: Header | None) -> Header:
        call = self.call
        kind, nbytes, small = "", 0, None
        if isinstance(state, (Success, Looped)):
            result = state.result
            # A skip without a result has none, which is not the same as None.
            if result is not None or not isinstance(state, Skipped):
                small = small_result(result)
                kind, nbytes = type(result).__name__, len(small) if small else size_of(result)
        more = describe(state, self.name)
        if self.error is not None and not isinstance(state, Failed):
            more = {**more, "error": shorten_message(self.error)}
        if call.is_mapped_over and kind:
            more = {**more, **measure(state.result)}
        if call.expands and isinstance(state, Running):
            more = {**more, "expands": True}
        elif isinstance(state, Running):
            # The body has returned a graph, which the client fetches.
            kind, nbytes = "graph", len(state.result)
            more = {**more, "grew": True, "outcome": "success"}
        if self.fetched:
            more = {**more, "fetched": self.fetched}
        if waits_for is not None:
            more = {**more, "waits_for": list(waits_for.id)}
        return Header(
            call.n, call.map_index, call.submission, self.number, state_name(state),
            shorten_message(state.message), self.worker.address, call.run_number, self.started,
            self.seconds, state.at, kind, nbytes, small, more or NOTHING_MORE,
        )  # fmt: skip


class _Expansion(TaskRunner):
    """Says of a mapped task's run whether its children may be run at all."""

    def get_pre_run_state(self, state: State, *args: Any, **kwargs: Any) -> State | None:
        """Return a final state, or `Running`: what else a trigger asks for, the children do."""
        new = super().get_pre_run_state(state, *args, **kwargs)
        return new if new is None or new.is_finished() else Running()

    def get_run_state(
        self,
        state: State,  # noqa: ARG002 (the children have the bodies)
        inputs: Any = None,  # noqa: ARG002
        parameters: Any = None,  # noqa: ARG002
    ) -> State | None:
        """Return None: nothing is run."""
        return None


def _of_earlier_run(source: Any) -> State | None:
    try:
        return Received(source).open_cached()
    except Exception:  # noqa: BLE001 (what cannot be opened here is no reason not to run)
        return None
