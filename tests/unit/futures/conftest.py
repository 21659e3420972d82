"""Single calls on a cluster in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.fake_backend import FakeBackend, launched
from fakes.gates import PATIENCE
from fakes.sessions import Caller

from dask_taskrunner import Flow, FlowRun, driver


@pytest.fixture(autouse=True)
def hears_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A cluster that another test started has silenced all handlers, pytest's as well."""
    caplog.handler.setLevel(logging.NOTSET)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBackend]:
    # What nobody reported is looked for all the time.
    monkeypatch.setattr(driver, "SWEEP_EVERY", 0.01)
    backend = FakeBackend()
    backend.install(monkeypatch)
    yield backend
    backend.close()


@pytest.fixture
def make_runner(backend: FakeBackend) -> Iterator[Callable[..., Caller]]:
    """Make what calls are submitted to, as a runner does."""
    callers: list[Caller] = []

    def make(**options: Any) -> Caller:
        callers.append(Caller(backend, **options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.end()


@pytest.fixture
def runner(make_runner: Callable[..., Caller]) -> Caller:
    return make_runner()


@pytest.fixture
def start(backend: FakeBackend) -> Iterator[Callable[..., FlowRun]]:
    """Start a flow, and return its run."""
    runs: list[FlowRun] = []

    def start(flow: Flow, **options: Any) -> FlowRun:
        runs.append(launched(backend, flow, **options))
        return runs[-1]

    yield start
    for run in runs:
        run.cancel()
        assert run._driver.ended.wait(PATIENCE), "the run hangs"
        run._driver._thread.join(PATIENCE)


@pytest.fixture
def finish(start: Callable[..., FlowRun]) -> Callable[..., FlowRun]:
    """Run a flow to its end, and return its run."""

    def finish(flow: Flow, **options: Any) -> FlowRun:
        return start(flow, **options).wait(PATIENCE)

    return finish
