"""Calls a function that may take so long and no longer. It knows no tasks and no states.

Python cannot stop a thread. So the function is called in a thread of its own, while the calling
thread waits; at the deadline the caller goes on, whatever the other one does. An exception is
raised in that thread as a courtesy, which ends code that is executed by Python, and not what sleeps
or computes outside of it.
"""

from __future__ import annotations

import ctypes
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from types import FrameType
from typing import Any, Final

from dask_taskrunner.tracebacks import user_frames

#: Seconds that what is asked to end is given for it.
COURTESY: Final = 1.0


def is_traced() -> bool:
    """Return whether a debugger looks on, or coverage is measured.

    Then all of Python 3.11 stands still from the moment at which an exception is raised in another
    thread until that one takes it, which may be for ever: nothing is raised there.
    """
    return sys.gettrace() is not None or threading.gettrace() is not None


class Overdue(BaseException):
    """A body has taken longer than it may.

    Parameters
    ----------
    seconds : float
        The limit.
    how : str
        What became of the code, in words.
    stopped : bool
        Whether it is known to have ended.
    stack : str
        Where the code was at the deadline, as a traceback.
    """

    def __init__(self, seconds: float, how: str, *, stopped: bool, stack: str = "") -> None:
        super().__init__(f"it ran longer than its timeout of {seconds:g} s; {how}")
        self.stopped = stopped
        self.stack = stack


class _Stop(BaseException):
    """Is raised in a thread that is to end; no user code is meant to catch it."""


#: Threads that went on after a deadline.
_left: set[threading.Thread] = set()
#: Has something done by the thread that waits for the calling one, if any does.
_waiting: ContextVar[_Call | None] = ContextVar("dask_taskrunner_waiting", default=None)


def call_within(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns, or raise what it raises, within some time.

    Parameters
    ----------
    seconds : float
        How long it may take.
    function : callable
        Is called with `args`, in another thread, which has a copy of the caller's context.

    Raises
    ------
    Overdue
        It took longer.
    """
    call = _Call(function, args)
    if not call.wait(seconds):
        call.stop(seconds)
    return call.outcome()


def by_waiting_thread(function: Callable[[], Any]) -> Any:
    """Call a function in the thread that waits for the calling one under a time limit.

    In the calling thread, where there is none: what belongs to a task's own thread, a time limit
    must not take from it.
    """
    call = _waiting.get()
    return function() if call is None else call.ask(function)


def is_overdue() -> bool:
    """Return whether the caller goes on after its deadline."""
    call = _waiting.get()
    return call is not None and call.is_overdue


class _Call:
    """A function's call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self._is_over = False
        self.is_overdue = False
        self._lock = threading.Lock()
        #: What the thread wants done; None once it has ended.
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        context = copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="dask-taskrunner-body", daemon=True
        )
        self._thread.start()

    # -- in the thread --------------------------------------------------------------------

    def _run(self) -> None:
        _waiting.set(self)
        try:
            try:
                self._value = self._function(*self._args)
            except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
                self._error = error
            with self._lock:
                self._is_over = True
            # What was raised in here before that is raised in this block, and not later.
            for _ in range(10):
                pass
        except _Stop:
            self._is_over = True
        finally:
            _left.discard(self._thread)
            self._wishes.put(None)

    def ask(self, function: Callable[[], Any]) -> Any:
        """Have the waiting thread call a function."""
        if self.is_overdue:
            raise RuntimeError("the task has timed out, and nobody waits for this any more")
        wish = _Wish(function)
        self._wishes.put(wish)
        return wish.result()

    # -- in the one that waits ------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        """Wait for the end, and return whether it came in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                wish = self._wishes.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return self._is_over
            if wish is None:
                return True
            wish.fulfil()

    def stop(self, seconds: float) -> None:
        """Ask the thread to end.

        Raises
        ------
        Overdue
            Always.
        """
        with self._lock:
            self.is_overdue = True
            ident = self._thread.ident
            assert ident is not None
            stack = _stack_of(ident)
            if not self._is_over:
                _left.add(self._thread)
            if not self._is_over and not is_traced():
                raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in_thread(ctypes.c_ulong(ident), ctypes.py_object(_Stop))
        self._thread.join(COURTESY)
        if not self._thread.is_alive():
            raise Overdue(seconds, "its code was stopped", stopped=True, stack=stack)
        left = sum(thread.is_alive() for thread in list(_left))
        others = "" if left == 1 else f" beside {left - 1} others"
        how = (
            f"its code runs on in a thread{others}, and a thread cannot be stopped: "
            "with isolate='process' it would be a process, which can"
        )
        raise Overdue(seconds, how, stopped=False, stack=stack)

    def outcome(self) -> Any:
        """Return or raise what came of the call."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._value


class _Wish:
    """Something that one thread wants another one to do."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._is_done = threading.Event()

    def fulfil(self) -> None:
        """Do it."""
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 (who wants it, gets it)
            self._error = error
        self._is_done.set()

    def result(self) -> Any:
        """Wait for what came of it."""
        self._is_done.wait()
        if self._error is not None:
            raise self._error
        return self._value


def _stack_of(ident: int) -> str:
    frame: FrameType | None = sys._current_frames().get(ident)
    if frame is None:
        return ""
    lines = "".join(traceback.format_list(user_frames(traceback.extract_stack(frame))))
    return f"At the deadline (most recent call last):\n{lines}" if lines else ""
