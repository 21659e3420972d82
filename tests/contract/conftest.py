"""The backends that keep the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
from fakes.bare_run import BareRun
from fakes.fake_backend import FakeBackend, FakeChannel

from dask_taskrunner import Flow
from dask_taskrunner.backend import Backend
from dask_taskrunner.machine.events import Loss


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send what this module defines by value: a worker does not have it."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(params=["fake", pytest.param("dask", marks=pytest.mark.cluster)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    if request.param == "fake":
        fake = FakeBackend()
        fake.install(monkeypatch)
        yield fake
        fake.close()
        return
    from dask_taskrunner.dask_backend.backend import DaskBackend

    dask = DaskBackend(request.getfixturevalue("client"))
    yield dask
    dask.close()


@pytest.fixture
def open_run(backend: Backend) -> Iterator[Callable[[Flow], BareRun]]:
    runs: list[BareRun] = []

    def open_run(flow: Flow) -> BareRun:
        runs.append(BareRun(backend, flow))
        return runs[-1]

    yield open_run
    for run in runs:
        run.channel.close()


@pytest.fixture
def cancel(request: pytest.FixtureRequest) -> Callable[[BareRun, str], None]:
    """Return how somebody else cancels a task run's future."""

    def cancel(run: BareRun, slug: str) -> None:
        channel: Any = run.channel
        if isinstance(channel, FakeChannel):
            channel.lose(run.id(slug), Loss("cancelled", "by somebody"))
            return
        from distributed import Client, Future

        address = request.getfixturevalue("cluster").scheduler_address
        with Client(address, set_as_default=False) as other:
            key = channel._held.get(run.id(slug)).future.key
            other.cancel([Future(key, client=other)], force=True)

    return cancel
