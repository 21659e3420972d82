"""The process in which an isolated body runs; see :mod:`~dask_taskrunner.worker.isolating`.

It reads what to do from standard input, and answers through a pipe whose number it is given. When
its standard input ends, the worker is gone, and it ends with all that it has started.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from dask_taskrunner.exceptions import RemoteTaskError, ResultNotSerializable, describe
from dask_taskrunner.graph.mapping import elements_if_any
from dask_taskrunner.headers import pickled_exception
from dask_taskrunner.run_context import context
from dask_taskrunner.tracebacks import user_traceback
from dask_taskrunner.worker import clients
from dask_taskrunner.worker.capturing import HOOKS, Capture
from dask_taskrunner.worker.isolating import BEGAN, ERROR, LENGTH, LINE, RESULT, Request, packed

#: Linux's word for: send me a signal when my parent dies.
_PR_SET_PDEATHSIG: Final = 1


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


def main(descriptor: int) -> None:
    """Run one body."""
    _die_with_the_worker()
    source = os.fdopen(os.dup(0), "rb")
    # The body has nothing to read here.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    answers = _Answers(descriptor)
    request = Request._make(pickle.loads(_part(source)))
    code, inputs, entries = _part(source), _part(source), _part(source)
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
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


def _die_with_the_worker() -> None:
    """Ask for a signal at the worker's death, for the thread below needs the interpreter's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(source: BinaryIO) -> None:
    source.read()
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
