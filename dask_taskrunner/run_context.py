"""What a task may know of the run that it is part of: `context`.

The entries lie in a context variable, so every thread and every asyncio task has its own, and a
thread that a user starts sees them under `contextvars.copy_context`. This module fills nothing in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final

#: What the context of a task run has of its own, or will have: nobody else's entry is called so.
RESERVED: Final = frozenset(
    {
        *("task_run_number", "attempt", "task_name", "task_run_name", "slug", "map_index"),
        *("flow_name", "flow_run_id", "run_name", "parameters", "logger", "task_exception"),
        *("cancelled", "task_loop_count", "task_loop_result"),
        # The context's own attributes, and what only a test may set.
        *("get", "to_dict", "raise_on_exception"),
    }
)

_NO_ENTRIES: Mapping[str, Any] = MappingProxyType({})

_entries: ContextVar[Mapping[str, Any]] = ContextVar("dask_taskrunner_context", default=_NO_ENTRIES)


class _Block:
    """A block in which some entries are set above those around it."""

    __slots__ = ("_set", "_token")

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._set = entries

    def __enter__(self) -> dict[str, Any]:
        # Whoever opened the block may go on filling it.
        entries = {**_entries.get(), **self._set}
        self._token: Token[Mapping[str, Any]] = _entries.set(entries)
        return entries

    def __exit__(self, *exc_info: object) -> None:
        _entries.reset(self._token)


@contextmanager
def no_entries() -> Iterator[None]:
    """Hide all entries that are set around a block."""
    token = _entries.set(_NO_ENTRIES)
    try:
        yield
    finally:
        _entries.reset(token)


class Context:
    """The entries of the running task, as attributes.

    Inside a task there are ``task_run_number attempt task_name task_run_name slug map_index
    flow_name flow_run_id run_name parameters logger cancelled task_loop_count task_loop_result``,
    after a failed body ``task_exception``, and what was given as ``context=``. ``cancelled`` is
    looked up anew each time: True once nobody wants the body's result any more.

    Examples
    --------
    >>> with context(region="eu"):
    ...     context.region, context.get("color", "none")
    ('eu', 'none')
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        entries = _entries.get()
        if name in entries:
            return _is_cancelled(entries) if name == "cancelled" else entries[name]
        if name == "logger":
            # Made when asked for: most tasks log nothing.
            task_name = entries.get("task_name")
            return logging.getLogger(f"dask_taskrunner.{task_name}" if task_name else __package__)
        there = ", ".join(sorted({*entries, "logger"}))
        raise AttributeError(f"the context has no {name!r} here; it has: {there}")

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or `default` where there is none of that name."""
        entries = _entries.get()
        if name == "cancelled" and name in entries:
            return _is_cancelled(entries)
        return self.logger if name == "logger" else entries.get(name, default)

    def to_dict(self) -> dict[str, Any]:
        """Return all entries that are set, as a new dict."""
        entries = dict(_entries.get())
        if "cancelled" in entries:
            entries["cancelled"] = _is_cancelled(entries)
        return entries

    def __call__(self, /, **entries: Any) -> _Block:
        """Set entries for a ``with`` block."""
        return _Block(entries)

    def __reduce__(self) -> str:
        # A task that uses `context` is pickled with the name of it, never with the entries.
        return "context"


def _is_cancelled(entries: Mapping[str, Any]) -> bool:
    # What runs the body has put a function there, for it is not known beforehand.
    cancelled = entries["cancelled"]
    return bool(cancelled() if callable(cancelled) else cancelled)


#: The one object through which the entries are read.
context = Context()
