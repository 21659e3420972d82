"""``result()`` and ``exception()`` of a task run, for every way in which it may have ended."""

from __future__ import annotations

import concurrent.futures

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, context, exceptions, outcomes, signals, states, task, triggers
from dask_taskrunner.headers import Header
from dask_taskrunner.keeping import keep_results
from dask_taskrunner.machine.events import Loss

LARGE = "x" * 10_000


@task
def give(value):
    return value


@task
def fails(text="no"):
    raise KeyError(text)


@task
def add(x, y=0):
    return x + y


@task(trigger=triggers.all_finished)
def look(x):
    """Say what arrives as an input."""
    if isinstance(x, exceptions.MissingResult):
        return f"{x.slug} {type(x.state).__name__} {x.exception!r} {bool(x)}"
    return repr(x)


def flow_of(bound_task, *args, **options):
    with Flow("etl") as flow:
        bound_task(*args, **options)
    return flow


def channel_of(backend):
    (channel,) = backend.channels.values()
    return channel


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, 5, "text", LARGE, {"a": [LARGE]}], ids=lambda v: str(v)[:9]
)
def test_a_success_gives_its_value(finish, value):
    run = finish(flow_of(give, value))
    assert run["give"].result() == value
    assert run["give"].exception() is None


def test_a_value_is_there_as_soon_as_its_run_has_finished(start):
    gate = Gate("as soon as")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        give(LARGE)
        waits()
    run = start(flow)
    assert run["give"].result(PATIENCE) == LARGE
    gate.open()


@pytest.mark.parametrize(("signal", "value"), [
    (signals.SKIP("nothing new"), None),
    (signals.SKIP("nothing new", 5), 5),
    (signals.SKIP("nothing new", LARGE), LARGE),
    (signals.SUCCESS("done", 7), 7),
])  # fmt: skip
def test_a_signals_result_is_the_value(finish, signal, value):
    @task
    def raises():
        raise signal

    assert finish(flow_of(raises)).result() == value


# --- failures ------------------------------------------------------------------------------------


def test_a_failure_raises_the_tasks_own_exception_with_notes(finish):
    @task(max_retries=1, retry_delay=0)
    def fails_twice():
        raise KeyError(context.task_run_number)

    run = finish(flow_of(fails_twice))
    with pytest.raises(KeyError) as caught:
        run.result()
    assert caught.value.args == (2,)
    where, traceback = caught.value.__notes__
    assert where == f"fails_twice, attempt 2 of 2, {run['fails_twice'].attempts[-1].worker}"
    assert traceback.startswith("Traceback")
    assert "in fails_twice" in traceback
    assert isinstance(run["fails_twice"].exception(), KeyError)


class Large(Exception):
    pass


class BreaksOnArrival:
    def __reduce__(self):
        return _break, ()


def _break():
    raise ImportError("no such module here")


def test_what_cannot_be_opened_on_the_worker_fails_before_its_body(finish):
    run = finish(flow_of(give, BreaksOnArrival()))
    with pytest.raises(ImportError) as caught:
        run.result()
    state = run["give"].state
    assert state.message.startswith(
        "ImportError: no such module here (when give was unpickled on worker fake://"
    )
    assert run["give"].attempts == []
    assert caught.value.__notes__[0].startswith("give, fake://")


def test_a_large_exception_is_fetched_where_it_is_kept(finish):
    run = finish(flow_of(task(_raise_large)))
    error = run["_raise_large"].exception()
    assert type(error) is Large
    assert error.args == (LARGE,)
    # Asked for twice it is the same object, or another; its notes are the same.
    again = run["_raise_large"].exception()
    assert len(again.__notes__) == 2


def _raise_large():
    raise Large(LARGE)


def test_a_large_exception_that_was_let_go_is_told_by_its_text(finish):
    run = finish(flow_of(task(_raise_large)), keep="none")
    with pytest.raises(exceptions.RemoteTaskError, match=r"^Large: xxx") as caught:
        run.result()
    assert caught.value.original_type == "Large"
    assert "in _raise_large" in caught.value.traceback


def test_a_large_exception_that_was_lost_is_told_by_its_text(finish, backend):
    run = finish(flow_of(task(_raise_large)))
    channel_of(backend).lose((0, -1), Loss("lost", "lost dependencies"))
    assert isinstance(run["_raise_large"].exception(), exceptions.RemoteTaskError)


def test_a_kept_exception_outlives_the_cluster_and_gathers_no_notes(finish):
    run = finish(flow_of(task(_raise_large)))
    keep_results([run.holder], 10**6)
    first, second = run["_raise_large"].exception(), run["_raise_large"].exception()
    assert first is second
    assert len(first.__notes__) == 2


def test_a_signals_failure_raises_the_signal(finish):
    @task
    def raises():
        raise signals.FAIL("on purpose")

    with pytest.raises(signals.FAIL, match="on purpose"):
        finish(flow_of(raises)).result()


def test_what_did_not_run_raises_upstream_failed_because_of_the_root_cause(finish):
    with Flow("etl") as flow:
        add(add(fails("root")), 1)
    run = finish(flow)
    with pytest.raises(exceptions.UpstreamFailed) as caught:
        run.result()
    assert str(caught.value).startswith(
        "add-2: all_successful: 1 of 1 upstream runs were not successful (1 TriggerFailed); "
        "root cause: fails: KeyError: 'root'"
    )
    assert caught.value.root_cause == ("fails", "KeyError: 'root'")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__notes__[0].startswith("fails, attempt 1 of 1, ")


def test_a_trigger_may_fail_without_a_root_cause(finish):
    @task(trigger=triggers.any_failed)
    def rescue(x):
        pass

    with Flow("etl") as flow:
        done = rescue(give(1))
        flow.set_reference_tasks([done])
    with pytest.raises(exceptions.UpstreamFailed, match="rescue: any_failed") as caught:
        finish(flow).result()
    assert caught.value.__cause__ is None


# --- other ends ----------------------------------------------------------------------------------


def lost(start, backend, loss, gate):
    @task(max_crash_retries=0)
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        look(waits())
    run = start(flow)
    gate.wait()
    channel_of(backend).lose((0, -1), loss)
    run.wait(PATIENCE)
    gate.open()
    return run


def test_a_crash_is_task_crashed(start, backend):
    run = lost(start, backend, Loss("error", "MemoryError: full"), Gate("crash"))
    with pytest.raises(exceptions.TaskCrashed, match="waits: MemoryError: full"):
        run["waits"].result()
    # What stands behind it has its trigger evaluated all the same, and sees the state.
    assert run["look"].result() == "waits Crashed None False"


def test_a_cancelled_run_is_task_cancelled_as_the_standard_library_has_it(start, backend):
    run = lost(start, backend, Loss("cancelled", "by client-2"), Gate("cancelled"))
    with pytest.raises(exceptions.TaskCancelled, match="waits: by another client: by client-2"):
        run["waits"].result()
    with pytest.raises(concurrent.futures.CancelledError):
        run["waits"].result()
    assert run["look"].result() == "waits Cancelled None False"


def test_a_run_that_paused_or_waits_for_it_did_not_finish(finish):
    @task
    def pauses():
        raise signals.PAUSE("ask somebody")

    with Flow("etl") as flow:
        add(add(pauses()))
    run = finish(flow)
    assert isinstance(run.state, states.Paused)
    with pytest.raises(exceptions.NotFinished) as caught:
        run["pauses"].result()
    assert str(caught.value) == "pauses did not finish: Paused(ask somebody)"
    with pytest.raises(exceptions.NotFinished) as caught:
        run.result()
    assert str(caught.value) == (
        "add-2 did not finish: it waits for 1 upstream runs that did not, either"
    )


@pytest.mark.parametrize(
    ("state", "kind"), [("TimedOut", exceptions.TaskTimedOut), ("Crashed", exceptions.TaskCrashed)]
)
def test_a_state_that_only_later_parts_make_has_its_exception(finish, state, kind):
    run = finish(flow_of(give, 1))
    record = run["give"]._record
    record.header = record.header._replace(state=state, message="too long")
    error = run["give"].exception()
    assert type(error) is kind
    assert str(error) == "give: too long"


# --- lost values ---------------------------------------------------------------------------------


def test_a_value_that_was_lost_for_good_is_result_lost(start, backend):
    gate = Gate("lost value")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        give(LARGE, task_args={"max_crash_retries": 0})
        waits()
    run = start(flow)
    assert run["give"].result(PATIENCE) == LARGE
    channel_of(backend).lose((0, -1), Loss("lost", "lost dependencies"))
    assert eventually(lambda: run["give"]._record.by_value)
    with pytest.raises(exceptions.ResultLost, match="could not be made again: lost dependencies"):
        run["give"].result()
    assert isinstance(run["give"].state, states.Success)
    gate.open()


def test_a_value_that_is_being_made_again_is_waited_for(start, backend):
    gate, second = Gate("made again"), Gate("second time")

    @task
    def waits():
        gate.pass_through()

    @task
    def makes():
        if context.attempt > 1:
            second.pass_through()
        return LARGE

    with Flow("etl") as flow:
        makes()
        waits()
    run = start(flow)
    assert run["makes"].result(PATIENCE) == LARGE
    channel_of(backend).lose((0, -1), Loss("lost", "lost dependencies"))
    second.wait()
    with pytest.raises((TimeoutError, concurrent.futures.TimeoutError)):
        run["makes"].result(0.01)
    second.open()
    assert run["makes"].result(PATIENCE) == LARGE
    gate.open()
    run.wait(PATIENCE)
    assert [a.outcome for a in run["makes"].attempts] == ["success", "re-executed"]


def test_what_dask_executed_again_without_success_is_not_given_for_the_value(finish, backend):
    calls = []

    def second_time_lucky():
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("not this time")
        return LARGE

    _Calls.function = second_time_lucky
    run = finish(flow_of(task(_call)))
    assert run.result() == LARGE
    channel_of(backend).execute_again((0, -1))
    with pytest.raises(exceptions.ResultLost, match=r"it came to ValueError\('not this time'\)"):
        run.result(timeout=PATIENCE)


class _Calls:
    function = None


def _call():
    return _Calls.function()


def test_a_result_that_does_not_pickle_says_so(finish):
    @task
    def makes_a_lock():
        import threading

        return threading.Lock()

    run = finish(flow_of(makes_a_lock))
    assert isinstance(run.state, states.Success)
    with pytest.raises(
        exceptions.ResultNotSerializable, match="makes_a_lock, a lock, cannot be pi"
    ):
        run.result()


# --- what a task sees ----------------------------------------------------------------------------


def test_what_has_no_result_arrives_as_missing(finish):
    @task
    def skips():
        raise signals.SKIP("no")

    @task
    def skips_with():
        raise signals.SKIP("no", 5)

    with Flow("etl", task_defaults={"skip_on_upstream_skip": False}) as flow:
        look(fails())
        look(skips())
        look(skips_with())
        look(add(fails()))
    run = finish(flow)
    assert run["look"].result() == "fails Failed KeyError('no') False"
    assert run["look-2"].result() == "skips Skipped None False"
    assert run["look-3"].result() == "5"
    assert run["look-4"].result().startswith("add TriggerFailed UpstreamFailed(")


def test_the_same_words_hold_for_a_header_without_an_exception():
    header = Header(
        0, -1, 1, 1, "Failed", "dask_taskrunner is not installed on worker w1: No module", "w1", 1,
        None, None, 0.0, "", 0, None, {"type": "ModuleNotFoundError"},
    )  # fmt: skip
    error = outcomes._own_exception(None, header, None, 1, None)
    assert str(error).startswith("ModuleNotFoundError: dask_taskrunner is not installed")
