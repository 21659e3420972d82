"""A task's traceback as text, from the user's first frame on; it knows only frames."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from types import TracebackType
from typing import Any

_OURS = frozenset({"dask_taskrunner"})
#: Between a worker's thread and the user's code: two are there for ``async def``, and the last one
#: for a file that is loaded.
_MACHINERY = _OURS | {"dask", "distributed", "asyncio", "concurrent", "importlib"}
#: What ships with us and is a user's code all the same.
_EXAMPLES = "dask_taskrunner.examples"


def user_traceback(exception: BaseException) -> str:
    """Return the traceback of an exception as text, without the machinery's frames above it."""
    # A function of Dask's may be the body itself: then its frames are what there is to see.
    frames = _below(_MACHINERY, exception.__traceback__) or _below(_OURS, exception.__traceback__)
    return "".join(traceback.format_exception(type(exception), exception, frames))


def user_frames(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Return the frames of a running thread from the user's first one on."""
    frames = list(stack)
    first = next((i for i, frame in enumerate(frames) if not _is_machinery(frame.filename)), None)
    return [] if first is None else frames[first:]


def _is_machinery(filename: str) -> bool:
    parts = PurePath(filename).parts
    return bool({"dask_taskrunner", "threading.py"} & set(parts)) and "examples" not in parts


def forget_frames(exception: BaseException) -> None:
    """Drop the frames of an exception and of those that it came from.

    Frames hold everything that the task had in its variables, for as long as the exception lives.
    """
    known: set[int] = set()
    waiting: list[BaseException | None] = [exception]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in known:
            continue
        known.add(id(error))
        error.with_traceback(None)  # an assignment is refused by a frozen dataclass
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


def _below(packages: Set[str], frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and _is_of(packages, frames):
        frames = frames.tb_next
    return frames


def _is_of(packages: Set[str], frames: TracebackType) -> bool:
    module = str(frames.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in packages and not module.startswith(_EXAMPLES)


def loads(data: Any, buffers: Iterable[Any] = ()) -> Any:
    """Return what a pickle holds, without letting it hold on to whoever asks.

    Dask has tracebacks pickled along with exceptions. What is made of them here leads from frame to
    frame to the callers of this function, and would keep a future alive that was asked for its
    exception.
    """
    # In a thread of its own, whose frames lead to nobody; a value without tracebacks needs none.
    if len(data) > _MAY_HAVE_TRACEBACKS or b"tblib" not in bytes(data):
        return pickle.loads(data, buffers=buffers)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(pickle.loads, data, buffers=buffers).result()


#: A larger pickle is not searched: what has tracebacks is small.
_MAY_HAVE_TRACEBACKS = 1_000_000
