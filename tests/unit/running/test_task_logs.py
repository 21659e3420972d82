"""What a user finds in ``logs``: of a task, its children, its retries; in a flow run and alone."""

from __future__ import annotations

import logging

import pytest
from fakes.gates import PATIENCE, Gate, eventually
from fakes.sessions import Caller

from dask_taskrunner import Flow, OptionError, context, expand, signals, task
from dask_taskrunner.worker.lines import LINES
from dask_taskrunner.worker.reports import START_REPORTS


@task
def talk(x):
    context.logger.info("x is %s", x)
    logging.getLogger("some_library").info("on the way")
    return x


@task(log_prints=True, log_level="WARNING")
def say(x):
    print("x is", x)
    context.logger.info("not this")
    context.logger.warning("but this")


@task
def quiet():
    print("nobody hears this")


@task(max_retries=2, retry_delay=0)
def stubborn():
    context.logger.info("try %s", context.task_run_number)
    if context.task_run_number < 3:
        raise ValueError("no")


@task
def flood(n):
    for i in range(n):
        context.logger.info("line %d", i)


@task
def waits(gate):
    context.logger.info("before")
    gate.pass_through()
    context.logger.info("after")


@pytest.fixture
def gate():
    gate = Gate("task logs")
    yield gate
    gate.open()


def texts(run):
    return [line.text for line in run.logs]


def flow_of(call):
    with Flow("f") as flow:
        call()
    return flow


def test_what_a_body_logs_is_on_its_task_run(finish):
    run = finish(flow_of(lambda: talk(3)))
    (first, second) = run["talk"].logs
    assert (first.text, first.level, first.attempt) == ("x is 3", logging.INFO, 1)
    assert first.worker == run["talk"].attempts[0].worker
    assert second.text == "on the way"
    assert str(run["talk"].logs) == "x is 3\non the way"


def test_prints_are_there_where_they_are_asked_for(finish):
    with Flow("f") as flow:
        say(3)
        quiet()
    run = finish(flow)
    assert texts(run["say"]) == ["x is 3", "but this"]
    assert len(run["quiet"].logs) == 0


def test_children_and_inner_runs_have_their_own_and_what_is_above_has_all(finish):
    inner = Flow("inner")
    with inner:
        talk(7)
        flood.map([1, 2])

    @task
    def grow():
        context.logger.info("I grow")
        return expand(inner)

    with Flow("prep") as prep:
        flood.map([1, 1])
    with Flow("f") as flow:
        talk.map([1, 2])
        grow()
        prep.as_task()()
    run = finish(flow)
    assert texts(run["talk[1]"]) == ["x is 2", "on the way"]
    assert sorted(texts(run["talk"])) == ["on the way", "on the way", "x is 1", "x is 2"]
    assert texts(run["grow/talk"]) == ["x is 7", "on the way"]
    lines = ["line 0", "line 0", "line 1"]
    assert texts(run["grow"])[0] == "I grow"
    assert sorted(texts(run["grow"])) == ["I grow", *lines, "on the way", "x is 7"]
    assert texts(run["prep"]) == ["line 0", "line 0"]


def test_retries_append_each_under_its_number(finish):
    run = finish(flow_of(stubborn))
    assert [(line.attempt, line.text) for line in run["stubborn"].logs] == [
        (1, "try 1"),
        (2, "try 2"),
        (3, "try 3"),
    ]


def test_lines_arrive_while_the_body_runs(start, gate):
    run = start(flow_of(lambda: waits(gate)))
    gate.wait()
    assert eventually(lambda: texts(run["waits"]) == ["before"])
    assert not run["waits"].state.is_finished()
    gate.open()
    run.wait(PATIENCE)
    assert texts(run["waits"]) == ["before", "after"]


def test_a_flood_is_bounded_counted_and_noted(finish):
    run = finish(flow_of(lambda: flood(20_000)))
    logs = run["flood"].logs
    assert len(logs) + logs.dropped == 20_000
    assert len(str(logs)) < 65_000
    assert logs[0].text == "line 0"
    assert logs[-1].text == "line 19999"
    (note,) = run.notes
    assert note.task_run == "flood"
    assert note.text == f"{logs.dropped:,} log lines were dropped: there were too many"


def test_a_body_that_fails_or_raises_a_signal_keeps_its_lines(finish):
    @task
    def fails():
        context.logger.error("here it comes")
        raise signals.FAIL("no")

    run = finish(flow_of(fails))
    assert texts(run["fails"]) == ["here it comes"]


def test_what_is_around_a_body_is_not_its_log(finish):
    def handler(task, old, new):
        logging.getLogger("handler").warning("a handler on the worker")

    @task(state_handlers=[handler], log_prints=True)
    def body():
        context.logger.info("the body")

    assert texts(finish(flow_of(body))["body"]) == ["the body"]


def test_after_the_run_nothing_of_it_stays_on_the_worker(finish):
    finish(flow_of(lambda: talk(1)))
    eventually(lambda: START_REPORTS._thread is None)
    assert logging.Logger.callHandlers.__module__ == "logging"
    assert logging.Logger.isEnabledFor.__module__ == "logging"
    assert LINES.is_empty


@pytest.mark.parametrize("level", ["loud", "", 0, -1, True, None, 1.5])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(OptionError, match="log_level must be a level of logging: DEBUG, INFO"):
        task(log_level=level)(lambda: None)


@pytest.mark.parametrize("level", ["debug", "INFO", 15])
def test_a_level_is_a_name_or_a_number(finish, level):
    @task(log_level=level)
    def body():
        context.logger.log(15, "fifteen")

    assert bool(texts(finish(flow_of(body))["body"])) == (level != "INFO")


# --- single calls --------------------------------------------------------------------------------


@pytest.fixture
def caller(backend):
    caller = Caller(backend)
    yield caller
    caller.end()


def test_a_future_has_them_too(caller):
    future = caller.submit(talk, 5)
    future.result(PATIENCE)
    assert texts(future) == ["x is 5", "on the way"]
    plain = caller.submit(print, "hello", task_args={"log_prints": True})
    plain.result(PATIENCE)
    assert texts(plain) == ["hello"]


def test_what_a_dropped_future_has_logged_is_forgotten_with_it(caller):
    store = caller.driver.channel.logs
    future = caller.submit(talk, 5)
    future.result(PATIENCE)
    kept = caller.submit(talk, 6)
    kept.result(PATIENCE)
    future.release()
    assert eventually(lambda: store.get(future._id) is None)
    assert texts(future) == ["x is 5", "on the way"]
    assert texts(kept) == ["x is 6", "on the way"]
    kept = None
    assert eventually(lambda: not store._kept)


def test_a_released_future_has_the_lines_that_come_until_its_run_ends(caller, gate):
    future = caller.submit(waits, gate)
    gate.wait()
    future.release()
    assert eventually(lambda: texts(future) == ["before"])
    gate.open()
    assert eventually(lambda: texts(future) == ["before", "after"])
    assert eventually(lambda: not caller.driver.channel.logs._kept)
    assert texts(future) == ["before", "after"]
