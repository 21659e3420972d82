"""Tasks that must not run twice, and results that are checked where they are made."""

from __future__ import annotations

import threading

from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, exceptions, states, task


class Counted:
    calls = 0


@task(rerun_on_loss=False, max_retries=3, retry_delay=0)
def pay():
    Counted.calls += 1
    return b"x" * 10_000


def test_a_second_execution_of_a_submission_is_a_failure_and_no_second_body(start, backend):
    Counted.calls = 0
    gate = Gate("second-starts")
    with Flow("payments") as flow:
        pay()
        task(gate.pass_through, name="wait")()
    run = start(flow)
    assert eventually(lambda: run["pay"].state.is_finished())
    channel = backend.channels[run.run_id]
    channel.execute_again((0, -1))
    assert eventually(lambda: run.notes)
    assert "executed again by Dask" in run.notes[0].text
    gate.open()
    run.wait(PATIENCE)
    # The state that was known stays; the result is what is gone.
    assert run["pay"].state.is_successful()
    assert Counted.calls == 1


def test_a_result_that_cannot_travel_is_its_own_tasks_failure_where_that_is_checked(finish):
    with Flow("checks") as flow:
        task(threading.Lock, name="lock", check_result=True)()
    run = finish(flow)
    state = run["lock"].state
    assert type(state) is states.Failed
    assert isinstance(state.exception, exceptions.ResultNotSerializable)
    assert "the result, of type lock, cannot be sent to another worker" in state.message


def test_one_that_can_is_what_it_was(finish):
    with Flow("checks") as flow:
        task(lambda: [1, 2], name="list", check_result=True)()
    assert finish(flow).result() == [1, 2]
