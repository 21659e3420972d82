"""Calls what is the user's on the client, and keeps the words: state handlers, notes, the log.

Everything here runs in the flow run's hooks' thread, one call after the other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.exceptions import describe
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.headers import Header, TaskRunId, child_slug, to_state
from dask_taskrunner.machine.commands import CallHook
from dask_taskrunner.machine.commands import Note as NoteCommand
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.observing import Observers, OnEvent
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.reporting import describe_failures
from dask_taskrunner.states import STATE_CLASSES, Failed, Pending, State, utc

logger = logging.getLogger("dask_taskrunner")

#: True where whoever starts a run will decide whether a view shows it.
_expecting: ContextVar[bool] = ContextVar("dask_taskrunner_expecting", default=False)

#: So many failed task runs of a flow run are logged one by one.
LOGGED: Final = 20


class Note(NamedTuple):
    """Something about a flow run that is no state: a lost worker, an execution more.

    Attributes
    ----------
    time : pendulum.DateTime
        In UTC.
    level : int
        As in :mod:`logging`.
    task_run : str or None
        The slug of the task run, where it is about one.
    text : str
        What happened.
    """

    time: Any
    level: int
    task_run: str | None
    text: str


class _Record(NamedTuple):
    """An error that is to be logged."""

    text: str
    #: What it is filled with.
    arguments: tuple[object, ...]
    #: Whether it tells of a whole run.
    is_last: bool = False


@contextlib.contextmanager
def expecting_a_view() -> Iterator[None]:
    """Have runs that are started in the block keep what is to be printed until they are told.

    A run may be over before there is a view of it, and what has failed is to be told once. Whoever
    uses this calls :meth:`Listener.decide`.
    """
    token = _expecting.set(True)
    try:
        yield
    finally:
        _expecting.reset(token)


class Listener:
    """One flow run's, as the driver knows it."""

    def __init__(self, flow: Flow, plan: FlowPlan, run_name: str) -> None:
        self.notes: list[Note] = []
        self._flow = flow
        self._plan = plan
        self._run_name = run_name
        #: True once Python has printed all that has failed, for nobody handles our records.
        self.is_printed = False
        # Whether a view tells of failures: where nobody handles our records, Python would print
        # them besides. None: one may come.
        self._is_shown: bool | None = None if _expecting.get() else False
        #: What is to be printed if none comes.
        self._withheld: list[_Record] = []
        self._lock = threading.Lock()
        #: Failures that were heard of.
        self._failed = 0
        self.observers = Observers(run_name, self._warn)

    def observe(self, run_id: str, functions: Sequence[OnEvent]) -> None:
        """Have functions of the user's told of each change of state."""
        self.observers = Observers(
            self._run_name,
            self._warn,
            run_id=run_id,
            flow_name=self._flow.name,
            functions=functions,
        )

    def _warn(self, text: str) -> None:
        self.add_note(NoteCommand(text, None, logging.WARNING), time.time())

    def call_hook(self, command: CallHook) -> None:
        """Call state handlers; they cannot replace a state here, and an error is a note."""
        if command.id is None:
            owner, slug = self._flow, self._run_name
        else:
            owner, slug = self._plan.resolved[command.id[0]], command.slug
        old = to_state(command.old, slug) if command.old is not None else Pending()
        new = to_state(command.new, slug)
        for text in call_handlers(owner, slug, old, new):
            self.add_note(NoteCommand(text, command.id, logging.WARNING), time.time())

    def add_note(self, note: NoteCommand, at: float) -> None:
        """Keep a note, and log it at INFO."""
        slug = None if note.id is None else self._plan.tasks[note.id[0]].slug
        if slug is not None and note.id is not None and note.id[1] >= 0:
            slug = child_slug(slug, note.id[1])
        self.notes.append(Note(utc(at), note.level, slug, note.text))
        logger.info("%s: %s", self._run_name, note.text)

    def task_run_failed(self, slug: str, header: Header) -> None:
        """Log a final failure: quiet is never silent about failure."""
        self._failed += 1
        if self._failed <= LOGGED:
            self._log(_Record("%s: %s failed: %s", (self._run_name, slug, header.message)))

    def decide(self, *, is_shown: bool) -> None:
        """Learn whether a view tells of failures from here on; what nobody has told is, now."""
        with self._lock:
            self._is_shown = is_shown
            withheld, self._withheld = self._withheld, []
        if not is_shown:
            for record in withheld:
                self._log(record)

    def give_up_waiting(self) -> None:
        """Learn that whoever would have shown the run has been interrupted before."""
        if self._is_shown is None:
            self.decide(is_shown=False)

    def _log(self, record: _Record) -> None:
        """Log an error, unless a view tells of it and nobody handles our records."""
        if not logger.hasHandlers():
            with self._lock:
                if self._is_shown is None:
                    self._withheld.append(record)
                if self._is_shown is not False:
                    return
            self.is_printed |= record.is_last
        logger.error(record.text, *(harmless(str(argument)) for argument in record.arguments))

    def run_ended(self, state: str, records: Mapping[TaskRunId, TaskRunRecord]) -> None:
        """Log what the failures came to."""
        self.observers.ended()
        if self._failed > LOGGED:
            more = self._failed - LOGGED
            self._log(_Record("%s: %s more task runs failed", (self._run_name, more)))
        if issubclass(STATE_CLASSES[state], Failed):
            told = describe_failures(self._flow.name, self._run_name, self._plan, records)
            self._log(_Record("%s", (told,), is_last=True))


def call_handlers(owner: Any, slug: str, old: State, new: State) -> list[str]:
    """Call the state handlers of a task or a flow, and return what is to be said of errors."""
    said = []
    for handler in owner.state_handlers:
        try:
            handler(owner, old, new)
        # Signals, too, for a handler cannot choose a state here.
        except BaseException as error:  # noqa: BLE001 (it is the user's, and ends nothing)
            name = getattr(handler, "__name__", None) or type(handler).__name__
            said.append(f"state handler {name} of {slug}: {describe(error)}")
    return said
