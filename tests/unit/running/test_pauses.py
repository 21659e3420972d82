"""Runs that pause and go on, from end to end on a cluster in this process."""

from __future__ import annotations

import gc

import pytest
from fakes.gates import PATIENCE
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    NotFinished,
    RunnerClosed,
    context,
    exceptions,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.keeping import keep_results

LARGE = "x" * 300_000


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@task
def build(x=1):
    ran("build")
    return [LARGE, x]


@task(trigger=triggers.manual_only)
def deploy(built, constant=None):
    ran("deploy")
    return len(built[0]) + len(constant or "")


@task
def tell(x):
    return x + 1


def release_train(constant=None):
    with Flow("train") as flow:
        tell(deploy(build(), constant))
    return flow


def test_a_paused_run_goes_on_as_the_same_run(finish):
    run = finish(release_train())
    assert run.state == states.Paused(message="deploy waits for run.approve('deploy')")
    assert isinstance(run["deploy"].state, states.Paused)
    before, id = len(run.history), run.run_id
    assert run.approve("deploy") is run
    assert run.wait(PATIENCE).result() == 300_001
    assert run.run_id == id
    assert RAN == ["build", "deploy"]
    shown = [(entry.old, entry.new) for entry in run.history[before:] if entry.task_run is None]
    assert shown == [("Paused", "Running"), ("Running", "Success")]
    assert run["deploy"].attempts[0].run_number == 1


def test_what_a_paused_run_needs_is_there_when_it_goes_on(finish):
    run = finish(release_train("y" * 400_000), keep="none")
    gc.collect()
    assert run._driver.channel.holds(run["build"].record.id)
    run.approve()
    assert run.wait(PATIENCE)["deploy"].result() == 700_000
    assert not run._driver.channel.holds(run["build"].record.id)


def test_a_rejected_one_is_skipped_and_what_is_downstream(finish):
    run = finish(release_train())
    run.reject(deploy)
    assert run.wait(PATIENCE).state.is_successful()
    assert run["deploy"].state == states.Skipped(message="rejected by the user")
    assert isinstance(run["tell"].state, states.Skipped)
    assert RAN == ["build"]


def test_a_paused_run_can_be_cancelled_with_all_that_waits(finish):
    run = finish(release_train("y" * 400_000), keep="none")
    before = len(run.history)
    run.cancel()
    assert run.wait(PATIENCE).state == states.Cancelled(message="cancelled by the user")
    assert [type(run[slug].state).__name__ for slug in ("build", "deploy", "tell")] == [
        "Success", "Cancelled", "Cancelled",
    ]  # fmt: skip
    shown = [(entry.old, entry.new) for entry in run.history[before:] if entry.task_run is None]
    assert shown == [("Paused", "Running"), ("Running", "Cancelled")]
    assert not run.still_running
    with pytest.raises(exceptions.TaskRunnerError):
        run.approve("deploy")
    assert RAN == ["build"]


def test_a_body_that_paused_is_run_from_its_beginning(finish):
    @task
    def ask():
        from fakes.ran import RAN

        RAN.append(context.task_run_number)
        if len(RAN) < 3:
            raise signals.PAUSE("look at it first")
        return 5

    with Flow("ask") as flow:
        tell(ask())
    run = finish(flow)
    for _ in range(2):
        assert run.state.message == "ask waits for run.approve('ask')"
        run.approve("ask").wait(PATIENCE)
    assert run.result() == 6
    assert RAN == [1, 1, 1]
    assert [attempt.outcome for attempt in run["ask"].attempts] == ["paused", "paused", "success"]


def test_children_go_on_one_by_one_or_together(finish):
    with Flow("hosts") as flow:
        tell.map(tell.map([1, 2, 3], task_args={"trigger": triggers.manual_only, "name": "host"}))
    run = finish(flow)
    text = "host[0], host[1], host[2] wait for run.approve('host[0]', 'host[1]', 'host[2]')"
    assert run.state.message == text
    run.approve("host[1]").wait(PATIENCE)
    assert run["tell[1]"].result() == 4
    assert isinstance(run["host"].state, states.Paused)
    run.reject("host[0]").wait(PATIENCE)
    run.approve("host").wait(PATIENCE)
    assert run["host"].state.counts == {"Skipped": 1, "Success": 2}
    assert run.state.is_successful()


def test_one_may_go_on_while_others_run(start, finish):
    import threading

    gate = threading.Event()
    GATES.append(gate)
    with Flow("others") as flow:
        waits_here()
        tell(deploy(build()))
    run = start(flow)
    assert run._driver.wait_for(lambda: run["deploy"].record.is_paused, PATIENCE)
    run.approve("deploy")
    assert run["tell"].result(PATIENCE) == 300_001
    assert not run._driver.ended.is_set()
    gate.set()
    assert run.wait(PATIENCE).state.is_successful()


GATES = []


@task
def waits_here():
    from test_pauses import GATES

    assert GATES[-1].wait(PATIENCE)


def test_what_has_not_paused_cannot_go_on(finish):
    run = finish(release_train())
    with pytest.raises(NotFinished, match=r"build has not paused: it is Success.*; paused: deploy"):
        run.approve("build")
    run.approve().wait(PATIENCE)
    with pytest.raises(NotFinished, match="nothing of 'nightly' has paused"):
        run.reject()


def test_a_closed_runner_lets_nothing_go_on(finish):
    run = finish(release_train())
    keep_results([run.holder], 10**9)
    with pytest.raises(RunnerClosed, match="'nightly' cannot go on"):
        run.approve()
    other = finish(release_train())
    other.release()
    with pytest.raises(RunnerClosed, match="task_states"):
        other.approve()


def test_a_run_that_was_waited_for_is_waited_for_again(finish):
    run = finish(release_train())
    run.wait_again = lambda run: run.wait(PATIENCE)
    assert run.approve().state.is_successful()


def test_handlers_are_told_that_the_run_goes_on(finish):
    told = []
    flow = release_train()
    flow.state_handlers = (lambda _, old, new: told.append((type(old), type(new))),)
    run = finish(flow)
    run.approve().wait(PATIENCE)
    assert told == [
        (states.Pending, states.Running),
        (states.Running, states.Paused),
        (states.Paused, states.Running),
        (states.Running, states.Success),
    ]


def test_a_paused_run_can_still_be_cancelled_after_it_went_on(finish):
    run = finish(release_train())
    run.approve()
    run.cancel()
    run.wait(PATIENCE)
    assert type(run.state) in (states.Cancelled, states.Success)
