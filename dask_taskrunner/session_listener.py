"""Calls what is the user's on the client for single calls, and keeps the words about them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.headers import Header, TaskRunId, to_state
from dask_taskrunner.listener import LOGGED, Note, call_handlers
from dask_taskrunner.machine.commands import CallHook
from dask_taskrunner.machine.commands import Note as NoteCommand
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.observing import Observers, OnEvent
from dask_taskrunner.states import Pending, utc

logger = logging.getLogger("dask_taskrunner")

#: So many notes are kept of a run that has no end.
_KEPT: Final = 1000


class SessionListener:
    """One runner's, as the driver knows it."""

    def __init__(
        self, run_name: str, *, run_id: str = "", on_event: Sequence[OnEvent] = ()
    ) -> None:
        self.notes: deque[Note] = deque(maxlen=_KEPT)
        self._run_name = run_name
        #: Failures that were heard of.
        self._failed = 0
        self.observers = Observers(run_name, self._warn, run_id=run_id, functions=on_event)

    def _warn(self, text: str) -> None:
        self.add_note(NoteCommand(text, None, logging.WARNING), time.time())

    def call_hook(self, command: CallHook) -> None:
        """Call the state handlers of a task; they cannot replace a state here."""
        if command.owner is None:
            return
        old = Pending() if command.old is None else to_state(command.old, command.slug)
        new = to_state(command.new, command.slug)
        for text in call_handlers(command.owner, command.slug, old, new):
            self.add_note(NoteCommand(text, command.id, logging.WARNING), time.time())

    def add_note(self, note: NoteCommand, at: float) -> None:
        """Keep a note, and log it at INFO."""
        self.notes.append(Note(utc(at), note.level, None, note.text))
        logger.info("%s: %s", self._run_name, note.text)

    def task_run_failed(self, slug: str, header: Header) -> None:
        """Log a final failure: quiet is never silent about failure."""
        self._failed += 1
        if self._failed <= LOGGED:
            message = harmless(header.message or "")
            logger.error("%s: %s failed: %s", self._run_name, slug, message)

    def run_ended(self, state: str, records: Mapping[TaskRunId, TaskRunRecord]) -> None:  # noqa: ARG002
        """Log what the failures came to."""
        self.observers.ended()
        if self._failed > LOGGED:
            logger.error("%s: %d more task runs failed", self._run_name, self._failed - LOGGED)
