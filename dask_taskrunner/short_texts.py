"""Texts cut to the size in which they travel, and sizes as people read them. It knows no states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: What is kept of a long traceback.
_TRACEBACK_BYTES: Final = 10_240
_TEXT_BYTES: Final = 2000
#: Of a name, and of its end.
_NAME_LETTERS: Final = 28
_LAST_LETTERS: Final = 11


def shorten_traceback(text: str, room: int = _TRACEBACK_BYTES) -> str:
    """Return a traceback text cut in its middle to 10 kB, or to less where there is no room."""
    room = min(room, _TRACEBACK_BYTES)
    data = _encoded(text)
    if len(data) <= room:
        return text
    # Of ten parts the first four, where the user's code begins, and the last six.
    head = room * 2 // 5
    tail = data[head - room :].decode(errors="ignore")
    return f"{data[:head].decode(errors='ignore')}\n  [... cut ...]\n{tail}"


def shorten_message(message: object) -> str | None:
    """Return a message cut to 2 kB; what a task gave for one may be anything."""
    if message is None:
        return None
    text = message if isinstance(message, str) else _as_text(message)
    data = _encoded(text)
    if len(data) <= _TEXT_BYTES:
        return text
    return f"{data[:_TEXT_BYTES].decode(errors='ignore')}..."


def _as_text(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 (a user's class may do anything)
        return f"(a {type(value).__name__})"


def _encoded(text: str) -> bytes:
    # File names may hold what is no text; in msgpack it would break the worker's connection.
    return text.encode(errors="backslashreplace")


def sendable(value: object) -> Any:
    """Return a value as msgpack takes it: what is plain stays, and what is not becomes text."""
    if isinstance(value, str):
        return value if value.isascii() else _encoded(value).decode()
    if isinstance(value, Mapping):
        return {sendable(key): sendable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [sendable(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    return _as_text(value)


def size_on_the_wire(value: object) -> int:
    """Return about how many bytes a part of a header takes."""
    if isinstance(value, Mapping):
        return sum(size_on_the_wire(key) + size_on_the_wire(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(size_on_the_wire, value))
    return len(_encoded(value)) + 5 if isinstance(value, str) else 9


def shorten_name(name: str) -> str:
    """Return a name cut in its middle to 28 characters: at its end stands what tells it apart."""
    if len(name) <= _NAME_LETTERS:
        return name
    return f"{name[: _NAME_LETTERS - _LAST_LETTERS - 1]}…{name[-_LAST_LETTERS:]}"


def format_bytes(n: float) -> str:
    """Return a size as a person reads it: ``41 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
