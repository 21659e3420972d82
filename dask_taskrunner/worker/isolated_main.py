"""The process in which an isolated body runs; see :mod:`~dask_taskrunner.worker.isolating`.

It reads what to do from standard input, and answers through a pipe whose number it is given. On
another one nothing is ever said: when that ends, the worker is gone, and the process ends with all
that it has started. On Linux the kernel sees to it, for a body may be in C code and give no thread
of Python a turn.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from dask_taskrunner.exceptions import RemoteTaskError, ResultNotSerializable, describe
from dask_taskrunner.graph.mapping import elements_if_any
from dask_taskrunner.headers import pickled_exception
from dask_taskrunner.run_context import context
from dask_taskrunner.tracebacks import user_traceback
from dask_taskrunner.worker import clients
from dask_taskrunner.worker.capturing import HOOKS, Capture
from dask_taskrunner.worker.isolating import BEGAN, ERROR, LENGTH, LINE, RESULT, Request, packed


class _Answers:
    """The pipe to the worker; safe against other threads, which may log."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send a message."""
        with self._lock:
            self._stream.write(kind + len(data).to_bytes(LENGTH, "big"))
            self._stream.write(data)
            self._stream.flush()

    def take_line(self, at: float, level: int, text: str) -> None:
        """Send a line of the body's log."""
        self.send(LINE, pickle.dumps((at, level, text)))


def main(descriptor: int, lifeline: int) -> None:
    """Run one body."""
    _have_killed_with(lifeline)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    source = os.fdopen(os.dup(0), "rb")
    # The body has nothing to read here.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    answers = _Answers(descriptor)
    request = Request._make(pickle.loads(_part(source)))
    code, inputs, entries = _part(source), _part(source), _part(source)
    if request.memory is not None:
        import resource  # there is none on Windows, where nothing is isolated

        resource.setrlimit(resource.RLIMIT_AS, (request.memory, request.memory))
    sys.path[:] = request.path
    os.chdir(request.directory)
    clients.set_scheduler(request.scheduler)
    try:
        value = _run(request, answers, code, inputs, entries)
        try:
            answer = packed(value)
        except Exception as error:
            raise ResultNotSerializable(
                f"its result, of type {type(value).__name__}, cannot leave the isolated process: "
                f"{describe(error)}"
            ) from error
    except BaseException as error:  # noqa: BLE001 (it is the body's, and raised for it elsewhere)
        answers.send(ERROR, pickle.dumps((_pickled(error), user_traceback(error))))
    else:
        answers.send(RESULT, answer)


def _run(request: Request, answers: _Answers, code: bytes, inputs: bytes, entries: bytes) -> Any:
    task = pickle.loads(code)
    values: Mapping[str, Any] = pickle.loads(inputs)
    HOOKS.install()
    with (
        # When nobody wants it any more, this process is killed.
        context(**pickle.loads(entries), cancelled=False),
        Capture(request.level, answers.take_line, prints=request.prints),
    ):
        answers.send(BEGAN)
        value = task.call(values)
        return elements_if_any(value) if request.is_mapped_over else value


def _pickled(error: BaseException) -> bytes:
    data = pickled_exception(error)
    if data is None:
        kind = type(error).__name__
        text = describe(error).removeprefix(kind).removeprefix(": ")
        data = pickle.dumps(RemoteTaskError(kind, text, user_traceback(error)))
    return data


def _part(source: BinaryIO) -> bytes:
    return source.read(int.from_bytes(source.read(LENGTH), "big"))


def _have_killed_with(lifeline: int) -> None:
    """Have the kernel kill this process and its group at the pipe's end.

    PR_SET_PDEATHSIG would kill this process only, before it could do anything about the others.
    What was said on the pipe would kill it, too: nothing is.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def _end_with(lifeline: int) -> None:
    # Also where the worker was gone before the kernel was asked.
    os.read(lifeline, 1)
    os.killpg(os.getpid(), signal.SIGKILL)
