"""Each fault on a cluster of its own, of which nothing is left when the test is over."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from multiprocessing import forkserver

import cloudpickle
import marks as marks_module
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from marks import Marks, eventually
from watched import our_threads, tasks_on

from dask_taskrunner import DaskTaskRunner


def pytest_collection_modifyitems(items):
    # Each has a limit in which it must end; what it lets die, it lets die on real processes.
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(60))


@pytest.fixture(scope="module", autouse=True)
def by_value(request):
    """Send what a test module defines by value: workers do not have it."""
    for module in (request.module, marks_module):
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in (request.module, marks_module):
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="session", autouse=True)
def fork_server(forked_workers):
    """What workers are forked from is there before the first test, and stays."""
    get_mp_context()
    forkserver.ensure_running()


def _listening():
    """Ports at which this process and those below it are called."""
    here = psutil.Process()
    found = []
    for process in (here, *here.children(recursive=True)):
        # One that has ended meanwhile is called nowhere.
        with suppress(psutil.Error):
            found += process.net_connections()
    return {c.laddr.port for c in found if not c.raddr}


def _sockets():
    return {(c.laddr, c.raddr) for c in psutil.Process().net_connections() if c.raddr}


def _processes():
    children = psutil.Process().children(recursive=True)
    # Python's own, which forgets shared memory, stays.
    return {p.pid for p in children if p.is_running() and "resource_tracker" not in str(p)}


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No thread of ours, no socket and no process stays."""
    sockets, processes, others = _sockets(), _processes(), _listening()

    def new():
        # A cluster that other tests share calls its own scheduler and workers when it likes.
        found = _sockets() - sockets
        return {one for one in found if not {end.port for end in one} & others}

    yield
    assert eventually(lambda: not our_threads(), 10), our_threads()
    assert eventually(lambda: not new(), 10), new()
    left = {p for p in _processes() - processes if "tracker" not in _words(p)}
    assert eventually(lambda: not [p for p in left if psutil.pid_exists(p)], 10), left


def _words(pid):
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return "tracker"


@pytest.fixture
def cluster(nothing_is_left):
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={"allowed_failures": 0},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        yield client
        assert eventually(lambda: not tasks_on(client), 10), tasks_on(client)


@pytest.fixture
def runner(client):
    with DaskTaskRunner(client=client) as runner:
        yield runner


@pytest.fixture
def marks(tmp_path):
    return Marks(tmp_path)


@pytest.fixture
def pids(client):
    """The workers' processes."""
    return lambda: set(client.run(os.getpid).values())
