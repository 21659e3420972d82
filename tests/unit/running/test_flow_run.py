"""What a user holds of a flow run: states, attempts, failures, table, notes, what is kept."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from fakes.gates import PATIENCE, Gate, eventually
from fakes.machine_story import Story

from dask_taskrunner import Flow, Parameter, context, exceptions, states, task, triggers
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.states import Failed, Pending, Retrying, Running, Success, TriggerFailed
from dask_taskrunner.task_run import _waiting

LARGE = "x" * 10_000


@task
def one():
    return 1


@task
def add(x, y):
    return x + y


@task
def large():
    return LARGE


@task
def length(text):
    return len(text)


@task(max_retries=2, retry_delay=0)
def third_time():
    if context.task_run_number < 3:
        raise ValueError("not yet")
    return "at last"


@task
def fails(x=0):
    raise KeyError("no such thing")


@task(trigger=triggers.all_finished)
def report(x):
    return f"{type(x).__name__}"


def make(*tasks):
    """Return a flow of calls without arguments."""
    with Flow("etl") as flow:
        for each in tasks:
            each()
    return flow


# --- states --------------------------------------------------------------------------------------


def test_a_flow_runs_to_its_end(finish):
    with Flow("etl") as flow:
        add(add(one(), 10), add(one(), 100))
    run = finish(flow)
    assert isinstance(run.state, Success)
    assert run.state.message == "reference tasks succeeded"
    assert run.result() == 112
    assert run.counts == {"Success": 5}
    assert list(run) == ["one", "add", "one-2", "add-2", "add-3"]
    assert len(run) == 5
    assert {slug: type(state) for slug, state in run.states.items()} == dict.fromkeys(run, Success)


def test_the_same_object_tells_of_a_run_that_goes_on(start):
    gate = Gate("goes on")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        add(waits(), 1)
    run = start(flow)
    gate.wait()
    assert isinstance(run.state, Running)
    assert isinstance(run["add"].state, Pending)
    assert run["add"].state.message == "submitted"
    # Its body is reported after 50 ms.
    assert eventually(lambda: isinstance(run["waits"].state, Running))
    assert run["waits"].state.message.startswith("on fake://")
    assert [each.slug for each in run.still_running] == ["waits"]
    assert [a.outcome for a in run["waits"].attempts] == ["running"]
    with pytest.raises(TimeoutError, match="'nightly' goes on after 0 s"):
        run.wait(0)
    with pytest.raises(TimeoutError, match="waits has not finished after 0 s"):
        run["waits"].result(0)
    gate.open()
    run.wait(PATIENCE)
    assert run.still_running == []


def test_a_state_is_a_header_whose_large_result_is_elsewhere(finish):
    run = finish(make(large, one))
    assert run["one"].state.result == 1
    assert not run["large"].state.result_is_here
    with pytest.raises(exceptions.ResultNotHere, match=r"the result of large \(str, 10 kB\) is on"):
        _ = run["large"].state.result


def test_while_a_retry_waits_the_state_says_so(start):
    @task(max_retries=1, retry_delay=3600)
    def much_later():
        raise ValueError("not yet")

    with Flow("etl") as flow:
        report(much_later())
    run = start(flow)
    assert eventually(lambda: isinstance(run["much_later"].state, Retrying))
    state = run["much_later"].state
    assert state.message == "retry 1 of 1 after ValueError: not yet"
    assert 3500 < (state.scheduled_time - datetime.now(UTC)).total_seconds() <= 3600
    assert run["report"].state.message == "waits for 1 upstream runs"
    assert run.history[-1].new == "Retrying"


def test_task_runs_are_found_by_task_slug_and_bound_task(finish):
    with Flow("etl") as flow:
        first, second = one(), one()
        add(first, second)
    run = finish(flow)
    assert run[second].slug == "one-2"
    assert run["one-2"].slug == "one-2"
    assert run[add].slug == "add"
    with pytest.raises(exceptions.UnknownTask, match="uses one twice"):
        run[one]
    with pytest.raises(exceptions.UnknownTask):
        run["nothing"]


def test_a_parameter_is_no_task_run(finish):
    with Flow("etl") as flow:
        x = Parameter("x", default=5)
        add(x, 1)
    run = finish(flow, parameters={"x": 7})
    assert run.parameters == {"x": 7}
    assert run.result() == 8
    with pytest.raises(exceptions.UnknownTask, match="has no task 'x'"):
        run["x"]
    with pytest.raises(exceptions.UnknownTask, match="'x' is a parameter, not a task"):
        run[x]


def test_a_flow_that_grows_changes_no_run_of_it(finish):
    flow = make(one)
    run = finish(flow)
    with flow:
        add(one(), 1)
    assert run.result() == 1
    with pytest.raises(exceptions.UnknownTask, match="'add' came into the flow after 'ni"):
        run["add"]


def test_what_a_task_sees_in_its_context(finish):
    @task
    def look():
        return [
            context.flow_name, context.run_name, context.slug, context.map_index, context.attempt,
            context.parameters, context.region, context.task_run_number, context.task_name,
        ]  # fmt: skip

    run = finish(make(look), context={"region": "eu"})
    assert run.result() == ["etl", "nightly", "look", -1, 1, {}, "eu", 1, "look"]
    assert run.run_name == "nightly"


def test_several_reference_tasks_give_a_dict(finish):
    run = finish(make(one, large))
    assert run.result() == {"one": 1, "large": LARGE}


def test_views_are_given_the_tasks_names(finish):
    run = finish(make(one, one))
    assert run.names == {(0, -1): "one", (1, -1): "one"}
    assert list(run["one-2"].children) == []


def test_a_pending_run_says_what_it_waits_for():
    story = Story({0: (), 1: (0,), 2: ()})
    assert [_waiting(story.record(n)) for n in (0, 1)] == [None, "waits for 1 upstream runs"]
    story.starts()
    assert _waiting(story.record(0)) == "submitted"


def test_a_run_has_a_repr(finish):
    run = finish(make(one, fails))
    assert repr(run) == "<FlowRun etl 'nightly' Failed: 1 Success, 1 Failed>"
    assert repr(run["one"]) == "<TaskRun one Success>"


# --- retries and attempts ------------------------------------------------------------------------


def test_a_retry_is_made_with_all_that_stands_behind_it(finish):
    with Flow("etl") as flow:
        length(third_time())
    run = finish(flow)
    assert run.result() == 7
    told = [(a.number, a.run_number, a.submission, a.outcome) for a in run["third_time"].attempts]
    assert told == [(1, 1, 1, "retrying"), (2, 2, 2, "retrying"), (3, 3, 3, "success")]
    assert [a.error for a in run["third_time"].attempts] == [
        "ValueError: not yet",
        "ValueError: not yet",
        None,
    ]
    assert len(run["length"].attempts) == 1


def test_attempts_are_timed_by_their_workers(finish):
    (attempt,) = finish(make(one))["one"].attempts
    assert attempt.worker.startswith("fake://")
    assert attempt.ended >= attempt.started


def test_a_lost_execution_is_an_attempt_and_costs_no_retry(start, backend):
    gate = Gate("lost")

    @task
    def waits():
        if context.attempt == 1:
            gate.pass_through()
        return context.attempt

    run = start(make(waits))
    gate.wait()
    assert eventually(lambda: run.still_running)
    worker = run["waits"].attempts[0].worker
    (channel,) = backend.channels.values()
    channel.remove_worker(worker, [(0, -1)])
    channel.lose((0, -1), Loss("killed", "KilledWorker", worker))
    run.wait(PATIENCE)
    gate.open()
    assert run.result() == 2
    outcomes = [(a.run_number, a.outcome) for a in run["waits"].attempts]
    assert outcomes == [(1, "worker-lost"), (1, "success")]
    assert eventually(lambda: run.notes)
    assert run.notes[0].text == f"worker {worker} was lost with 1 task runs assigned to it"
    assert run.notes[0].task_run is None
    assert run.notes[0].level == logging.WARNING
    assert run.notes[0].time.tzinfo is not None


# --- failures ------------------------------------------------------------------------------------


def test_failures_are_what_failed_by_itself(finish):
    with Flow("etl") as flow:
        add(fails(), 1)
        one()
    run = finish(flow)
    assert isinstance(run.state, Failed)
    assert [each.slug for each in run.failures] == ["fails"]
    assert isinstance(run["add"].state, TriggerFailed)
    assert run["add"].state.root_cause == ("fails", "KeyError: 'no such thing'")


def test_the_text_of_a_failure_says_what_failed_and_what_did_not_run(finish):
    with Flow("etl") as flow:
        add(fails(5), 1)
    run = finish(flow)
    lines = run.failure_text().splitlines()
    assert lines[0] == (
        "etl 'nightly' failed: 1 of 2 task runs failed, 1 did not run because of it"
    )
    assert lines[1].startswith("  fails  KeyError: 'no such thing'")
    assert lines[1].endswith("attempt 1 of 1, " + run["fails"].attempts[0].worker)
    assert lines[2] == "    x=5"
    assert "in fails" in lines[3]
    assert lines[-1] == (
        "  not run: add (trigger all_successful: 1 of 1 upstream runs were not successful)"
    )


def test_raise_for_failure_raises_what_failed_or_returns_the_run(finish):
    run = finish(make(one))
    assert run.raise_for_failure() is run
    failed = finish(make(fails))
    with pytest.raises(exceptions.FlowRunFailed) as caught:
        failed.raise_for_failure()
    assert str(caught.value) == failed.failure_text()
    assert [each.slug for each in caught.value.failures] == ["fails"]


def test_inputs_are_told_of_the_attempt_that_failed(finish):
    with Flow("etl") as flow:
        fails([0, 1])
        one()
    run = finish(flow)
    assert run["fails"].inputs == {"x": "[0, 1]"}
    assert run["one"].inputs == {}


def test_a_green_run_that_holds_failures_says_so(finish):
    with Flow("etl") as flow:
        done = report(fails())
        flow.set_reference_tasks([done])
    run = finish(flow)
    assert run.state.message == "reference tasks succeeded; 1 of 2 task runs failed: fails"
    assert run.result() == "MissingResult"


def records_of(caplog, level):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "dask_taskrunner" and record.levelno == level
    ]


def test_each_failure_is_one_error_of_the_log_and_the_run_one_more(finish, caplog):
    run = finish(make(one, fails))
    assert records_of(caplog, logging.ERROR) == [
        "nightly: fails failed: KeyError: 'no such thing'",
        run.failure_text(),
    ]


def test_of_many_failures_the_first_twenty_are_told_and_then_a_count(finish, caplog):
    with Flow("etl") as flow:
        for n in range(25):
            fails(n)
    finish(flow)
    errors = records_of(caplog, logging.ERROR)
    assert len(errors) == 22
    assert errors[20] == "nightly: 5 more task runs failed"
    assert errors[21].startswith("etl 'nightly' failed: 25 of 25 task runs failed")


def test_success_is_silent(finish, caplog):
    finish(make(one))
    assert records_of(caplog, logging.ERROR) == []


# --- cancel --------------------------------------------------------------------------------------


def test_cancel_does_not_wait_and_says_whose_code_goes_on(start):
    gate = Gate("cancel")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        add(waits(), one())
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run.still_running)
    with pytest.raises(TimeoutError, match=r"the code of waits still ran 0\.01 s after the cancel"):
        run.cancel(wait=0.01)
    assert isinstance(run.wait(PATIENCE).state, states.Cancelled)
    assert [each.slug for each in run.still_running] == ["waits"]
    assert run["waits"].state.message.startswith("asked to stop; its code was running on fake://")
    gate.open()
    run.cancel(wait=PATIENCE)
    assert run.still_running == []
    # What it came to is an attempt, and changes no state.
    assert [a.outcome for a in run["waits"].attempts] == ["success"]
    assert isinstance(run["waits"].state, states.Cancelled)


def test_cancel_after_the_end_changes_nothing(finish):
    run = finish(make(one))
    run.cancel(wait=0)
    assert isinstance(run.state, Success)
