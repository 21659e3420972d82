"""Which states a user may give to which task: of a mapped one, its children's come along.

It knows no plan; which task runs are run at all is decided elsewhere.
"""

from __future__ import annotations

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.given_states import Given
from dask_taskrunner.graph.mapping import elements_if_any, right_line, sequence_of
from dask_taskrunner.headers import child_slug, to_state
from dask_taskrunner.states import (
    Mapped,
    Paused,
    Pending,
    Running,
    Skipped,
    State,
    Success,
)

#: Of these a mapped task knows nothing by itself: it begins from the beginning.
_FROM_THE_BEGINNING = (Pending, Paused, Running)


def read_state(slug: str, state: object, *, is_mapped: bool, is_mapped_over: bool) -> Given | None:
    """Return what is given as a task's state; None for what says nothing.

    Parameters
    ----------
    slug : str
        The task's.
    state : object
        What the user gave.
    is_mapped, is_mapped_over : bool
        Whether it is run once per element, and whether others take elements of its result.

    Raises
    ------
    OptionError
        It is none, or one that cannot be given to this task.
    """
    if not isinstance(state, State):
        raise OptionError(
            f"task_states[{slug!r}] must be a State, such as run[{slug!r}].state of an earlier run "
            f"or Success(result=...), not {state!r}"
        )
    if is_mapped:
        return _read_mapped(slug, state)
    if isinstance(state, Mapped):
        raise OptionError(
            f"task_states[{slug!r}] is Mapped, and {slug!r} is not mapped in this flow. Pass the "
            f"list of results: Success(result=run[{slug!r}].result())"
        )
    if is_mapped_over and state.is_successful() and state.result_is_here:
        # What can be read only once is read here, and never again.
        elements = elements_if_any(state.fields()["result"])
        if elements is not state.fields()["result"]:
            state = state.copy_with(result=elements)
    return Given(slug, state, is_mapped_over)


def _read_mapped(slug: str, state: State) -> Given | None:
    """Return what is given to a mapped task."""
    if isinstance(state, Mapped):
        return Given(slug, state, children=_children(slug, state))
    if isinstance(state, Success) and not isinstance(state, Skipped):
        return _of_results(slug, state)
    if state.is_finished():
        return Given(slug, state)
    if type(state) in _FROM_THE_BEGINNING:
        return None
    raise OptionError(
        f"task_states[{slug!r}]: {slug!r} is mapped, and its children begin by themselves; they "
        f"cannot begin with {state!r}. Leave it out, or give it a final state."
    )


def _children(slug: str, state: Mapped) -> tuple[Given, ...]:
    source = Given(slug, state).source
    children = None if source is None else source.children()
    if children is None:
        raise OptionError(
            f"task_states[{slug!r}] is Mapped, and its children are not known here: the earlier "
            f"FlowRun is gone, or the state was pickled or made by hand. Pass the list of results: "
            f"Success(result=[...])"
        )
    return tuple(
        Given(child_slug(slug, i), to_state(header, name, origin))
        for i, (name, header, origin) in enumerate(children)
    )


def _of_results(slug: str, state: Success) -> Given:
    """Return a mapped task's state made of a list: each child has succeeded with an element."""
    if not state.result_is_here:
        raise OptionError(
            f"task_states[{slug!r}]: {slug!r} is mapped, and this is the state of a run that was "
            f"not. Pass the list of results: Success(result=run[...].result())"
        )
    value = state.fields()["result"]
    if right_line("result", value) is not None:
        raise OptionError(
            f"task_states[{slug!r}]: {slug!r} is mapped, so its result is a list with one for each "
            f"child, not a {type(value).__name__}"
        )
    results = list(sequence_of(value))
    children = tuple(
        Given(child_slug(slug, i), Success(result)) for i, result in enumerate(results)
    )
    counts = {"Success": len(results)} if results else {}
    text = f"{len(results)} Success" if results else "no elements"
    mapped = Mapped(message=state.message or text, counts=counts)
    mapped.at = state.at
    return Given(slug, mapped, children=children)
