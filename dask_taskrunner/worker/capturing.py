"""Takes what a body logs and prints where it is made, by context: other threads' goes by untouched.

No handler is put on a logger and no level is changed. A handler on the root would keep the user's
``logging.basicConfig()`` from doing anything; a lower level would have the records of everybody
else made, and handed to the user's handlers. Instead, while bodies run, two methods of all loggers
ask the context first. It knows no Dask, so that any process can use it in which a body runs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final, TypeAlias

#: Gets a line: its time in epoch seconds, its level, its text.
TakeLine: TypeAlias = Callable[[float, int, str], None]

#: Where the lines of the calling context go.
_capture: ContextVar[Capture | None] = ContextVar("dask_taskrunner_capture", default=None)
#: What is printed without a line's end counts as a line when it has so many characters.
_LONGEST: Final = 16_000
_STREAMS: Final = ("stdout", "stderr")
#: By the names that the option takes.
_LEVELS: Final = logging.getLevelNamesMapping()
_formatter: Final = logging.Formatter()


class Capture:
    """A block whose lines are taken, in this thread and wherever its context is copied to.

    Parameters
    ----------
    level : int or str
        The lowest level of what is taken.
    take : callable
        Gets the lines, in any thread. What it logs or prints itself is not taken.
    prints : bool
        Whether to take what is written to standard output and standard error, too. It still goes
        where it went, but not to a terminal: there somebody sees the lines themselves.
    """

    __slots__ = ("_is_over", "_joiners", "_pid", "_token", "level", "take")

    def __init__(self, level: int | str, take: TakeLine, *, prints: bool = False) -> None:
        self.level = level if isinstance(level, int) else _LEVELS[level.upper()]
        self.take = take
        self._is_over = False
        self._pid = os.getpid()
        self._joiners = {name: _Joiner(take) for name in _STREAMS} if prints else None

    def __enter__(self) -> None:
        if self._joiners:
            _proxies.begin()
        self._token: Token[Capture | None] = _capture.set(self)

    def __exit__(self, *exc_info: object) -> None:
        _capture.reset(self._token)
        if self._joiners:
            for joiner in self._joiners.values():
                joiner.end()
            _proxies.end()
        self._is_over = True

    @property
    def is_over(self) -> bool:
        """True when the block has ended, though some thread of its may go on.

        In a fork nobody sends what is taken, and locks may be held that nobody gives back.
        """
        return self._is_over or os.getpid() != self._pid

    def takes(self, logger: logging.Logger, level: int) -> bool:
        """Return whether a line of a logger is wanted that it does not make by itself."""
        if self.is_over or level < self.level:
            return False
        if logger.disabled or logger.manager.disable >= level:
            return False
        # A level that somebody set for this logger is meant; that of the root is a default.
        ancestor: logging.Logger | None = logger
        while ancestor is not None and ancestor.parent is not None:
            if ancestor.level:
                return False
            ancestor = ancestor.parent
        return True

    def log(self, record: logging.LogRecord) -> bool:
        """Take a record, and return whether it is taken."""
        if self.is_over or record.levelno < self.level:
            return False
        self.take(record.created, record.levelno, text_of(record))
        return True

    def print(self, stream: str, text: str) -> bool:
        """Take what was written to a stream, and return whether it is taken."""
        if self.is_over or not self._joiners:
            return False
        self._joiners[stream].write(text)
        return True


def take_line(at: float, level: int, text: str) -> None:
    """Have the calling context's capture take a line that was made elsewhere."""
    capture = _capture.get()
    if capture is not None and not capture.is_over:
        capture.take(at, level, text)


def text_of(record: logging.LogRecord) -> str:
    """Return a record's message, and the traceback where there is one."""
    try:
        if record.exc_info or record.stack_info:
            return _formatter.format(record)
        return record.getMessage()
    # As in logging itself: a wrong line of the user's must not end the task.
    except Exception as error:  # noqa: BLE001 (it formats the user's objects)
        text = record.msg if isinstance(record.msg, str) else f"a {type(record.msg).__name__}"
        return f"{text} (its arguments do not fit it: {type(error).__name__})"


# --- loggers -------------------------------------------------------------------------------------


class Hooks:
    """The two methods of all loggers that ask the context, while they are installed."""

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}
        self._replaced: dict[str, Any] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Have the lines of captures taken; twice is once."""
        with self._lock:
            if self._own:
                return
            self._replaced = {name: getattr(logging.Logger, name) for name in _METHODS}
            self._own = dict(zip(_METHODS, _make_methods(**self._replaced), strict=True))
            for name, method in self._own.items():
                setattr(logging.Logger, name, method)

    def uninstall(self) -> None:
        """Leave all as it was."""
        with self._lock:
            for name, method in self._own.items():
                # Somebody else may have put a method around ours: that one stays, and ours in it,
                # which does nothing outside of captures.
                if getattr(logging.Logger, name) is method:
                    setattr(logging.Logger, name, self._replaced[name])
            self._own, self._replaced = {}, {}
        _proxies.restore()


_METHODS: Final = ("isEnabledFor", "callHandlers")


def _make_methods(isEnabledFor: Any, callHandlers: Any) -> tuple[Any, Any]:  # noqa: N803 (as there)
    """Return what stands before the methods of loggers."""

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        if isEnabledFor(self, level):
            return True
        capture = _capture.get()
        return capture is not None and capture.takes(self, level)

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        capture = _capture.get()
        if capture is None:
            callHandlers(self, record)
            return
        # Whatever is done with the record may log or print in its turn.
        token = _capture.set(None)
        try:
            is_taken = capture.log(record)
            # Where nobody handles it, Python itself writes it, perhaps across a terminal in which
            # it is shown already.
            is_shown = is_taken and not self.hasHandlers() and is_terminal(sys.stderr)
            # What only the task's own log wanted goes to nobody else.
            if not is_shown and isEnabledFor(self, record.levelno):
                callHandlers(self, record)
        finally:
            _capture.reset(token)

    return is_enabled_for, call_handlers


# --- streams -------------------------------------------------------------------------------------


def is_terminal(stream: Any) -> bool:
    """Return whether somebody reads a stream as it is written."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


class _Joiner:
    """Makes lines of what is written piece by piece."""

    def __init__(self, take: TakeLine) -> None:
        self._take = take
        # One print is a write for each of its words: most of them end no line.
        self._pieces: list[str] = []
        self._length = 0
        #: True where a line has been taken whose end is still to come.
        self._is_cut = False
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        with self._lock:
            self._pieces.append(text)
            self._length += len(text)
            if "\n" not in text and self._length < _LONGEST:
                return
            *lines, partial = "".join(self._pieces).split("\n")
            if self._is_cut and lines and not lines[0]:
                del lines[0]
            self._is_cut = False
            # A progress bar goes back to the line's beginning and writes over it.
            partial = partial[partial.rfind("\r", 0, -1) + 1 :]
            if len(partial) >= _LONGEST:
                lines.append(partial)
                partial, self._is_cut = "", True
            self._pieces = [partial] if partial else []
            self._length = len(partial)
        for line in lines:
            self._take(time.time(), logging.INFO, line.removesuffix("\r").rpartition("\r")[2])

    def end(self) -> None:
        """Take what was not ended by anybody."""
        if self._pieces:
            self.write("\n")


class _Proxy:
    """Stands in for a stream: the context is told of what is written, and the stream gets it."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self.stream = stream

    def write(self, text: str) -> int:
        capture = _capture.get()
        if capture is None or not isinstance(text, str):
            return int(self.stream.write(text) or 0)
        token = _capture.set(None)
        try:
            if capture.print(self._name, text) and is_terminal(self.stream):
                return len(text)
            return int(self.stream.write(text) or 0)
        finally:
            _capture.reset(token)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Proxies:
    """Standard output and standard error, replaced while anybody takes what is printed."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._users += 1
            for name in _STREAMS:
                stream = getattr(sys, name)
                # A process may have none, and prints nowhere.
                if stream is not None and not isinstance(stream, _Proxy):
                    setattr(sys, name, _Proxy(name, stream))

    def end(self) -> None:
        with self._lock:
            self._users -= 1
        self.restore()

    def restore(self) -> None:
        """Put the streams back, where nobody needs a proxy and nobody else has replaced it."""
        with self._lock:
            for name in _STREAMS if not self._users else ():
                stream = getattr(sys, name)
                if isinstance(stream, _Proxy):
                    setattr(sys, name, stream.stream)


_proxies: Final = _Proxies()
HOOKS: Final = Hooks()
