"""Who wants to be called when something has ended. It knows no runs, and starts no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeAlias

Waiter: TypeAlias = Callable[[], None]


class Waiters:
    """Waiters by what they wait for; each is called once."""

    def __init__(self) -> None:
        self._waiters: dict[Hashable, list[Waiter]] = {}
        self._lock = threading.Lock()

    def add(self, what: Hashable, waiter: Waiter, has_ended: Callable[[], bool]) -> None:
        """Have a waiter called in the thread that tells of the end, or here if that has come."""
        # Whoever tells of an end makes it true first: so either it is seen here, or that thread
        # finds the waiter.
        with self._lock:
            if not has_ended():
                self._waiters.setdefault(what, []).append(waiter)
                return
        waiter()

    def discard(self, what: Hashable, waiter: Waiter) -> None:
        """Forget a waiter that was not called yet: who waits in vain must not gather here."""
        with self._lock:
            waiters = self._waiters.get(what, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[what]

    def tell(self, what: Hashable) -> None:
        """Call those who wait for something that has ended."""
        # Most ends are waited for by nobody.
        if what in self._waiters:
            with self._lock:
                waiters = self._waiters.pop(what, [])
            for waiter in waiters:
                waiter()

    def tell_all(self) -> None:
        """Call everybody."""
        with self._lock:
            waiters = [waiter for waiters in self._waiters.values() for waiter in waiters]
            self._waiters.clear()
        for waiter in waiters:
            waiter()
