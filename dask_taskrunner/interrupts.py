"""Ctrl-C while a flow runs: whoever waits hears of it, and what was launched is cancelled.

It knows no cluster. What a cluster's processes do with the same signal is its own business.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from dask_taskrunner.flow_run import FlowRun

#: How long Ctrl-C waits for the run to end as cancelled.
PATIENCE: Final = 2.0
#: How often whoever waits looks for an interrupt that was swallowed.
_LOOK_EVERY: Final = 0.2

#: What the call at hand has launched: an interrupt may come before it has got the run.
_launched: ContextVar[list[FlowRun] | None] = ContextVar("dask_taskrunner_launched", default=None)


def note_launch(run: FlowRun) -> None:
    """Have a run cancelled if the call at hand is interrupted."""
    launched = _launched.get()
    if launched is not None:
        launched.append(run)


@contextlib.contextmanager
def noting_launches() -> Iterator[list[FlowRun]]:
    """Give the runs that are launched inside the block."""
    launched: list[FlowRun] = []
    token = _launched.set(launched)
    try:
        yield launched
    finally:
        _launched.reset(token)


@contextlib.contextmanager
def cancelling(launched: list[FlowRun]) -> Iterator[None]:
    """Cancel runs if the block is interrupted, and name the run in the exception."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        # Out of the list first: a second one may come meanwhile, and waits for nothing.
        while launched:
            run = launched.pop()
            interrupt.run = run  # type: ignore[attr-defined]
            run.listener.give_up_waiting()
            run.cancel()
            run._driver.ended.wait(PATIENCE)
        raise


@contextlib.contextmanager
def remembering() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether there was an interrupt inside the block.

    Python raises `KeyboardInterrupt` wherever the main thread happens to be. Inside a callback of
    the garbage collector, such as Dask's, it prints "Exception ignored", and nobody hears of it.
    A handler of the user's own is left alone.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def handle(number: int, frame: Any) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def wait(run: FlowRun, interrupted: Callable[[], bool]) -> None:
    """Wait for a run's end, and raise an interrupt that was swallowed before or meanwhile.

    Raises
    ------
    KeyboardInterrupt
        There was one.
    ClusterLost, InternalError
        As :meth:`FlowRun.wait`.
    """
    while not run._driver.ended.wait(_LOOK_EVERY):
        if interrupted():
            raise KeyboardInterrupt
    run.wait()
