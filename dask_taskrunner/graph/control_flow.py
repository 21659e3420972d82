"""Which parts of a flow run is found out while it runs: by skipping the others.

A skip goes on downstream up to a :func:`merge`, and no further. Everything here is made of tasks
and edges; nothing else knows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dask_taskrunner.exceptions import FlowError, MissingResult, OptionError
from dask_taskrunner.graph.building import OpenFlow, current_flow
from dask_taskrunner.graph.tasks import BoundTask, FunctionTask, Node, Task, find_nodes
from dask_taskrunner.input_lines import line_of
from dask_taskrunner.signals import SKIP, TRIGGERFAIL
from dask_taskrunner.triggers import UpstreamStates, all_finished, root_cause


def switch(condition: Node, cases: Mapping[Any, Any], *, default: Any = None) -> None:
    """Run the task whose key equals the result of another task, and skip those of the other keys.

    Parameters
    ----------
    condition : BoundTask or Parameter
        Whose result is compared.
    cases : mapping
        Value -> a task that runs only if the result is it, or equals it, or a list of such. What
        is downstream of a skipped task is skipped as well; what is upstream runs all the same. A
        result that cannot be compared, such as an array, is a failure of the comparison.
    default : BoundTask or list of BoundTask, optional
        What runs only if the result equals none of the values. Without it, all are skipped then.

    Raises
    ------
    FlowError
        A case is no task of the flow that is being built, or a task has two cases.
    OptionError
        The condition is no task, or there are no cases.
    """
    flow = _flow("switch")
    _check_condition("switch", condition)
    if not cases or not isinstance(cases, Mapping):
        raise OptionError(f"switch takes a dict of tasks by value, not {cases!r}")
    branches: list[tuple[Any, Any, Any]] = [
        (_IS, value, _tasks("switch", flow, tasks)) for value, tasks in cases.items()
    ]
    if default is not None:
        branches.append((_IS_NONE_OF, list(cases), _tasks("switch", flow, default)))
    _check_apart("switch", [tasks for *_, tasks in branches])
    for question, value, tasks in branches:
        answer = flow.bind(question, (condition, value))
        for task in tasks:
            _guard(flow, answer, task)


def ifelse(condition: Node, true_task: Any, false_task: Any = None) -> None:
    """Run one task if the result of another is true, and another one if it is false.

    Parameters
    ----------
    condition : BoundTask or Parameter
        Whose result is asked for its truth.
    true_task, false_task : BoundTask or list of BoundTask, optional
        The other one is skipped, and what is downstream of it.

    Raises
    ------
    FlowError
        One of them is no task of the flow that is being built, or both are the same.
    OptionError
        The condition is no task.
    """
    flow = _flow("ifelse")
    _check_condition("ifelse", condition)
    branches = {True: _tasks("ifelse", flow, true_task), False: _tasks("ifelse", flow, false_task)}
    _check_apart("ifelse", branches.values())
    for wanted, tasks in branches.items():
        if not tasks:
            continue
        answer = flow.bind(_IS_TRUE, (condition, wanted))
        for task in tasks:
            _guard(flow, answer, task)


class case:  # noqa: N801 (it is used like a statement)
    """Run what is bound in a block only if the result of a task equals a value: ``with case(...)``.

    The tasks of the block that wait for no other task of it are skipped otherwise, and so is what
    is downstream of them. A ``merge`` or ``drop_missing`` of the block is skipped with it, whatever
    else it waits for; a task of your own with ``skip_on_upstream_skip=False`` is not. Blocks may be
    nested.

    Parameters
    ----------
    condition : BoundTask or Parameter
        Whose result is compared.
    value : object
        With what.

    Examples
    --------
    >>> with case(check(rows), "bad"):  # doctest: +SKIP
    ...     alarm(repair(rows))
    """

    def __init__(self, condition: Node, value: Any) -> None:
        _check_condition("case", condition)
        self._condition = condition
        self._value = value
        # One case may be entered again, inside its own block too.
        self._entered: list[tuple[OpenFlow, BoundTask[Any], int]] = []

    def __enter__(self) -> None:
        flow = _flow("case")
        answer = flow.bind(_IS, (self._condition, self._value))
        self._entered.append((flow, answer, len(flow.tasks)))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        flow, answer, first = self._entered.pop()
        if kind is not None:
            return
        inside = [node for node in flow.tasks[first:] if isinstance(node, BoundTask)]
        known = set(inside)
        for task in inside:
            # No skip in the block gets past what catches it.
            is_first = not known.intersection(flow.upstream_tasks(task))
            if is_first or isinstance(task.definition, CatchesSkips):
                _guard(flow, answer, task)


def merge(*tasks: Any, task_args: Mapping[str, Any] | None = None) -> BoundTask[Any]:
    """Bring branches together again: give the result of the first task that was not skipped.

    Parameters
    ----------
    *tasks : BoundTask
        In the order in which they are looked at. None is a result like any other; a branch that
        was skipped with a result was skipped. A mapped one was skipped when all its children were,
        and failed when one of them did.
    task_args : mapping, optional
        Options of the merge.

    Returns
    -------
    BoundTask
        Skipped where all were, and where it is itself in a branch that is not taken. Where the
        first that was not skipped failed, so has the merge, unless it is given a trigger that lets
        it run: then the first result counts.

    Raises
    ------
    OptionError
        There is nothing to merge, or the tasks come in a list.
    """
    if not tasks:
        raise OptionError("merge takes the tasks of which one runs: merge(a, b)")
    for given in tasks:
        if not isinstance(given, Node) and find_nodes(given):
            kind = type(given).__name__
            raise OptionError(f"merge takes its tasks one by one, not in a {kind}: merge(a, b)")
    merged: BoundTask[Any] = _flow("merge").bind(_MERGE, tasks, task_args=task_args)
    return merged


# --- on the worker -------------------------------------------------------------------------------


def _is(condition: Any, value: Any) -> Any:
    if not (condition is value or condition == value):
        raise SKIP(f"{_told(condition)} is not {_told(value)}")
    return value


def _is_none_of(condition: Any, values: list[Any]) -> Any:
    for value in values:
        if condition is value or condition == value:
            raise SKIP(f"{_told(condition)} has a case of its own")
    return condition


def _is_true(condition: Any, wanted: bool) -> bool:
    if bool(condition) != wanted:
        raise SKIP(f"{_told(condition)} is {'false' if wanted else 'true'}")
    return wanted


def _told(value: Any) -> str:
    return f"{line_of(value):.40}"


def whatever_came_of_them(upstream_states: UpstreamStates) -> bool:
    """Run after the end of everything upstream. It does not only watch: its state counts."""
    return all_finished(upstream_states)


class CatchesSkips(Task[Any]):
    """A task that runs whatever became of what it is given.

    It would run in a branch that is not taken, too. So the answer to whether that is taken is an
    argument of it, and no mere edge: ``only_if``.
    """

    #: True for a run that somebody wants whatever its branch: of a start task, or an approved one.
    ignores_branch = False

    def check_branch(self, name: str, only_if: Mapping[str, Any]) -> None:
        """Skip where the task is in a branch that is not taken; fail where nobody knows."""
        if self.ignores_branch:
            return
        missing = [answer for answer in only_if.values() if isinstance(answer, MissingResult)]
        # A failure beats a skip.
        for answer in sorted(missing, key=lambda answer: answer.state.is_skipped()):
            raise end_as(name, answer)


def end_as(name: str, missing: MissingResult, which: str = "") -> SKIP | TRIGGERFAIL:
    """Return the signal that ends a task as it was with what has no result."""
    state = missing.state
    if state.is_skipped():
        return SKIP(f"{missing.slug} was skipped")
    cause = root_cause({missing.slug: state})
    came_to = f"is {type(state).__name__}"
    if state.is_mapped():
        came_to = f"has children without a result ({state.message or _counted(state)})"
    told = f"; root cause: {cause[0]}: {cause[1]}" if cause else ""
    return TRIGGERFAIL(f"{name}: {missing.slug}{which} {came_to}{told}", root_cause=cause)


def _counted(state: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in state.counts.items())


class Merge(CatchesSkips):
    """What :func:`merge` binds."""

    #: A skip that has a result is a skip here, and a mapped run has one end, not many.
    wants_ends = True

    def run(self, *tasks: Any, **only_if: Any) -> Any:
        """Return the first that was not skipped."""
        self.check_branch("merge", only_if)
        reached = [task for task in tasks if not was_skipped(task)]
        if not reached:
            raise SKIP("all branches were skipped")
        if self.trigger != whatever_came_of_them:
            # The trigger has decided that failures do not matter.
            reached = [task for task in reached if not isinstance(task, MissingResult)] or reached
        first = reached[0]
        if isinstance(first, MissingResult):
            raise end_as("merge", first, ", the first that was not skipped,")
        return first


def was_skipped(value: Any) -> bool:
    """Whether a value is what is missing after a skip."""
    return isinstance(value, MissingResult) and value.state.is_skipped()


_IS: Final[Task[Any]] = FunctionTask(_is, "case")
_IS_NONE_OF: Final[Task[Any]] = FunctionTask(_is_none_of, "case")
_IS_TRUE: Final[Task[Any]] = FunctionTask(_is_true, "case")
_MERGE: Final = Merge("merge", trigger=whatever_came_of_them, skip_on_upstream_skip=False)


# --- where the flow is built ---------------------------------------------------------------------


def _flow(what: str) -> OpenFlow:
    return current_flow(f"{what} was used", "")


def _check_condition(what: str, condition: Any) -> None:
    if not isinstance(condition, Node):
        hint = f"; call it: {condition.name}(...)" if isinstance(condition, Task) else ""
        raise OptionError(
            f"{what} takes a bound task or a parameter first, not {condition!r}{hint}"
        )


def _tasks(what: str, flow: OpenFlow, given: Any) -> list[BoundTask[Any]]:
    """Return the tasks of a branch; one alone, or none."""
    if given is None:
        return []
    tasks = list(given) if isinstance(given, Iterable) and not isinstance(given, Node) else [given]
    for task in tasks:
        if not isinstance(task, BoundTask) or task not in flow:
            hint = f"; call it: {task.name}(...)" if isinstance(task, Task) else ""
            raise FlowError(
                f"{what}: {task!r} is no task that is bound in flow {flow.name!r}{hint}"
            )
    return tasks


def _check_apart(what: str, branches: Iterable[list[BoundTask[Any]]]) -> None:
    seen: set[BoundTask[Any]] = set()
    for tasks in branches:
        for task in tasks:
            if task in seen:
                raise FlowError(
                    f"{what}: {task.slug!r} is in two branches, so one of them would always skip "
                    f"it; call the task once for each: {task.name}(...)"
                )
        seen.update(tasks)


def _guard(flow: OpenFlow, answer: BoundTask[Any], task: BoundTask[Any]) -> None:
    """Let a task run only where the answer is not a skip."""
    key = None
    if isinstance(task.definition, CatchesSkips):
        key = f"branch {len(task.arguments.get('only_if', ())) + 1}"
    flow.add_edge(answer, task, key)
