"""Fixtures of the cluster tests, and what is asserted after each of them."""

from __future__ import annotations

import cloudpickle
import marks as marks_module
import pytest
from marks import Marks, eventually, is_whole
from watched import assert_no_threads, assert_nothing_left


@pytest.fixture(scope="module", autouse=True)
def by_value(request):
    """Send what a test module defines by value: a worker of a foreign cluster does not have it."""
    modules = [request.module, marks_module]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(autouse=True)
def no_threads():
    """No thread of ours lives on after a test."""
    yield
    assert_no_threads()


@pytest.fixture
def runner(cluster, client):
    """A runner on the shared cluster, which is whole before and empty after the test."""
    from dask_taskrunner import DaskTaskRunner

    # A test before this one may have killed a worker; its nanny starts another.
    assert eventually(lambda: is_whole(cluster))
    with DaskTaskRunner(client=client) as runner:
        yield runner
    assert_nothing_left(client)


@pytest.fixture
def marks(tmp_path):
    return Marks(tmp_path)
