"""The worker's brain: given a task and the state of its run, it returns the next state.

It knows no Dask, no flow and no cluster, asks no other machine, and keeps nothing between runs, so
it can be used alone, in one process. When a retry is due, and who is run next, is decided
elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from dask_taskrunner.exceptions import describe
from dask_taskrunner.input_lines import input_lines
from dask_taskrunner.name_templates import make_name
from dask_taskrunner.retries import accepts
from dask_taskrunner.run_context import context as current
from dask_taskrunner.signals import FAIL, LOOP, TRIGGERFAIL, Signal
from dask_taskrunner.states import (
    CachedState,
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
)
from dask_taskrunner.time_limits import is_overdue
from dask_taskrunner.triggers import Trigger, UpstreamStates, name_of, root_cause
from dask_taskrunner.user_code import (
    RunnableTask,
    StateHandler,
    Values,
    after_own_delay,
    hook_failed,
    hook_name,
    may_be_retried,
    outcome_of,
    outcome_of_body,
    run_number,
    state_of,
    state_of_signal,
)


class TaskRunner:
    """Runs a task: walks its run from one state to the next.

    Parameters
    ----------
    task : Task
        What is run.
    logger_name : str, optional
        The name of the logger that the body finds as ``context.logger``; the default is
        ``dask_taskrunner.`` and the task's name.

    Notes
    -----
    No exception of the task, its trigger, validator, handlers or policies leaves a `TaskRunner`:
    it becomes a state that says where it came from. In tests,
    `dask_taskrunner.testing.raise_on_exception` lets them through.
    """

    def __init__(self, task: RunnableTask, logger_name: str | None = None) -> None:
        self.task = task
        self.logger_name = logger_name

    def run(
        self,
        state: State | None = None,
        upstream_states: UpstreamStates | None = None,
        inputs: Values | None = None,
        ignore_trigger: bool = False,
        context: Values | None = None,
    ) -> State:
        """Run the task, as far as it can go now.

        Parameters
        ----------
        state : State, optional
            What is known of the run so far; the default is a new `Pending`.
        upstream_states : dict, optional
            Slug, or edge, of each upstream run -> its state.
        inputs : dict, optional
            Name of a parameter of the body -> value; the default is what `state` has cached.
        ignore_trigger : bool
            Whether to run without asking the trigger.
        context : dict, optional
            Entries of the context, above those around the call.

        Returns
        -------
        State
            The latest state: `state` itself where nothing changed.
        """
        if state is None:
            state = Pending()
        if inputs is None and not isinstance(state, CachedState):
            inputs = getattr(state, "cached_inputs", None)
        with current(**self._entries(state, context or {})) as entries:
            parameters = entries["parameters"]
            walk: tuple[Callable[[State], State | None], ...] = (
                lambda state: self._named(
                    self.get_pre_run_state(
                        state, upstream_states, ignore_trigger, inputs, parameters
                    ),
                    entries,
                    inputs,
                ),
                lambda state: self.get_run_state(state, inputs, parameters),
                lambda state: self.get_post_run_state(state, inputs),
            )
            for step in walk:
                next_state = step(state)
                if next_state is None:
                    break
                if isinstance(next_state, Failed):
                    entries["task_exception"] = next_state.exception
                if next_state.is_running() and state.is_running():
                    # It goes on as others, and what that comes to is known later.
                    return next_state
                state, may_go_on = self._offer(state, next_state)
                if not may_go_on:
                    break
        return state

    def get_pre_run_state(
        self,
        state: State,
        upstream_states: UpstreamStates | None = None,
        ignore_trigger: bool = False,
        inputs: Values | None = None,
        parameters: Values | None = None,
    ) -> State | None:
        """Return `Running` if the task may run, or what keeps it from running.

        Parameters
        ----------
        state : State
            The state of the run.
        upstream_states, ignore_trigger, inputs
            As in `run`.
        parameters : dict, optional
            The flow's parameters by name, for the cache validator.

        Returns
        -------
        State or None
            ``None`` where the state should not change.
        """
        look = _Look(
            self.task, state, upstream_states or {}, ignore_trigger, inputs or {}, parameters or {}
        )
        for step in _BEFORE_THE_BODY:
            next_state = step(look)
            if next_state is not None:
                return None if next_state is state else next_state
        return Running()

    def get_run_state(
        self, state: State, inputs: Values | None = None, parameters: Values | None = None
    ) -> State | None:
        """Run the body, and return the state that it ends in.

        Parameters
        ----------
        state : State
            The state of the run.
        inputs, parameters
            As in `get_pre_run_state`; with ``cache_for`` they are kept beside the result.

        Returns
        -------
        State or None
            ``None`` where the run is not `Running`.
        """
        if not state.is_running():
            return None
        inputs = inputs or {}
        outcome = outcome_of_body(self.task, inputs)
        ended = state_of(self.task, outcome, inputs)
        if isinstance(ended, Failed):
            # Of what timed out it is known already where the code was.
            ended.traceback = ended.traceback or outcome.traceback
            if self.task.record_inputs:
                ended.inputs = input_lines(inputs)
        # A skip is no result to go by another time.
        elif self.task.cache_for is not None and type(ended) is Success:
            ended.cached = CachedState(
                cached_inputs=inputs,
                cached_result=ended.result,
                cached_parameters=parameters,
                cached_result_expiration=time.time() + self.task.cache_for.total_seconds(),
            )
        return ended

    def get_post_run_state(self, state: State, inputs: Values | None = None) -> State | None:
        """Return a `Retrying` if the run failed and is to be tried again.

        Parameters
        ----------
        state : State
            The state of the run.
        inputs : dict, optional
            What is cached for the retry.

        Returns
        -------
        State or None
            ``None`` where the state should not change.
        """
        if not isinstance(state, Failed) or not may_be_retried(self.task, state):
            return None
        if run_number() > self.task.max_retries:
            return None
        exception = state.exception
        if exception is None:
            # A handler put a failure here that nothing raised: it stands for a FAIL.
            exception = FAIL(state.message)
        outcome = outcome_of(accepts, self.task.retry_on, exception)
        if outcome.error is not None:
            return hook_failed(self.task, "retry_on", outcome, exception)
        if not outcome.value:
            return None
        with current(task_exception=exception):
            return self.get_retry_state(inputs)

    def get_retry_state(self, inputs: Values | None = None) -> State:
        """Return a `Retrying` that is due after the task's own delay.

        The run number and the exception of the attempt are read from the context, where `run` puts
        them as ``task_run_number`` and ``task_exception``.

        Parameters
        ----------
        inputs : dict, optional
            What is cached for the retry.

        Returns
        -------
        State
            A `Failed` where the task's ``retry_delay`` cannot say how long.
        """
        number, exception = run_number(), current.get("task_exception")
        after = "" if exception is None else f" after {describe(exception)}"
        message = f"retry {number} of {self.task.max_retries}{after}"
        state = Retrying(None, message, cached_inputs=inputs, last_run_number=number)
        return after_own_delay(self.task, state, exception)

    def _named(
        self, state: State | None, entries: dict[str, Any], inputs: Values | None
    ) -> State | None:
        """Return the state, once a run that is to begin has its own name in the context."""
        template = self.task.task_run_name
        if template is None or not isinstance(state, Running):
            return state
        values = {**entries["parameters"], "map_index": current.get("map_index", -1)}
        outcome = outcome_of(make_name, template, {**values, **(inputs or {})})
        if outcome.error is not None:
            return hook_failed(self.task, "task_run_name", outcome)
        # An empty name is none.
        entries["task_run_name"] = outcome.value or entries["slug"]
        return state

    def _entries(self, state: State, given: Values) -> dict[str, Any]:
        """Return what `run` sets in the context."""
        own = {"task_name": self.task.name, "slug": self.task.slug}
        entries = {"parameters": current.get("parameters", {}), **own, **given}
        entries["task_run_name"] = entries["slug"]
        if isinstance(state, Looped):
            entries |= {"task_loop_count": state.loop_count + 1, "task_loop_result": state.result}
        entries.setdefault("task_loop_count", 1)
        entries.setdefault("task_loop_result", None)
        entries.setdefault("cancelled", is_overdue)
        # The number belongs to the state; the context is only where the task finds it.
        if isinstance(state, Retrying):
            entries["task_run_number"] = state.last_run_number + 1
        else:
            entries.setdefault("task_run_number", run_number())
        if self.logger_name is not None:
            entries["logger"] = logging.getLogger(self.logger_name)
        return entries

    def _offer(self, old: State, new: State) -> tuple[State, bool]:
        """Return the state that the handlers leave, and whether the walk may go on."""
        for handler in self.task.state_handlers:
            outcome = outcome_of(_answer_of, handler, self.task, old, new)
            if outcome.error is not None:
                hook = f"state handler {hook_name(handler)}"
                return hook_failed(self.task, hook, outcome, current.get("task_exception")), False
            new = new if outcome.value is None else outcome.value
        return new, True


def _answer_of(handler: StateHandler, task: RunnableTask, old: State, new: State) -> State | None:
    answer = handler(task, old, new)
    if answer is None or isinstance(answer, State):
        return answer
    raise TypeError(f"it returned a {type(answer).__name__}, which is neither a State nor None")


# --- the steps before the body -------------------------------------------------------------------


class _Look(NamedTuple):
    """What the steps before the body look at."""

    task: RunnableTask
    state: State
    upstream_states: UpstreamStates
    ignore_trigger: bool
    inputs: Values
    parameters: Values


def _not_pending(look: _Look) -> State | None:
    return None if look.state.is_pending() else look.state


def _upstream_unfinished(look: _Look) -> State | None:
    for state in look.upstream_states.values():
        if not state.is_finished():
            return look.state
    return None


def _upstream_skipped(look: _Look) -> State | None:
    if not look.task.skip_on_upstream_skip:
        return None
    skipped = [key for key, state in look.upstream_states.items() if state.is_skipped()]
    if not skipped or any(state.is_failed() for state in look.upstream_states.values()):
        return None
    return Skipped(message=f"{name_of(skipped[0])} was skipped")


def _trigger(look: _Look) -> State | None:
    if look.ignore_trigger:
        return None
    outcome = outcome_of(_ask, look.task.trigger, look.upstream_states)
    if isinstance(outcome.error, Signal) and not isinstance(outcome.error, LOOP):
        # The body has not run under the number of now, so the next look is under the same.
        return state_of_signal(look.task, outcome.error, look.inputs, run_number() - 1)
    if outcome.error is not None:
        return hook_failed(look.task, f"trigger {hook_name(look.task.trigger)}", outcome)
    return None


def _ask(trigger: Trigger, upstream_states: UpstreamStates) -> None:
    if not trigger(upstream_states):
        text = f"{hook_name(trigger)}: the trigger did not return True"
        raise TRIGGERFAIL(text, root_cause=root_cause(upstream_states))


def _cached(look: _Look) -> State | None:
    state, validator = look.state, look.task.cache_validator
    if not isinstance(state, CachedState):
        return None
    outcome = outcome_of(lambda: bool(validator(state, look.inputs, look.parameters)))
    if outcome.error is not None:
        return hook_failed(look.task, f"cache validator {hook_name(validator)}", outcome)
    if not outcome.value:
        return None
    # As it is stored: it may lie elsewhere, and is not needed here.
    return Success(state.fields()["cached_result"], "cached result", cached=state)


#: Each returns the state that follows, or the very state of the run where it must not change, or
#: ``None`` to let the next step look.
_BEFORE_THE_BODY: tuple[Callable[[_Look], State | None], ...] = (
    # A run that is going on, or over, is not begun.
    _not_pending,
    # What is not final must not be seen, nor counted, by anything of the user's: a retry is due
    # upstream, and the owner of this run comes back after it.
    _upstream_unfinished,
    # Where there was nothing to do upstream, there is nothing to do here. But a failure is more
    # than a skip, and what to make of it is for the trigger to say.
    _upstream_skipped,
    # Clocks differ between machines, so only the client's timer decides when a retry is due:
    # nobody looks at the state's `scheduled_time` here.
    _trigger,
    # An earlier result spares a run that its trigger would let begin, and no other.
    _cached,
)
