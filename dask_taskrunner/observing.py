"""Tells those who asked for it of each change of state: the log, and a user's own callables.

What is told is put together in the thread that owns the machine, as the records are then; it is
told in the hooks' thread. Where nobody asked, nothing is put together. It knows no Dask.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from dask_taskrunner.exceptions import OptionError, describe
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.records import Attempt, TaskRunRecord, attempt_of

#: One record for each change: of flow runs at INFO, of task runs at DEBUG.
logger: Final = logging.getLogger("dask_taskrunner.states")


#: So many task runs that are forgotten are remembered here, at most.
_FORGOTTEN: Final = 1000


class StateChange(NamedTuple):
    """One change of state, as ``on_event`` callables are told of it.

    Attributes
    ----------
    at : float
        Epoch seconds, by the client's clock.
    flow_name : str or None
        None for single calls.
    run_id, run_name : str
        Of which flow run.
    slug : str or None
        Of which task run; None for the flow run itself.
    task : str or None
        The task's name.
    map_index : int
        Which child of a mapped task run; -1 where it is none.
    old, new : str
        Names of the states' classes. They are the same where there is only more to say of it: how
        far it is, or what was executed again after its end.
    message : str or None
        The new state's.
    attempts : tuple of Attempt
        The executions of the body that were known when this was told, oldest first.
    upstream : tuple of str
        The slugs of what it waited for.
    part_of : str or None
        The mapped task run whose child it is, or the one that has grown to it.
    error_type, traceback : str or None
        Of the exception that the new state is a failure with, where there was one.
    """

    at: float
    flow_name: str | None
    run_id: str
    run_name: str
    slug: str | None
    task: str | None
    map_index: int
    old: str
    new: str
    message: str | None
    attempts: tuple[Attempt, ...] = ()
    upstream: tuple[str, ...] = ()
    part_of: str | None = None
    error_type: str | None = None
    traceback: str | None = None


OnEvent: TypeAlias = Callable[[StateChange], object]
Records: TypeAlias = Mapping[TaskRunId, TaskRunRecord]


class Observers:
    """Those who are told of one run.

    Parameters
    ----------
    run_name : str
        The run's.
    note : callable
        Keeps a note on what one of them raised.
    run_id : str
        The run's.
    flow_name : str, optional
        Of the flow that runs.
    functions : sequence of callable
        The user's.
    """

    def __init__(
        self,
        run_name: str,
        note: Callable[[str], None],
        *,
        run_id: str = "",
        flow_name: str | None = None,
        functions: Sequence[OnEvent] = (),
    ) -> None:
        self._run = (flow_name, run_id, run_name)
        self._note = note
        self._functions = tuple(functions)
        #: How often each of them raised something, by its place.
        self._errors: Counter[int] = Counter()
        #: How many attempts of each task run were told of.
        self._told: dict[TaskRunId, int] = {}

    def changes(self, news: Sequence[HistoryEntry], records: Records) -> list[StateChange]:
        """Return what is to be told of; called in the thread that owns the machine."""
        found: list[StateChange] = []
        if not self._functions and not logger.isEnabledFor(logging.INFO):
            return found
        every = bool(self._functions) or logger.isEnabledFor(logging.DEBUG)
        for entry in news:
            if entry.task_run is None:
                # What was executed again changed no state, and is told with the end.
                if self._functions and entry.new != "Running":
                    found += self._late(entry, records)
                found.append(self._of_run(entry))
            elif every:
                found.append(self._of_task_run(entry, records.get(entry.task_run), records))
        if len(self._told) > 2 * len(records) + _FORGOTTEN:
            # A run of single calls has no end, and forgets what nobody needs.
            self._told = {id: told for id, told in self._told.items() if id in records}
        return found

    def _of_run(self, entry: HistoryEntry) -> StateChange:
        message = entry.header.message if entry.header is not None else None
        return StateChange(entry.at, *self._run, None, None, -1, entry.old, entry.new, message)

    def _of_task_run(
        self, entry: HistoryEntry, record: TaskRunRecord | None, records: Records
    ) -> StateChange:
        assert entry.task_run is not None
        header = entry.header
        change = StateChange(
            entry.at, *self._run, entry.slug, None, entry.task_run[1], entry.old, entry.new,
            header.message if header is not None else None,
        )  # fmt: skip
        if header is not None and "type" in header.more:
            more = header.more
            change = change._replace(error_type=more["type"], traceback=more.get("traceback"))
        if record is None:
            # A single call's, which nobody asks for any more.
            if header is None or header.started is None:
                return change
            return change._replace(attempts=(attempt_of(header)._replace(number=1),))
        return change._replace(
            task=record.plan.name,
            attempts=self._attempts(record),
            upstream=_upstream(record, records),
            part_of=_part_of(record),
        )

    def _attempts(self, record: TaskRunRecord) -> tuple[Attempt, ...]:
        if not self._functions:
            return ()
        self._told[record.id] = len(record.values)
        return tuple(record.attempts())

    def _late(self, entry: HistoryEntry, records: Records) -> Iterable[StateChange]:
        for record in records.values():
            if len(record.values) > self._told.get(record.id, 0):
                shown = HistoryEntry(
                    entry.at, record.id, record.shown, record.shown, record.header, record.plan.slug
                )
                yield self._of_task_run(shown, record, records)

    # -- in the hooks' thread -------------------------------------------------------------

    def tell(self, changes: Sequence[StateChange]) -> None:
        """Tell all of them; what one of them raises is a note."""
        for change in changes:
            _log(change)
            for place, function in enumerate(self._functions):
                try:
                    function(change)
                # Signals, too, for nobody can choose a state here.
                except BaseException as error:  # noqa: BLE001 (it is the user's, and ends nothing)
                    self._failed(place, error)

    def _failed(self, place: int, error: BaseException) -> None:
        self._errors[place] += 1
        if self._errors[place] == 1:
            self._note(f"on_event {_name(self._functions[place])}: {describe(error)}")

    def ended(self) -> None:
        """Say of those that raised more than once how often they did."""
        for place, count in self._errors.items():
            if count > 1:
                self._note(f"on_event {_name(self._functions[place])} raised {count} times")
        self._errors.clear()


def read_on_event(on_event: Any) -> tuple[OnEvent, ...]:
    """Return what a user gave as ``on_event``: a callable, or several.

    Raises
    ------
    OptionError
        It is neither.
    """
    functions = (on_event,) if callable(on_event) else on_event
    if not isinstance(functions, (list, tuple)) or not all(map(callable, functions)):
        raise OptionError(f"on_event must be a callable, or a list of them, not {on_event!r}")
    return tuple(functions)


def _log(change: StateChange) -> None:
    level = logging.INFO if change.slug is None else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    slug = "" if change.slug is None else f" {change.slug}"
    said = f": {change.message}" if change.message else ""
    logger.log(
        level,
        "%s:%s %s -> %s%s", change.run_name, slug, change.old, change.new, said,
        extra={
            "flow_run_id": change.run_id,
            "flow_run_name": change.run_name,
            "task_run": change.slug,
            "old_state": change.old,
            "new_state": change.new,
        },
    )  # fmt: skip


def _name(function: OnEvent) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def _upstream(record: TaskRunRecord, records: Records) -> tuple[str, ...]:
    slugs = [records[id].plan.slug for id in record.plan.upstream if id in records]
    if record.outer is not None:
        slugs.append(record.outer.plan.slug)
    return tuple(dict.fromkeys(slugs))


def _part_of(record: TaskRunRecord) -> str | None:
    whole = record.family or record.outer
    return None if whole is None else whole.plan.slug
