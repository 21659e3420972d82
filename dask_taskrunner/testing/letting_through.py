"""Lets exceptions of tasks through, for tests of a `TaskRunner` used alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dask_taskrunner.run_context import context


@contextmanager
def raise_on_exception() -> Iterator[None]:
    """Let exceptions of tasks and hooks through, in place of making states of them.

    Signals still choose states. It holds in this process only: for a `TaskRunner` used alone.

    Examples
    --------
    >>> with raise_on_exception():  # doctest: +SKIP
    ...     TaskRunner(clean).run(inputs={"rows": None})
    Traceback (most recent call last):
    ...
    TypeError: 'NoneType' object is not iterable
    """
    with context(raise_on_exception=True):
        yield
