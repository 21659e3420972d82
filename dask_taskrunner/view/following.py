"""Writes what is new again and again, in a thread, while something goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from dask_taskrunner.view.block import UPDATES_PER_SECOND
from dask_taskrunner.view.pipes import Pipe


@contextmanager
def following(read: Callable[[], Sequence[str]], stream: TextIO) -> Iterator[None]:
    """Write new lines while the block of code runs, and the last ones when it ends.

    Parameters
    ----------
    read : callable
        Returns the lines that are new since its last call.
    stream : text stream
        Gets them. Nobody may read it any more: then nothing is written to it from there on.
    """
    over, pipe = threading.Event(), Pipe(stream)

    def write() -> bool:
        if lines := read():
            pipe.write("".join(f"{line}\n" for line in lines))
            pipe.flush()
        return not pipe.is_broken

    def follow() -> None:
        while write() and not over.wait(1 / UPDATES_PER_SECOND):
            pass

    thread = threading.Thread(target=follow, name="dask-taskrunner-view-lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        write()
