"""The task that the pipeline's tests run: the options of a task, and nothing of a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dask_taskrunner.cache_validators import all_inputs
from dask_taskrunner.triggers import all_successful


class PlainTask:
    """Just what a `TaskRunner` asks of a task."""

    def __init__(self, body: Callable[..., Any], **options: Any) -> None:
        self.body = body
        self.name = "clean"
        self.slug = "clean-2"
        self.trigger = all_successful
        self.skip_on_upstream_skip = True
        self.max_retries = 0
        self.retry_delay: Any = 10
        self.retry_jitter = 0.0
        self.retry_on: Any = Exception
        self.cache_for = None
        self.cache_validator = all_inputs
        self.state_handlers: tuple[Callable[..., Any], ...] = ()
        self.record_inputs = True
        self.task_run_name: Any = None
        self.timeout: Any = None
        self.rerun_on_loss = True
        unknown = options.keys() - vars(self).keys()
        assert not unknown, unknown
        vars(self).update(options)

    def call(self, inputs: Mapping[str, Any]) -> Any:
        return self.body(**inputs)


@pytest.fixture
def task() -> Callable[..., PlainTask]:
    """Make a task of a body, with options."""
    return PlainTask


def nothing() -> None:
    """Do nothing."""


@pytest.fixture
def never() -> Callable[..., Any]:
    """Fail the test if this body, trigger, validator or handler is called."""

    def call(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("this must not be called")

    return call
