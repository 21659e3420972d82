"""Makes a plain value of what a task's body returns: coroutines are run, generators are listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_LAZY = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


def settle(value: Any) -> Any:
    """Return `value`, or the list or the result that it stands for."""
    if type(value) not in _LAZY:
        return value
    if isinstance(value, GeneratorType):
        return list(value)
    if isinstance(value, AsyncGeneratorType):
        return run_coroutine(_listed(value))
    return settle(run_coroutine(value))


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of `coroutine`, run in an event loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A notebook's thread has a loop that runs already, and a thread can run only one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()


async def _listed(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]
