"""Streams whose reader may go before the writer is done. It knows only streams."""

from __future__ import annotations

import os
from typing import Any, TextIO


class Pipe:
    """Writes to a stream as long as somebody reads it, as `head` does for a while.

    Whoever runs a flow has other business than that stream: what nobody reads is lost, and the run
    goes on.

    Parameters
    ----------
    stream : text stream
        May be a file or a terminal as well.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: True once the reader is known to be gone.
        self.is_broken = False

    def __getattr__(self, name: str) -> Any:
        # Such as `isatty` and `encoding`, which tell what can be written.
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or let it go."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Have what was written arrive, if anybody is there."""
        self._try("flush")

    def let_go(self) -> None:
        """Have what is still on its way go nowhere if nobody reads; Python flushes at its exit."""
        self.flush()
        if self.is_broken:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _try(self, name: str, *args: str) -> None:
        if not self.is_broken:
            try:
                getattr(self._stream, name)(*args)
            except BrokenPipeError:
                self.is_broken = True
