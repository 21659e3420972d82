"""``result()`` and ``exception()`` of a future, for every way in which its run may have ended."""

from __future__ import annotations

import concurrent.futures
import copy
import logging
import time
from types import SimpleNamespace

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, context, exceptions, signals, states, task
from dask_taskrunner.machine.events import Loss

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


@task
def fails(text="no"):
    raise KeyError(text)


class Large(Exception):
    pass


def fails_large():
    raise Large(LARGE)


def raises(signal):
    raise signal


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 5, LARGE, {"a": [LARGE]}], ids=lambda v: str(v)[:9])
def test_a_success_gives_its_value_in_all_three_classes(runner, finish, value):
    with Flow("etl") as flow:
        give(value)
    run = finish(flow)
    future = runner.submit(give, value)
    for one in (future, future.task_run, run["give"], run):
        assert one.result(timeout=PATIENCE) == value
    for one in (future, future.task_run, run["give"]):
        assert one.exception(PATIENCE) is None


@pytest.mark.parametrize(
    ("signal", "value"),
    [
        (signals.SKIP("nothing new"), None),
        (signals.SKIP("nothing new", 5), 5),
        (signals.SKIP("nothing new", LARGE), LARGE),
        (signals.SUCCESS("done", 7), 7),
    ],
)
def test_a_signals_result_is_the_value(runner, signal, value):
    assert runner.submit(raises, signal).result(PATIENCE) == value


def test_the_standard_library_knows_these_words(runner):
    gate = Gate("words")
    future = runner.submit(gate.pass_through)
    gate.wait()
    assert not future.done()
    assert eventually(future.running)
    assert isinstance(future.state, states.Running)
    assert not future.cancelled()
    gate.open()
    assert future.result() is None
    assert future.done()
    assert not future.running()
    assert [a.outcome for a in future.attempts] == ["success"]
    assert repr(future) == "<TaskRunFuture pass_through Success>"


def test_what_has_not_begun_is_pending(runner):
    gate = Gate("pending")
    first = runner.submit(gate.pass_through)
    second = runner.submit(give, first)
    assert isinstance(second.state, states.Pending)
    assert not second.running()
    assert not second.done()
    assert second.attempts == []
    gate.open()
    assert second.result(PATIENCE) is None


@pytest.mark.parametrize("method", ["result", "exception"])
def test_what_does_not_come_in_time_is_a_timeout(runner, method):
    gate = Gate("in time")
    future = runner.submit(gate.pass_through)
    for one in (future, future.task_run):
        with pytest.raises(TimeoutError, match=r"pass_through has not finished after 0\.01 s"):
            getattr(one, method)(timeout=0.01)
    with pytest.raises(TimeoutError):
        getattr(future, method)(0)
    gate.open()
    getattr(future, method)(timeout=PATIENCE)


# --- failures ------------------------------------------------------------------------------------


def test_a_failure_raises_the_tasks_own_exception_with_notes(runner):
    def fails_twice():
        raise KeyError(context.task_run_number)

    options = {"max_retries": 1, "retry_delay": 0}
    future = runner.submit(fails_twice, task_args=options)
    with pytest.raises(KeyError) as caught:
        future.result(PATIENCE)
    assert caught.value.args == (2,)
    where, traceback = caught.value.__notes__
    assert where == f"fails_twice, attempt 2 of 2, {future.attempts[-1].worker}"
    assert "in fails_twice" in traceback
    assert isinstance(future.exception(), KeyError)
    assert not future.cancelled()
    assert future.task_run.inputs == {}


def test_the_same_exception_asked_for_twice_has_its_notes_once(runner):
    for future in (runner.submit(fails), runner.submit(fails_large)):
        for _ in range(2):
            error = future.exception(PATIENCE)
            assert len(error.__notes__) == 2


def test_what_did_not_run_raises_upstream_failed_because_of_the_root_cause(runner):
    root = runner.submit(fails, "root")
    last = runner.submit(give, runner.submit(give, root))
    with pytest.raises(exceptions.UpstreamFailed) as caught:
        last.result(PATIENCE)
    assert caught.value.root_cause == ("fails", "KeyError: 'root'")
    assert caught.value.__cause__.args == ("root",)


def test_a_root_cause_that_nobody_holds_is_still_told(runner):
    last = runner.submit(give, runner.submit(give, runner.submit(fails_large)))
    with pytest.raises(exceptions.UpstreamFailed) as caught:
        last.result(PATIENCE)
    assert isinstance(caught.value.__cause__, Large | exceptions.RemoteTaskError)
    assert last.slug in runner.records[last._id].plan.slug


def test_a_signals_failure_raises_the_signal(runner):
    with pytest.raises(signals.FAIL, match="on purpose"):
        runner.submit(raises, signals.FAIL("on purpose")).result(PATIENCE)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (Loss("error", "MemoryError: full"), exceptions.TaskCrashed),
        (Loss("cancelled", "by client-2"), exceptions.TaskCancelled),
    ],
)
def test_what_the_cluster_ended_says_so(runner, loss, kind):
    gate = Gate("the cluster's end")
    future = runner.submit(gate.pass_through, task_args={"max_crash_retries": 0})
    gate.wait()
    runner.channel.lose(future._id, loss)
    error = future.exception(PATIENCE)
    assert type(error) is kind
    assert loss.text in str(error)
    assert future.cancelled() == (kind is exceptions.TaskCancelled)
    gate.open()


def test_a_timed_out_state_is_task_timed_out(runner):
    future = runner.submit(give)
    future.result(PATIENCE)
    record = runner.records[future._id]
    record.header = record.header._replace(state="TimedOut", message="too long")
    assert type(future.exception()) is exceptions.TaskTimedOut


# --- pauses --------------------------------------------------------------------------------------


def test_what_paused_did_not_finish_and_neither_did_what_waits_for_it(runner):
    gate, told = Gate("pauses"), []

    def pauses():
        gate.pass_through()
        raise signals.PAUSE("ask somebody")

    paused = runner.submit(pauses)
    early = runner.submit(give, runner.submit(give, paused))
    early.add_done_callback(lambda future: told.append(future.slug))
    gate.open()
    with pytest.raises(exceptions.NotFinished) as caught:
        paused.result(PATIENCE)
    assert str(caught.value) == "pauses did not finish: Paused(ask somebody)"
    late = runner.submit(give, early)
    for future in (early, late):
        with pytest.raises(exceptions.NotFinished, match="it waits for 1 upstream runs that"):
            future.result(PATIENCE)
    assert isinstance(paused.state, states.Paused)
    assert eventually(lambda: told == ["give-2"])
    late.add_done_callback(lambda future: told.append(future.slug))
    assert eventually(lambda: told == ["give-2", "give-3"])


def test_what_paused_may_be_cancelled(runner):
    paused = runner.submit(raises, signals.PAUSE("ask somebody"))
    reader = runner.submit(give, paused)
    assert isinstance(reader.exception(PATIENCE), exceptions.NotFinished)
    assert paused.done()
    runner.session.driver.machine.validate()


# --- when the cluster is gone --------------------------------------------------------------------


def test_a_lost_cluster_leaves_what_was_known(make_runner, backend):
    runner, gate = make_runner(), Gate("lost cluster")
    known, unknown = runner.submit(give, 5), runner.submit(gate.pass_through)
    assert known.result(PATIENCE) == 5
    gate.wait()
    runner.channel.lose_cluster()
    error = unknown.exception(PATIENCE)
    assert isinstance(error, exceptions.NotFinished)
    assert isinstance(error.__cause__, exceptions.ClusterLost)
    assert known.result() == 5
    with pytest.raises(exceptions.ClusterLost):
        runner.submit(give)
    with pytest.raises(exceptions.ClusterLost):
        runner.map(give, [1])
    gate.open()
    runner.driver.error = None


# --- lost values ---------------------------------------------------------------------------------


def test_a_value_that_was_lost_is_made_again_or_said_to_be_lost(runner):
    twice = runner.submit(give, LARGE)
    once = runner.submit(give, LARGE, task_args={"max_crash_retries": 0})
    assert twice.result(PATIENCE) == once.result(PATIENCE) == LARGE
    for future in (twice, once):
        runner.channel.lose(future._id, Loss("lost", "lost dependencies"))
    assert eventually(lambda: once.task_run.record.by_value)
    with pytest.raises(exceptions.ResultLost, match="could not be made again: lost dependencies"):
        once.result(PATIENCE)
    assert eventually(lambda: len(twice.attempts) == 2)
    assert twice.result(PATIENCE) == LARGE


def test_a_result_that_does_not_pickle_says_so(runner):
    def makes_a_lock():
        import threading

        return threading.Lock()

    with pytest.raises(exceptions.ResultNotSerializable, match="makes_a_lock, a lock, cannot be"):
        runner.submit(makes_a_lock).result(PATIENCE)


# --- not a value ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "line"),
    [
        (len, "runner.submit(len, give)"),
        (list, "for x in future.result(): ..."),
        (lambda f: f[0], "runner.submit(operator.getitem, future, 0)"),
    ],
)
def test_a_future_used_as_its_result_shows_the_right_line(runner, use, line):
    with pytest.raises(exceptions.NotAValue) as caught:
        use(runner.submit(give, [1]))
    assert f"Write `future.result()`, or `{line}`" in str(caught.value)


def test_a_future_is_itself_only(runner):
    one, two = runner.submit(give), runner.submit(give)
    assert one
    assert one != two
    assert len({one, two, one}) == 2
    with pytest.raises(exceptions.NotAValue, match="cannot be pickled or copied"):
        copy.copy(one)
    with pytest.raises(exceptions.NotAValue, match="cannot be pickled or copied"):
        copy.deepcopy(one.task_run)


# --- words ---------------------------------------------------------------------------------------


def test_twenty_failures_are_logged_and_then_a_count(make_runner, caplog):
    runner = make_runner()
    futures = runner.map(fails, [str(n) for n in range(25)])
    with pytest.raises(exceptions.MappedFailed):
        futures.results(timeout=PATIENCE)
    runner.leave()
    texts = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(texts) == 21
    assert "fails[" in texts[0]
    assert texts[-1] == f"{runner.session.run_name}: 5 more task runs failed"


def test_notes_tell_what_is_no_state(runner):
    gate = Gate("notes")
    future = runner.submit(gate.pass_through)
    gate.wait()
    assert eventually(future.running)
    runner.channel.remove_worker(future.attempts[-1].worker, [future._id])
    assert eventually(lambda: runner.session.listener.notes)
    assert any("worker" in note.text for note in runner.session.listener.notes)
    gate.open()


def test_state_handlers_hear_of_what_the_client_does(runner):
    seen, gate = [], Gate("handlers")
    _SEEN.handlers = seen

    waits = task(gate.pass_through, name="waits", state_handlers=[_hear])
    future = runner.submit(waits)
    gate.wait()
    future.cancel()
    gate.open()
    assert eventually(lambda: ("waits", "Cancelled") in seen)


_SEEN = SimpleNamespace(handlers=None)


def _hear(task_, old, new):
    _SEEN.handlers.append((task_.name, type(new).__name__))


def test_an_error_in_a_state_handler_is_a_note(runner):
    gate = Gate("handler's error")
    waits = task(gate.pass_through, name="waits", state_handlers=[_hear_badly])
    future = runner.submit(waits)
    gate.wait()
    future.cancel()
    gate.open()
    assert eventually(lambda: runner.session.listener.notes)
    text = runner.session.listener.notes[0].text
    assert text == "state handler _hear_badly of waits: ValueError: bad handler"


def _hear_badly(task_, old, new):
    if isinstance(new, states.Cancelled):
        raise ValueError("bad handler")


def test_a_cancelled_future_is_cancelled_as_the_standard_library_has_it(runner):
    gate = Gate("as the library")
    future = runner.submit(gate.pass_through)
    gate.wait()
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    gate.open()


def test_a_wait_takes_no_longer_than_it_is_told(runner):
    gate = Gate("told")
    future = runner.submit(gate.pass_through)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        future.result(0.05)
    assert time.monotonic() - begin < 5
    gate.open()
