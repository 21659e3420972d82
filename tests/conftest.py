"""What all tests share. Nothing heavy at import: unit tests load neither a cluster nor a view."""

from __future__ import annotations

import logging

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Do not count the lines of what is marked as `many`."""
    if item.get_closest_marker("many") is None:
        return (yield)
    from coverage import Coverage

    counting = Coverage.current()
    if counting is None:
        return (yield)
    counting.stop()
    try:
        return (yield)
    finally:
        counting.start()


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """Fork workers from a process that has imported Dask: most of a test's time is their start.

    In this process only. Scripts, notebooks and the command start theirs as users do.
    """
    import dask

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture(scope="session")
def cluster():
    """Two worker processes of one thread each, as the runner starts them for itself."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={"allowed_failures": 0},
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client(cluster):
    """A client of the shared cluster; nobody's default."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        yield client
