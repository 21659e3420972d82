"""How a worker sends what its bodies log: few and small messages, whatever they do."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from types import SimpleNamespace

import msgpack
import pytest
from fakes.gates import eventually

from dask_taskrunner.headers import child_slug
from dask_taskrunner.logs import LogStore, logs_of, read_group
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.worker.capturing import HOOKS
from dask_taskrunner.worker.lines import LINES, BodyLines, WorkerLines
from dask_taskrunner.worker.reports import START_REPORTS


class Client:
    """Takes in what a worker sends, and counts it."""

    def __init__(self) -> None:
        self.store = LogStore()
        self.sizes: list[tuple[float, int]] = []

    def hear(self, now, groups):
        self.sizes.append((now, len(msgpack.dumps(groups))))
        for _, address, fields in groups:
            id, lines = read_group(address, fields)
            self.store.add(id, lines)

    def logs(self, n=0):
        id = (n, -1)
        record = TaskRunRecord(PlannedRun(id, child_slug("t", n), "t", ()))
        return logs_of(record, self.store, self.store.get(id))

    def texts(self, n=0):
        return [line.text for line in self.logs(n)]


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def worker():
    return WorkerLines()


def source(n=0, topic="client"):
    call = SimpleNamespace(n=n, map_index=-1, submission=1, attempt=1, run="abcd1234")
    address = SimpleNamespace(address="tcp://127.0.0.1:12345")
    return BodyLines(address, topic, call, 1 << 59)


def log(worker, source, *texts):
    for text in texts:
        worker.put(source, (1000.0, 20, text))


def tick(worker, client, begin, end, *, step=0.025):
    """Let time pass, and send what may be sent."""
    for n in range(round((end - begin) / step)):
        now = begin + n * step
        message = worker.take(now)
        if message is not None:
            client.hear(now, message[1])


def in_any_second(sizes):
    """Return the most messages and the most bytes that left within a second."""
    windows = [[size for at, size in sizes if begin <= at < begin + 1 - 1e-9] for begin, _ in sizes]
    return max(map(len, windows)), max(map(sum, windows))


def test_what_is_logged_is_sent_at_once_and_in_its_order(worker, client):
    one = source()
    log(worker, one, "a", "b")
    topic, groups = worker.take(0.0)
    assert topic == "client"
    client.hear(0.0, groups)
    assert client.texts() == ["a", "b"]
    assert worker.is_empty
    assert worker.take(5.0) is None


def test_the_next_message_waits_for_a_tenth_of_a_second(worker):
    one = source()
    log(worker, one, "a")
    assert worker.take(10.0) is not None
    log(worker, one, "b")
    assert worker.take(10.05) is None
    assert worker.take(10.1) is not None


def test_several_bodies_share_a_message_and_several_clients_do_not(worker, client):
    log(worker, source(0), "a")
    log(worker, source(1), "b")
    log(worker, source(2, topic="another"), "c")
    topic, groups = worker.take(0.0)
    assert (topic, len(groups)) == ("client", 2)
    topic, groups = worker.take(0.1)
    assert (topic, len(groups)) == ("another", 1)
    assert worker.is_empty


def test_a_flood_is_bounded_and_counted(worker, client):
    one = source()
    total = 0
    for n in range(400):
        log(worker, one, *(f"line {total + i}" for i in range(500)))
        total += 500
        tick(worker, client, n * 0.025, (n + 1) * 0.025)
    assert in_any_second(client.sizes)[0] <= 10
    client.hear(10.0, worker.take_rest(one, 10.0))
    assert in_any_second(client.sizes)[1] <= 64_000
    logs = client.logs()
    texts = client.texts()
    assert len(logs) + logs.dropped == total == 200_000
    # One gap: what stands on either side of it is whole.
    first = next(n for n, text in enumerate(texts) if text != f"line {n}")
    assert texts[first:] == [f"line {n}" for n in range(total - len(texts) + first, total)]
    assert first * 32 == 16_000
    assert len(texts) - first > 500


def test_a_flood_leaves_room_for_the_last_words_of_others(worker, client):
    flooding, quiet = source(0), source(1)
    for n in range(80):
        log(worker, flooding, *(f"line {i}" for i in range(5000)))
        tick(worker, client, n * 0.025, (n + 1) * 0.025)
    log(worker, quiet, *(f"word {i}" for i in range(200)))
    client.hear(2.0, worker.take_rest(quiet, 2.0))
    assert client.texts(1) == [f"word {i}" for i in range(200)]
    assert in_any_second(client.sizes)[1] <= 64_000


def test_the_last_words_of_a_flood_leave_room_for_a_few_of_others(worker, client):
    one, short = source(0), source(1)
    log(worker, one, *(f"line {i}" for i in range(100_000)))
    client.hear(0.0, worker.take_rest(one, 0.0))
    log(worker, short, "a short task", "has two lines")
    client.hear(0.0, worker.take_rest(short, 0.0))
    assert client.texts(1) == ["a short task", "has two lines"]
    assert in_any_second(client.sizes)[1] <= 64_000


def test_a_body_among_floods_is_heard_while_it_runs(worker, client):
    flooding = [source(n) for n in range(8)]
    quiet = source(8)
    for n in range(80):
        for one in flooding:
            log(worker, one, *(f"line {i}" for i in range(2000)))
        if n == 40:
            log(worker, quiet, "I am here")
        tick(worker, client, n * 0.025, (n + 1) * 0.025)
    assert client.texts(8) == ["I am here"]
    assert in_any_second(client.sizes)[1] <= 64_000


def test_with_the_end_of_a_body_all_of_it_has_left(worker, client):
    one = source()
    log(worker, one, *(f"line {i:040}" for i in range(1000)))
    groups = worker.take_rest(one, 0.0)
    assert len(groups) > 1
    assert max(len(msgpack.dumps([group])) for group in groups) <= 16_000
    assert len(msgpack.dumps(groups)) <= 64_000
    client.hear(0.0, groups)
    assert worker.is_empty
    logs = client.logs()
    assert len(logs) + logs.dropped == 1000
    assert client.texts()[0] == f"line {0:040}"
    assert client.texts()[-1] == f"line {999:040}"


def test_where_the_second_has_no_room_the_lines_are_counted_all_the_same(worker, client):
    for n in range(100):
        one = source(n)
        log(worker, one, *["x" * 1000] * 3)
        client.hear(0.0, worker.take_rest(one, 0.0))
    assert worker.is_empty
    assert sum(client.logs(n).dropped for n in range(100)) > 200
    assert all(len(client.logs(n)) + client.logs(n).dropped == 3 for n in range(100))
    # The counts themselves have to come: about a hundred bytes each.
    assert sum(size for _, size in client.sizes) <= 64_000 + 100 * 150
    # The next second has room again.
    one = source(100)
    log(worker, one, "x")
    client.hear(1.0, worker.take_rest(one, 1.0))
    assert client.texts(100) == ["x"]


def test_short_tasks_without_room_for_all_keep_first_and_last_words(worker, client):
    one = source()
    log(worker, one, *(f"{i:01000}" for i in range(60)))
    worker._sent.append((0.0, 45_000))
    client.hear(0.0, worker.take_rest(one, 0.0))
    texts = client.texts()
    assert texts[0] == f"{0:01000}"
    assert texts[-1] == f"{59:01000}"
    assert client.logs().dropped == 60 - len(texts)


def test_a_body_that_ends_twice_has_nothing_to_send(worker):
    one = source()
    assert worker.take_rest(one, 0.0) == []
    log(worker, one, "a")
    worker.take(0.0)
    assert worker.take_rest(one, 0.0) == []


def test_an_execution_that_logs_nothing_asks_nobody():
    assert source().take_rest() == []


def test_a_long_line_and_many_short_ones_get_through(worker, client):
    one = source()
    log(worker, one, "a" * 100_000, *["b"] * 100)
    tick(worker, client, 0.0, 2.0)
    texts = client.texts()
    assert len(texts) == 101
    assert "[... cut ...]" in texts[0]


# --- around a body -------------------------------------------------------------------------------


class FakeWorker(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.fixture
def body_lines():
    """The lines of a body that runs in this thread, of a worker whose loop runs nowhere."""
    # Bodies that other tests ran in this process have had theirs for a second.
    assert eventually(lambda: START_REPORTS._thread is None)
    HOOKS.install()
    call = SimpleNamespace(n=0, map_index=-1, submission=1, attempt=1, run="abcd1234")
    here = threading.get_ident()
    worker = FakeWorker(address="tcp://w", active_threads={here: "mine"}, thread_id=0)
    yield BodyLines(worker, "client", call, 1)
    HOOKS.uninstall()
    assert LINES.is_empty


def run_in(lines, prepare):
    """Log from the body, and from a thread that has its context; return what was taken."""
    task = SimpleNamespace(log_level="INFO", log_prints=False)
    log = logging.getLogger("some_library").info

    def body(inputs):
        log("mine")
        context = copy_context()

        def inherited():
            prepare(lines.worker, threading.get_ident())
            context.run(log, "inherited")

        thread = threading.Thread(target=inherited)
        thread.start()
        thread.join()

    lines.around(body, task)({})
    return [line[2] for _, _, fields in lines.take_rest() for line in fields[-1]]


def test_a_thread_that_the_body_starts_is_heard(body_lines):
    assert run_in(body_lines, lambda worker, thread: None) == ["mine", "inherited"]


def test_another_task_that_dask_begins_in_the_bodys_context_is_not_heard(body_lines):
    def begin(worker, thread):
        worker.active_threads[thread] = "another"

    assert run_in(body_lines, begin) == ["mine"]


def test_a_helper_thread_that_dask_takes_for_the_same_task_is_heard(body_lines):
    def begin(worker, thread):
        worker.active_threads[thread] = "mine"

    assert run_in(body_lines, begin) == ["mine", "inherited"]


def test_what_the_workers_own_loop_does_because_of_the_body_is_not_heard(body_lines):
    def begin(worker, thread):
        worker.thread_id = thread

    assert run_in(body_lines, begin) == ["mine"]


def test_a_thread_that_is_left_behind_is_not_heard_after_the_header(body_lines):
    task = SimpleNamespace(log_level="INFO", log_prints=False)
    goes_on = threading.Event()

    def body(inputs):
        logging.getLogger("some_library").info("in time")
        goes_on.wait(10)
        logging.getLogger("some_library").info("late")

    thread = threading.Thread(target=body_lines.around(body, task), args=({},))
    thread.start()
    assert eventually(lambda: not LINES.is_empty)
    assert [line[2] for line in body_lines.take_rest()[0][2][-1]] == ["in time"]
    goes_on.set()
    thread.join()
    assert LINES.is_empty


def test_what_waits_for_a_message_is_sent_by_a_tick(body_lines):
    sent = []
    body_lines.worker.log_event = lambda topic, message: sent.append((topic, message))
    LINES.put(body_lines, (1000.0, 20, "x"))
    assert not LINES.is_empty
    LINES.send()
    ((topic, (kind, groups)),) = sent
    assert (topic, kind) == ("client", "dtr1-lines")
    assert groups[0][2][-1] == [[1000.0, 20, "x"]]
