"""Names of Dask that are not public and that we use: each must work as we mean it, or fail here."""

from __future__ import annotations

import pickle
import threading

import pytest
from dask._task_spec import Alias
from distributed import Event, get_worker
from marks import eventually
from watched import assert_nothing_left, tasks_on

from dask_taskrunner import exceptions
from dask_taskrunner.dask_backend import messages
from dask_taskrunner.dask_backend.shared import workers_known_to

pytestmark = pytest.mark.cluster


def join(*parts):
    return "".join(map(str, parts))


def where(_):
    return get_worker().address


def wait_for(name):
    Event(name).wait(20)
    return name


def test_a_client_knows_how_many_workers_there_are(client):
    assert workers_known_to(client) == 2


def test_an_alias_stands_for_a_key_of_an_earlier_message(client):
    first = client.submit(join, "a", "b", key=("earlier", -1, 1), pure=False)
    (second,) = client.map(
        join, ["c"], [Alias(("earlier", -1, 1))], key=[("later", -1, 1)], pure=False
    )
    assert second.result(timeout=10) == "cab"
    del first, second
    assert_nothing_left(client)


def test_an_alias_stands_for_a_key_of_the_same_message_in_any_order(client):
    keys = [("same", -1, n) for n in range(3)]
    references = [Alias(keys[2]), Alias(keys[0]), None]
    futures = client.map(join, ["x", "y", "z"], references, key=keys, pure=False)
    assert client.gather(futures) == ["xzNone", "yxzNone", "zNone"]
    del futures
    assert_nothing_left(client)


def test_a_list_of_aliass_is_a_list_of_values(client):
    def total(numbers):
        return sum(numbers)

    sources = client.map(int, [1, 2, 3], key=[("n", -1, n) for n in range(3)], pure=False)
    (summed,) = client.map(
        total, [[Alias(("n", -1, n)) for n in range(3)]], key=[("sum", -1, 1)], pure=False
    )
    assert summed.result(timeout=10) == 6
    del sources, summed
    assert_nothing_left(client)


def test_one_alias_may_stand_in_many_tasks_of_a_message(client):
    source = client.submit(join, "a", key=("source", -1, 1), pure=False)
    one = Alias(("source", -1, 1))
    futures = client.map(
        join, ["x", "y"], [one, one], [[one, one], None],
        key=[("reader", -1, n) for n in range(2)], pure=False,
    )  # fmt: skip
    assert client.gather(futures) == ["xa['a', 'a']", "yaNone"]
    del source, futures
    assert_nothing_left(client)


def test_an_alias_really_is_a_dependency(client):
    gate = client.submit(wait_for, "gate", key=("gate", -1, 1), pure=False)
    (after,) = client.map(join, ["a"], [Alias(("gate", -1, 1))], key=[("after", -1, 1)])

    def dependencies(dask_scheduler):
        ts = dask_scheduler.tasks.get(("after", -1, 1))
        return [other.key for other in ts.dependencies] if ts is not None else None

    found = eventually(lambda: client.run_on_scheduler(dependencies))
    Event("gate", client=client).set()
    assert after.result(timeout=10) == "agate"
    Event("gate", client=client).clear()
    assert found == [("gate", -1, 1)]
    del gate, after
    assert_nothing_left(client)


def test_a_priority_may_be_a_function_of_the_key(client):
    def priorities(dask_scheduler):
        return {key[2]: -ts.priority[0] for key, ts in dask_scheduler.tasks.items()}

    keys = [("urgent", -1, n) for n in range(3)]
    priority = messages.priority_of(keys, [-0.5, 7.25, 0])
    futures = client.map(join, ["a", "b", "c"], key=keys, pure=False, priority=priority)
    assert client.gather(futures) == ["a", "b", "c"]
    assert client.run_on_scheduler(priorities) == {0: -0.5, 1: 7.25, 2: 0}
    del futures
    assert_nothing_left(client)


def test_one_priority_is_sent_as_a_number():
    keys = [("k", -1, n) for n in range(2)]
    assert messages.priority_of(keys, [0.5] * 2) == 0.5


def test_what_is_sent_refers_to_nothing_of_ours(client):
    """The scheduler and every worker unpickle it, with or without this package."""
    from dask_taskrunner.worker.bootstrap import make_bootstraps

    imported = (
        b"dask_taskrunner.worker.run_task",
        b"dask_taskrunner.worker.envelope",
        b"dask_taskrunner.worker.piece",
        b"dask_taskrunner.worker.wire",
    )
    for bootstrap in make_bootstraps():
        again = pickle.loads(pickle.dumps(bootstrap))
        for data in (pickle.dumps(bootstrap), pickle.dumps(again)):
            # What it imports, by name, when it is called.
            for name in imported:
                data = data.replace(name, b"")
            assert b"dask_taskrunner.worker" not in data
    assert not tasks_on(client)


def test_the_client_is_known_by_an_id_that_is_a_topic_of_the_scheduler(client):
    seen = []
    client.subscribe_topic(client.id, lambda event: seen.append(event[1]))
    try:
        # A subscription and a word travel on different streams.
        assert eventually(lambda: client.log_event(client.id, "word") or "word" in seen)
    finally:
        client.unsubscribe_topic(client.id)


def test_a_client_that_never_connected_has_a_thread_that_can_be_stopped():
    from distributed import Client

    client = Client.__new__(Client)
    with pytest.raises((OSError, TimeoutError)):
        client.__init__("tcp://127.0.0.1:9", timeout=0.2, set_as_default=False)
    assert client._loop_runner.is_started()
    client._loop_runner.stop()
    assert not client._loop_runner.is_started()


def test_a_cancelled_future_says_why(cluster):
    """What ends a future tells a lost cluster from another client's cancel."""
    from concurrent.futures import CancelledError

    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        future = client.submit(join, key=("never", -1, 1), pure=False, resources={"no such": 1})
        assert eventually(lambda: tasks_on(client))
        client.cancel([future])
        with pytest.raises(CancelledError) as caught:
            future.result(timeout=5)
        assert caught.value.reason
        assert eventually(lambda: not tasks_on(client))
    assert issubclass(exceptions.TaskCancelled, CancelledError)


def test_a_function_of_the_key_says_where_each_task_would_best_run(client):
    one, other = sorted(client.nthreads())
    keys = [("placed", n, 1) for n in range(6)]
    wanted = [[one], [other], [one], [other], [], ["tcp://127.0.0.1:1"]]
    workers = dict(zip(keys, wanted, strict=True))
    with messages.preferring(workers):
        futures = client.map(where, range(6), key=keys, pure=False, priority=-0.5)
    found = client.gather(futures)
    assert found[:4] == [one, other, one, other]
    assert set(found[4:]) <= {one, other}
    del futures
    assert_nothing_left(client)


def test_a_worker_knows_which_threads_run_tasks_and_which_its_loop(client):
    def look():
        worker = get_worker()
        here, of_loop = threading.get_ident(), []
        done = threading.Event()
        worker.loop.add_callback(lambda: (of_loop.append(threading.get_ident()), done.set()))
        done.wait(10)
        running = worker.active_threads.get(here)
        return running == worker.get_current_task(), of_loop == [worker.thread_id]

    future = client.submit(look, pure=False)
    assert future.result(timeout=10) == (True, True)
    del future
    assert_nothing_left(client)
