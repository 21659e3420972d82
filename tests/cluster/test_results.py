"""Results that pickle badly, and large arrays: between workers and to the client."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
from marks import eventually

from dask_taskrunner import Flow, MissingResult, ResultNotSerializable, states, task, triggers

pytestmark = pytest.mark.cluster

#: No bad pickle may take longer than this to be told.
IN_TIME = 10


class Locked:
    """Does not pickle: what it holds belongs to one process."""

    def __init__(self):
        self.lock = threading.Lock()


def refuse(*args):
    raise ZeroDivisionError("cannot be rebuilt")


class Trap:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return refuse, (1,)


@task
def make(kind):
    return {"locked": Locked, "trap": Trap}[kind]()


@task
def take(x):
    return type(x).__name__


@task(trigger=triggers.all_finished)
def clean_up(x):
    return isinstance(x, MissingResult) and type(x.exception).__name__


@pytest.fixture
def workers(client):
    return sorted(client.nthreads())


@pytest.mark.parametrize(("kind", "name"), [("locked", "Locked"), ("trap", "Trap")])
def test_a_bad_pickle_fails_its_consumer_on_another_worker(runner, workers, kind, name):
    with Flow("elsewhere") as flow:
        made = make(kind, task_args={"workers": workers[0]})
        taken = take(made, task_args={"workers": workers[1]})
        take(taken)
        clean_up(taken)
    began = time.monotonic()
    run = runner.run(flow)
    assert time.monotonic() - began < IN_TIME
    assert run["make"].state.is_successful()
    state = run["take"].state
    assert type(state) is states.Failed
    assert isinstance(state.exception, ResultNotSerializable)
    assert f"the result of make, a {name}, cannot be" in state.message
    error = {"locked": "cannot pickle '_thread.lock' object", "trap": "cannot be rebuilt"}[kind]
    assert error in state.message
    assert type(run["take-2"].state) is states.TriggerFailed
    assert run["clean_up"].result() == "ResultNotSerializable"


@pytest.mark.parametrize(("kind", "name"), [("locked", "Locked"), ("trap", "Trap")])
def test_a_bad_pickle_may_be_used_on_the_worker_that_made_it(runner, workers, kind, name):
    with Flow("here") as flow:
        made = make(kind, task_args={"workers": workers[0]})
        take(made, task_args={"workers": workers[0]})
    began = time.monotonic()
    run = runner.run(flow)
    assert run.result() == name
    assert time.monotonic() - began < IN_TIME


@pytest.mark.parametrize(("kind", "name"), [("locked", "Locked"), ("trap", "Trap")])
def test_a_bad_pickle_is_an_error_where_the_client_asks_for_it(runner, kind, name):
    with Flow("client") as flow:
        make(kind)
    began = time.monotonic()
    run = runner.run(flow)
    assert run.state.is_successful()
    with pytest.raises(ResultNotSerializable, match=rf"the result of make, a {name}, cannot be"):
        run.result(timeout=IN_TIME)
    assert time.monotonic() - began < IN_TIME
    # Again, and not only the first time.
    with pytest.raises(ResultNotSerializable):
        run.result(timeout=IN_TIME)


def test_a_consumer_on_the_same_worker_gets_the_very_object(runner, workers):
    @task
    def make_dict():
        made = {"bytes": b"x" * 1000}
        made["id"] = id(made)
        return made

    @task
    def same(d):
        return d["id"] == id(d)

    with Flow("same") as flow:
        same(make_dict(task_args={"workers": workers[0]}), task_args={"workers": workers[0]})
        same(make_dict(task_args={"workers": workers[0]}), task_args={"workers": workers[1]})
    run = runner.run(flow)
    assert run["same"].result() is True
    assert run["same-2"].result() is False


# -- arrays --------------------------------------------------------------------------------


@task
def array():
    return np.arange(131_072, dtype="float64")  # 1 MB


@task
def double(x):
    return x * 2


@task
def total(x):
    return float(x.sum())


EXPECTED = np.arange(131_072, dtype="float64")


def test_arrays_pass_between_workers_and_come_to_the_client_whole(runner, workers):
    with Flow("arrays") as flow:
        made = array(task_args={"workers": workers[0]})
        doubled = double(made, task_args={"workers": workers[1]})
        total(doubled, task_args={"workers": workers[0]})
        total(doubled, task_args={"workers": workers[1]})
    run = runner.run(flow, return_tasks=[made, doubled])
    assert run["total"].result() == run["total-2"].result() == EXPECTED.sum() * 2
    np.testing.assert_array_equal(run["array"].result(), EXPECTED)
    np.testing.assert_array_equal(run["double"].result(), EXPECTED * 2)
    assert 1_048_576 <= run.table()[0]["nbytes"] < 1_100_000


def holders(key, dask_scheduler):
    """Return where a value lies, by the scheduler."""
    return [ws.address for ws in dask_scheduler.tasks[key].who_has or ()]


def test_an_array_that_was_opened_elsewhere_is_sent_on_from_there(runner, client, workers, marks):
    """The third process gets it from one that has opened it, the maker having lost its copy."""

    @task
    def opened(x):
        marks.add("opened")
        return float(x[1])

    with Flow("relay") as flow:
        made = array(task_args={"workers": workers[0]})
        opened(made, task_args={"workers": workers[1]})
    run = runner.run(flow, return_tasks=[made])
    key = (f"array-{run.run_id}-0", -1, 1)

    assert set(client.run_on_scheduler(holders, key)) == set(workers)

    # The maker drops its replica; the scheduler is told, as the worker's memory manager does it.
    async def drop(key, address, dask_scheduler):
        dask_scheduler.request_remove_replicas(address, [key], stimulus_id="test")

    client.run_on_scheduler(drop, key, workers[0])
    assert eventually(lambda: client.run_on_scheduler(holders, key) == [workers[1]])
    np.testing.assert_array_equal(run["array"].result(), EXPECTED)


def test_a_gather_through_the_scheduler_loses_nothing(runner, client):
    with Flow("gather") as flow:
        array()
    run = runner.run(flow)
    key = (f"array-{run.run_id}-0", -1, 1)
    # The run's own word may come before Dask's.
    assert eventually(lambda: client.run_on_scheduler(holders, key))
    # Where the client cannot reach the workers; the scheduler speaks an older protocol.
    gathered = client.sync(client.scheduler.gather, keys=[key])
    assert gathered["status"] == "OK"
    from dask_taskrunner.worker.envelope import open_result

    source = gathered["data"][key]
    from distributed.protocol.serialize import Serialized, ToPickle, deserialize

    if isinstance(source, ToPickle):
        source = source.data
    if isinstance(source, Serialized):
        source = deserialize(source.header, source.frames)
    np.testing.assert_array_equal(open_result(source).state.result, EXPECTED)


def test_a_wire_form_pickled_with_protocol_4_keeps_writable_arrays(runner, client, workers):
    def through_protocol_4(dask_worker):
        (envelope,) = [v for k, v in dask_worker.data.items() if "array" in str(k)]
        return pickle.dumps(envelope, protocol=4)

    with Flow("four") as flow:
        array(task_args={"workers": workers[0]})
    run = runner.run(flow)
    data = client.run(through_protocol_4, workers=[workers[0]])[workers[0]]
    from dask_taskrunner.worker.envelope import open_result

    value = open_result(pickle.loads(data)).state.result
    np.testing.assert_array_equal(value, EXPECTED)
    value[0] = 1
    assert run.state.is_successful()
