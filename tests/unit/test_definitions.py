"""What runs the tasks of a flow run travels as what it is made of, as often as need be."""

from __future__ import annotations

import pickle

import pytest

from dask_taskrunner.worker.bootstrap import make_bootstraps
from dask_taskrunner.worker.open_flow import OpenFlow

SMALL = pickle.dumps(("run", "topic", (), b""))
LARGE = bytes(1_000_000)


def make(*parts):
    return make_bootstraps().define(list(parts))


def through(definition, protocol=5):
    """Return what a worker gets from another one, and how much of it is copied on the way."""
    buffers = []
    take = buffers.append if protocol > 4 else None
    data = pickle.dumps(definition, protocol=protocol, buffer_callback=take)
    return pickle.loads(data, buffers=buffers), len(data)


@pytest.mark.parametrize("protocol", [4, 5])
def test_it_goes_from_worker_to_worker(protocol):
    definition = make(SMALL, LARGE)
    for _ in range(3):
        definition, _ = through(definition, protocol)
    assert callable(definition)
    # A part that came by itself is what Dask makes of it.
    assert [bytes(part) for part in definition] == [SMALL, LARGE]


def test_what_is_large_is_not_copied():
    assert through(make(SMALL, LARGE))[1] < 50_000
    assert through(make(SMALL, memoryview(LARGE)))[1] < 50_000


@pytest.mark.parametrize("protocol", [4, 5])
def test_what_came_as_a_view_of_a_message_goes_on(protocol):
    again, _ = through(make(memoryview(SMALL), memoryview(LARGE)), protocol)
    assert [bytes(part) for part in again] == [SMALL, LARGE]


def test_what_is_open_goes_as_it_came():
    again, _ = through(make(OpenFlow(SMALL)))
    assert [*again] == [SMALL]
