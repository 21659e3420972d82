"""Drives one flow run: a thread that owns the machine, its timers, and the way to the cluster.

Callbacks, the user's threads and the cluster only post; what must call user code is handed to the
hooks' thread. It knows no Dask.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from dask_taskrunner import exceptions
from dask_taskrunner.backend import Channel, FlowSpec, OpensRuns, RunSpec
from dask_taskrunner.ends import Ends, HasEnds
from dask_taskrunner.exceptions import InternalError, describe
from dask_taskrunner.growing import Growths, Planner
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.machine.events import (
    CancelAsked,
    ClusterLost,
    Event,
    ForeignEnded,
    Grew,
    HistoryRead,
    ResultsDropped,
    RunsAdded,
    RunStarted,
    TimerFired,
)
from dask_taskrunner.machine.machine import Machine
from dask_taskrunner.machine.plans import Plan, PlannedRun
from dask_taskrunner.performing import Listener, Performer, logger, tried
from dask_taskrunner.values import Values
from dask_taskrunner.watchdog import Watchdog

#: Seconds between two looks at the outstanding futures.
SWEEP_EVERY: Final = 1.0
#: With very many futures a look takes its time: it is this part of all, at most, but for a limit.
_SWEEPING: Final = 0.05
_SWEEP_AT_LEAST_EVERY: Final = 5.0
#: Seconds for which news is left to gather after a batch. Each wake-up takes the interpreter lock
#: from the thread that talks to the cluster, and in a flood of short tasks that one is the neck.
_GATHER: Final = 0.005
#: With no more task runs than this under way there is no flood, and nothing gathers.
_FEW: Final = 16
#: How many events an internal error shows.
_REMEMBERED: Final = 100


class Driver(HasEnds):
    """One flow run on its way.

    Parameters
    ----------
    plan : Plan
        For the machine.
    spec : FlowSpec
        For the cluster.
    backend : OpensRuns
        The cluster.
    hooks : HookThread
        Calls what is the user's.
    listener : Listener
        What is called there.
    planner : Planner, optional
        Plans the graphs that tasks return; without one, none can.
    """

    def __init__(
        self,
        plan: Plan,
        spec: FlowSpec,
        backend: OpensRuns,
        hooks: HookThread,
        listener: Listener,
        planner: Planner | None = None,
    ) -> None:
        self.machine = Machine(plan)
        #: How much of the history the listener has been told of.
        self._told = 0
        self._ends = Ends(self.machine.records, is_open=plan.is_open)
        #: Set when the run is over, and what had to be called for it has returned.
        self.ended = self._ends.over
        #: Why the run ended without a word of the machine, or with a lost cluster.
        self.error: Exception | None = None
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        #: Set by what cannot wait until news has gathered.
        self._hurry = threading.Event()
        self._last_events: deque[Event] = deque(maxlen=_REMEMBERED)
        # Guards the machine once its thread has ended and late news comes from other threads.
        self._late_lock = threading.RLock()
        self._is_late = False
        #: True once nothing can be sent any more: its runner has closed, or let go of it.
        self.is_closed = False
        post = _weak_post(self)
        self.channel: Channel = backend.open_run(spec, post)
        self._clock = self.channel.clock
        self.watchdog = Watchdog(self.machine, self.channel)
        self._growths = Growths(spec.run, self.channel, planner, post)
        self._performer = Performer(self.channel, hooks, listener, self._growths)
        #: The results, wherever they are.
        self.values = Values(self.channel)
        self._name = f"dask-taskrunner-{spec.run}"
        self._thread = self._new_thread(RunStarted)

    def _new_thread(self, begin: type[RunStarted] | None) -> threading.Thread:
        return threading.Thread(target=self._run, args=(begin,), name=self._name, daemon=True)

    def start(self) -> None:
        """Begin the run."""
        self._thread.start()

    def go_on(self, event: Event) -> None:
        """Take in what lets a run go on, also one that was over because it had paused."""
        self.post(event)
        self.hurry()
        with self._late_lock:
            if not self._is_late or self.machine.final is not None:
                return
            # It was taken in here, for the thread had ended.
            self._thread.join()
            self._ends.reopen()
            self._is_late = False
            self._thread = self._new_thread(None)
            self._thread.start()

    @property
    def final(self) -> Header | None:
        """The flow run's own state, once it is over or paused."""
        return self.machine.final

    def post(self, event: Event) -> None:
        """Take in news, from any thread."""
        self._inbox.put(event)
        # In this order: who is seen too late here has put it in before that thread's last look.
        if self._is_late:
            self._take_late()

    def add(self, runs: tuple[PlannedRun, ...], specs: Mapping[TaskRunId, RunSpec]) -> None:
        """Add task runs to an open plan."""
        self._ends.announce(specs)
        self.channel.add(specs)
        self.post(RunsAdded(self._clock.monotonic(), runs))

    def drop(self, ids: tuple[TaskRunId, ...]) -> None:
        """Let go of results that somebody held; may be called by the garbage collector."""
        if self._is_late:
            self.values.drop(ids)
        else:
            # No more than this, for the collector may have come in the middle of anything.
            self._inbox.put(ResultsDropped(self._clock.monotonic(), ids))

    def cancel(self, reason: str) -> None:
        """Ask for the end; does not wait for it."""
        self.post(CancelAsked(self._clock.monotonic(), reason))
        self.hurry()

    def hurry(self) -> None:
        """Have news taken in at once, and not gathered."""
        self._hurry.set()

    # -- the machine's thread -------------------------------------------------------------

    def _run(self, begin: type[RunStarted] | None) -> None:
        try:
            if begin is not None:
                self._handle(begin(self._clock.monotonic(), self._clock.time()))
            while self._is_late is False:
                self._loop()
                self._stop()
        except Exception as error:  # noqa: BLE001 (whatever it is, nobody must be left waiting)
            self._break(error)
            self._stop()

    def _stop(self) -> None:
        """Leave the machine to other threads, unless late news lets it go on."""
        with self._late_lock:
            self._is_late = True
            self._take_late()
            if self.machine.final is None:
                self._is_late = False
            else:
                self._performer.hooks.call(self._end, self.machine.final)

    def _end(self, final: Header) -> None:
        with self._late_lock:
            if self.machine.final is not final:
                # It had paused, and somebody has let it go on meanwhile.
                return
            try:
                self._performer.tell_of_dropped_lines()
                self._performer.listener.run_ended(final.state, self.machine.records)
            finally:
                self._ends.tell_over()

    def _loop(self) -> None:
        next_sweep = self._clock.monotonic() + SWEEP_EVERY
        while self.machine.final is None:
            self._take_news(next_sweep)
            now = self._clock.monotonic()
            wake_at = self.machine.wake_at
            if wake_at is not None and wake_at <= now:
                self._handle(TimerFired(now))
            if now >= next_sweep and self.machine.final is None:
                for found in (*self.channel.sweep(self._awaits), *self.watchdog.look(now)):
                    self._handle(found)
                next_sweep = self._clock.monotonic() + _pause_after(self._clock.monotonic() - now)
            self._performer.release()
            self._tell()
            self._gather()

    def _take_news(self, next_sweep: float) -> None:
        """Wait for news or for a time, and take in a batch."""
        try:
            event = self._clock.take(self._inbox, self.machine.wake_at, next_sweep)
        except queue.Empty:
            return
        self._handle(event)
        for _ in range(self._clock.batch):
            if self._inbox.empty() or self.machine.final is not None:
                break
            self._handle(self._inbox.get())

    def _gather(self) -> None:
        """Leave news some time to gather, where much is under way and nothing is due."""
        if not self._clock.gathers:
            return
        wake_at = self.machine.wake_at
        is_due = wake_at is not None and wake_at <= self._clock.monotonic() + _GATHER
        if self.machine.active > _FEW and self.machine.final is None and not is_due:
            self._hurry.wait(_GATHER)
            self._hurry.clear()

    def _awaits(self, id: TaskRunId) -> bool:
        # A result of another run is held before the machine has heard that it was added.
        record = self.machine.records.get(id)
        return record is not None and record.phase in ("submitted", "growing")

    def _handle(self, event: Event) -> None:
        self._last_events.append(event)
        if isinstance(event, ClusterLost) and self.machine.final is None:
            self.error = _lost_cluster(event)
        if isinstance(event, ForeignEnded) and event.future is not None:
            record = self.machine.records.get(event.id)
            # It may have been cancelled here meanwhile.
            if record is not None and record.phase == "foreign":
                self.channel.hold(event.id, event.future)
        for command in self.machine.handle(event):
            self._performer.perform(command)
        if isinstance(event, Grew) and self.machine.records[event.id].inner is event.inner:
            # Before anything of it is sent, which is when the timer fires.
            self._growths.join(event)
        if isinstance(event, RunsAdded):
            self._ends.arrived([run.id for run in event.runs])

    def _break(self, error: Exception) -> None:
        """End a run that an error of ours, or of the connection, has broken."""
        if self.machine.final is not None:
            # All has been said; what could not be let go after that goes with the connection.
            logger.debug("a flow run is over, and this went wrong", exc_info=error)
            return
        lost = _lost_connection(self.channel, self._awaits)
        if lost is not None:
            # An error of the connection is not ours.
            self.error = _lost_cluster(lost)
            tried(lambda: self._performer.perform_last(self.machine.handle(lost)))
        if self.machine.final is None:
            text = f"error in dask_taskrunner: {describe(error)}"
            self.error = InternalError(text, events=list(self._last_events))
            self.error.__cause__ = error
            self._performer.perform_last(self.machine.give_up(self._clock.monotonic(), text))
            tried(self.channel.close)

    # -- after the end --------------------------------------------------------------------

    def _take_late(self) -> None:
        """Take in news that comes after the end, in whichever thread it comes."""
        with self._late_lock:
            while self._is_late:
                try:
                    event = self._inbox.get_nowait()
                except queue.Empty:
                    break
                # Nothing follows from it but a line among the attempts, and what is let go.
                tried(self._handle, event)
            self._tell()

    def _tell(self) -> None:
        news = self.machine.history[self._told :]
        self._told += len(news)
        self._performer.tell(news, self.machine.records)
        if self.machine.plan.is_open and news:
            self._told = 0
            self.machine.handle(HistoryRead(self._clock.monotonic()))
        self._ends.tell(news)


def _lost_connection(channel: Channel, awaits: Callable[[TaskRunId], bool]) -> ClusterLost | None:
    try:
        events = channel.sweep(awaits)
    except Exception:  # noqa: BLE001 (the first error says more than this one)
        return None
    return next((event for event in events if isinstance(event, ClusterLost)), None)


def _lost_cluster(event: ClusterLost) -> Exception:
    return exceptions.ClusterLost(
        f"{event.text}. What had finished keeps its state in the flow run's record; of the rest "
        "nothing is known."
    )


def _weak_post(driver: Driver) -> Callable[[Event], None]:
    # What nobody holds any more must go at once, and let go of its futures.
    reference = weakref.WeakMethod(driver.post)

    def post(event: Event) -> None:
        method = reference()
        if method is not None:
            method(event)

    return post


def _pause_after(sweep: float) -> float:
    """Return how long to wait after a sweep that took so many seconds."""
    return max(SWEEP_EVERY, min(sweep / _SWEEPING, _SWEEP_AT_LEAST_EVERY))
