"""Helpers for the tests of users' own flows: they need no cluster, and no time."""

from dask_taskrunner.testing.assertions import (
    assert_attempts,
    assert_not_ran,
    assert_order,
    assert_ran,
    assert_states,
)
from dask_taskrunner.testing.faults import ScriptedFailure, fail, kill_worker, takes
from dask_taskrunner.testing.in_process_runner import InProcessRunner
from dask_taskrunner.testing.letting_through import raise_on_exception

__all__ = [
    "InProcessRunner",
    "ScriptedFailure",
    "assert_attempts",
    "assert_not_ran",
    "assert_order",
    "assert_ran",
    "assert_states",
    "fail",
    "kill_worker",
    "raise_on_exception",
    "takes",
]
