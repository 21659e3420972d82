"""Does what the machine has decided: on the cluster by the channel, for the user in another thread.

It decides nothing, and knows no Dask.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dask_taskrunner.backend import Channel
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.machine.commands import (
    CallHook,
    Command,
    FetchHeader,
    Finish,
    Forget,
    Grow,
    Note,
    Release,
    Settled,
    SubmitMany,
)
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.observing import Observers
from dask_taskrunner.states import OWN_FAILURES

logger = logging.getLogger("dask_taskrunner")


class Listener(Protocol):
    """What calls the user's code and keeps the words; its methods raise nothing."""

    #: Are told of each change of state.
    observers: Observers

    def call_hook(self, command: CallHook) -> None:
        """Call state handlers."""

    def add_note(self, note: Note, at: float) -> None:
        """Keep a note."""

    def task_run_failed(self, slug: str, header: Header) -> None:
        """Tell of a task run's final failure."""

    def run_ended(self, state: str, records: Mapping[TaskRunId, TaskRunRecord]) -> None:
        """Tell of the end."""


class Growths(Protocol):
    """What has graphs planned that are to join; its methods raise nothing."""

    def begin(self, run: PlannedRun, submission: int) -> None:
        """Have the graph planned that a task run has returned."""


class Performer:
    """Performs the commands of one flow run.

    Parameters
    ----------
    channel : Channel
        To the cluster.
    hooks : HookThread
        Calls what is the user's.
    listener : Listener
        What is called there.
    growths : Growths
        Has graphs planned.
    """

    def __init__(
        self, channel: Channel, hooks: HookThread, listener: Listener, growths: Growths
    ) -> None:
        self._channel = channel
        self._growths = growths
        self.hooks = hooks
        self.listener = listener
        #: Futures to let go with the next message.
        self._to_release: list[TaskRunId] = []

    def perform(self, command: Command) -> None:
        """Do what a command says."""
        match command:
            case SubmitMany():
                # A run that is sent again has let go of its older future first.
                self.release()
                self._channel.submit(command.runs)
            case Grow():
                self._growths.begin(command.run, command.submission)
            case Release():
                self._to_release += command.ids
            case Settled():
                self._channel.settle(command.ids)
            case Forget():
                self.release()
                self._channel.forget(command.ids)
            case FetchHeader():
                self._channel.fetch_header(command.id, command.submission)
            case CallHook() | Note():
                self._tell(command)
            case Finish():
                # A run of which nothing is run ends with its first event.
                self.release()
                if command.header.state != "Paused":
                    # What goes on later needs what it needed all the time.
                    self._channel.finish()

    def _tell(self, command: CallHook | Note) -> None:
        """Have the listener told of something."""
        if isinstance(command, CallHook):
            self.hooks.call(self.listener.call_hook, command)
        else:
            self.hooks.call(self.listener.add_note, command, time.time())

    def perform_last(self, commands: Sequence[Command]) -> None:
        """Do what can still be done where something is broken already."""
        for command in commands:
            tried(self.perform, command)

    def release(self) -> None:
        """Let go of the futures that have gathered."""
        if self._to_release:
            self._channel.release(self._to_release)
            self._to_release = []

    def tell_of_dropped_lines(self) -> None:
        """Tell the listener of log lines that nobody will see; called in the hooks' thread."""
        untold = self._channel.logs.take_untold()
        if untold:
            id = next(iter(untold)) if len(untold) == 1 else None
            of = "" if id is not None else f" of {len(untold)} task runs"
            text = f"{sum(untold.values()):,} log lines{of} were dropped: there were too many"
            self.listener.add_note(Note(text, id, logging.INFO), time.time())

    def tell(
        self, news: Sequence[HistoryEntry], records: Mapping[TaskRunId, TaskRunRecord]
    ) -> None:
        """Have all told of changes of state, and the listener of what failed by itself."""
        observers = self.listener.observers
        if changes := observers.changes(news, records):
            self.hooks.call(observers.tell, changes)
        for entry in news:
            if entry.header is None or entry.task_run is None:
                continue
            if entry.new in OWN_FAILURES and _is_own(entry, records):
                self.hooks.call(self.listener.task_run_failed, entry.slug, entry.header)


def _is_own(entry: HistoryEntry, records: Mapping[TaskRunId, TaskRunRecord]) -> bool:
    """Return whether a state is a task run's own: not given, and not that of its inner runs."""
    record = records.get(entry.task_run) if entry.task_run is not None else None
    return record is None or (record.plan.role != "given" and record.inner is None)


def tried(call: Callable[..., object], *args: object) -> None:
    """Call something for a run that is over, where nobody could do anything about an error."""
    try:
        call(*args)
    except Exception as error:
        logger.debug("a flow run is over, and this went wrong", exc_info=error)
