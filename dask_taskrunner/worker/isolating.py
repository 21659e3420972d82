"""Runs a body in a process of its own, which can be killed, and can crash, without the worker.

The process is a fresh interpreter (:mod:`~dask_taskrunner.worker.isolated_main`), the leader of a
group of its own. What it gets and what comes back is described here. It knows no states.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from dask_taskrunner.run_context import context
from dask_taskrunner.signals import CANCELLED
from dask_taskrunner.time_limits import Overdue
from dask_taskrunner.user_code import Died, RaisedElsewhere
from dask_taskrunner.worker.capturing import take_line
from dask_taskrunner.worker.envelope import pickle_value

#: What a message from the process is about: one byte, before eight that tell its length.
BEGAN, LINE, RESULT, ERROR = b"B", b"L", b"R", b"E"
#: In place of a message, where there is none yet.
NOTHING: Final = b""
LENGTH: Final = 8
#: Seconds between two looks at whether the process is there and wanted.
_LOOK_EVERY: Final = 0.1
#: Seconds that a process has to start, whatever the limit of its body.
_STARTING: Final = 120.0
#: Seconds that a process has to end by itself once it has said what came of its body.
_ENDING: Final = 1.0
_CHUNK: Final = 1 << 20
#: The process finds modules where the worker does: some may have been sent along.
_MAIN: Final = (
    "import sys; numbers, sys.path[:] = sys.argv[1:3], sys.argv[3:]; sys.argv[1:] = []; "
    "from dask_taskrunner.worker.isolated_main import main; main(*map(int, numbers))"
)
#: Made anew by whoever asks for it, or of no use in another process.
_NOT_SENT: Final = frozenset({"logger", "cancelled"})


class Limits(NamedTuple):
    """What a body may use: seconds, and bytes of memory; None for as much as it likes."""

    seconds: float | None = None
    memory: int | None = None


class Request(NamedTuple):
    """What the process is told first, before the pickled inputs and entries of the context."""

    path: list[str]
    directory: str
    scheduler: str
    memory: int | None
    level: int | str
    prints: bool
    is_mapped_over: bool


class IsolatedBody:
    """A task's body, to be run elsewhere.

    Parameters
    ----------
    code : bytes
        The pickled definition of the task.
    limits : Limits
        What it may use.
    request : Request
        What the process is told.
    is_cancelled : callable
        Returns whether nobody wants the result any more.
    """

    def __init__(
        self, code: bytes, limits: Limits, request: Request, is_cancelled: Callable[[], bool]
    ) -> None:
        self._code = code
        self._limits = limits
        self._request = request
        self._is_cancelled = is_cancelled

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Run the body, and return what it returns.

        Raises
        ------
        RaisedElsewhere
            The body raised.
        Overdue, CANCELLED
            The process was killed.
        Died
            It ended without a word.
        """
        entries = {k: v for k, v in context.to_dict().items() if k not in _NOT_SENT}
        sent = [pickle.dumps(tuple(self._request)), self._code, *_pickled(dict(inputs), entries)]
        with _Process() as process:
            process.send(sent)
            return self._follow(process)

    def _follow(self, process: _Process) -> Any:
        seconds: float | None = _STARTING
        deadline: float | None = time.monotonic() + _STARTING
        while True:
            kind, data = process.next_message() or (NOTHING, bytearray())
            if kind == RESULT:
                return _unpacked(data)
            if kind == ERROR:
                error, text = pickle.loads(data)
                raise RaisedElsewhere(pickle.loads(error), text)
            if kind == BEGAN:
                seconds = self._limits.seconds
                deadline = None if seconds is None else time.monotonic() + seconds
            elif kind == LINE:
                take_line(*pickle.loads(data))
            # Also after a line: there is always one more of a body that never stops talking.
            if self._is_cancelled():
                raise CANCELLED("its process was killed, for nobody wants the result any more")
            if seconds is not None and deadline is not None and time.monotonic() > deadline:
                raise Overdue(seconds, "its process was killed", stopped=True)


def _pickled(inputs: dict[str, Any], entries: dict[str, Any]) -> Iterator[bytes]:
    for value in (inputs, entries):
        data, _ = pickle_value(value, 4)
        yield bytes(data)


def packed(value: Any) -> bytes:
    """Return a result as one piece of bytes, each of its buffers copied once."""
    data, buffers = pickle_value(value, 5)
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    lengths = pickle.dumps([len(part) for part in parts])
    return b"".join([len(lengths).to_bytes(LENGTH, "big"), lengths, *parts])


def _unpacked(data: bytearray) -> Any:
    view = memoryview(data)
    begin = LENGTH + int.from_bytes(view[:LENGTH], "big")
    parts = []
    for length in pickle.loads(view[LENGTH:begin]):
        parts.append(view[begin : begin + length])
        begin += length
    return pickle.loads(parts[0], buffers=parts[1:])


class _Process:
    """A process, and the messages that come from it."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        #: Its end tells the process that the worker is gone.
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(write), str(lifeline), *sys.path],
                stdin=subprocess.PIPE,
                pass_fds=(write, lifeline),
                # A group of its own, so that what it starts is killed with it.
                start_new_session=True,
            )
        finally:
            os.close(write)
            os.close(lifeline)
        self._received = bytearray()
        self._is_closed = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)

    def send(self, parts: list[bytes]) -> None:
        """Send what the process waits for, in a thread: it may end, or hang, before it reads."""
        threading.Thread(target=self._write, args=(parts,), daemon=True).start()

    def _write(self, parts: list[bytes]) -> None:
        stream = self._process.stdin
        assert stream is not None
        # Where it has ended, or was killed, whoever waits for it finds out.
        with contextlib.suppress(BrokenPipeError, ValueError):
            for part in parts:
                stream.write(len(part).to_bytes(LENGTH, "big"))
                stream.write(part)
            stream.flush()

    def next_message(self) -> tuple[bytes, bytearray] | None:
        """Return what the process says next, or None where it has said nothing for a moment.

        Raises
        ------
        Died
            It has ended, and says nothing more.
        """
        message = self._whole_message()
        if message is None:
            # In this order: what it has said before its end is read first.
            has_ended = self._process.poll() is not None
            if not self._read_some() and (has_ended or self._is_closed):
                raise Died(f"isolated process {_how_it_ended(self._process.wait())}")
            message = self._whole_message()
        return message

    def _read_some(self) -> bool:
        if self._is_closed or not self._selector.select(_LOOK_EVERY):
            return False
        data = os.read(self._read, _CHUNK)
        self._received += data
        self._is_closed = not data
        return bool(data)

    def _whole_message(self) -> tuple[bytes, bytearray] | None:
        received, begin = self._received, 1 + LENGTH
        if len(received) < begin:
            return None
        end = begin + int.from_bytes(received[1:begin], "big")
        if len(received) < end:
            return None
        kind, data = bytes(received[:1]), received[begin:end]
        self._received = received[end:]
        return kind, data

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        process = self._process
        # One that has said what came of its body may clean up after itself.
        if kind is None or issubclass(kind, RaisedElsewhere):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._selector.close()
        os.close(self._read)
        os.close(self._lifeline)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; out of memory?" if name == "SIGKILL" else ""
    return f"ended with signal {-code} ({name}{hint})"
