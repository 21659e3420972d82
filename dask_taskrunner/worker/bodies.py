"""What is called when a task's body is run on a worker: within its limits, here or elsewhere."""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dask.utils import parse_bytes
from distributed import Worker
from distributed.threadpoolexecutor import thread_state

from dask_taskrunner.exceptions import ResultNotSerializable, TaskRunnerError, describe
from dask_taskrunner.graph.mapping import elements_if_any
from dask_taskrunner.time_limits import call_within
from dask_taskrunner.times import to_seconds
from dask_taskrunner.worker.envelope import pickle_value
from dask_taskrunner.worker.isolating import IsolatedBody, Limits, Request
from dask_taskrunner.worker.wire import Call


def body_of(
    task: Any,
    code: bytes,
    worker: Worker,
    call: Call,
    is_cancelled: Callable[[], bool],
) -> Callable[[Mapping[str, Any]], Any]:
    """Return what runs a task's body with inputs, and keeps to its limits.

    Parameters
    ----------
    task : Task
        Whose body it is.
    code : bytes
        The same, pickled.
    worker : Worker
        Runs it.
    call : Call
        What is executed.
    is_cancelled : callable
        Returns whether nobody wants the result any more.
    """
    seconds = None if task.timeout is None else to_seconds(task.timeout)
    if task.isolate is not None:
        memory = None if task.memory_limit is None else parse_bytes(task.memory_limit)
        request = Request(
            sys.path,
            os.getcwd(),
            worker.scheduler.address,
            memory,
            task.log_level,
            task.log_prints,
            call.is_mapped_over,
        )
        return IsolatedBody(code, Limits(seconds, memory), request, is_cancelled).call
    body: Callable[[Mapping[str, Any]], Any] = task.call
    if call.is_mapped_over:
        body = _as_sequence(body)
    if seconds is None:
        return body
    return functools.partial(call_within, seconds, _outside_of_the_pool, body)


def checked(body: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a body that fails where its result could not be sent to another worker."""

    def call(inputs: Mapping[str, Any]) -> Any:
        result = body(inputs)
        try:
            data, buffers = pickle_value(result, 5)
            pickle.loads(data, buffers=buffers)
        except Exception as error:
            raise ResultNotSerializable(
                f"the result, of type {type(result).__name__}, cannot be sent to another worker: "
                f"{describe(error)}"
            ) from error
        return result

    return call


def _outside_of_the_pool(
    body: Callable[[Mapping[str, Any]], Any], inputs: Mapping[str, Any]
) -> Any:
    thread_state.executor = _NO_POOL
    return body(inputs)


class _NoPool:
    """Stands where Dask's `secede` looks for the calling thread's pool."""

    @property
    def _threads(self) -> Any:
        # A private name of Dask: what secede() takes the thread out of.
        raise TaskRunnerError(
            "secede() cannot be called by a task with a timeout: its body runs in a thread that "
            "has no place in the worker's pool. Leave the timeout out; or call flow.run(), which "
            "makes room by itself"
        )


_NO_POOL = _NoPool()


def _as_sequence(body: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a body whose result others can take elements of, if it is anything like that."""
    return lambda inputs: elements_if_any(body(inputs))
