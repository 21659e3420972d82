"""Calls what is the user's on the client, and keeps the words: state handlers, notes, the log.

Everything here runs in the flow run's hooks' thread, one call after the other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

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


class Listener:
    """One flow run's, as the driver knows it."""

    def __init__(self, flow: Flow, plan: FlowPlan, run_name: str) -> None:
        self.notes: list[Note] = []
        self._flow = flow
        self._plan = plan
        self._run_name = run_name
        #: True once a view tells of failures: where nobody handles our records, Python would print
        #: them besides.
        self.is_shown = False
        #: True once Python has printed what has failed, for want of anybody who would handle it.
        self.is_printed = False
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
        if self._failed <= LOGGED and self._is_to_be_logged:
            logger.error("%s: %s failed: %s", self._run_name, slug, header.message)

    @property
    def _is_to_be_logged(self) -> bool:
        return not self.is_shown or logger.hasHandlers()

    def run_ended(self, state: str, records: Mapping[TaskRunId, TaskRunRecord]) -> None:
        """Log what the failures came to."""
        self.observers.ended()
        if not self._is_to_be_logged:
            return
        if self._failed > LOGGED:
            logger.error("%s: %d more task runs failed", self._run_name, self._failed - LOGGED)
        if issubclass(STATE_CLASSES[state], Failed):
            text = describe_failures(self._flow.name, self._run_name, self._plan, records)
            logger.error("%s", text)
            self.is_printed = not logger.hasHandlers()


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
