"""Flows in this process, by a virtual clock: what fails, what is tried again, and what is lost."""

from __future__ import annotations

import logging
import time

import pytest
from fakes.gates import Gate

from dask_taskrunner import Flow, case, task
from dask_taskrunner.exceptions import NoCluster, OptionError, RunnerClosed, UnknownTask
from dask_taskrunner.testing import (
    InProcessRunner,
    ScriptedFailure,
    assert_attempts,
    assert_not_ran,
    assert_order,
    assert_ran,
    assert_states,
    fail,
    kill_worker,
    takes,
)


@task
def a():
    return 1


@task(max_retries=2, retry_delay=3600)
def b(x):
    return x + 1


@task
def c(x):
    return x * 10


@task
def d(x, y):
    return x + y


def diamond() -> Flow:
    with Flow("diamond") as flow:
        first = a()
        d(b(first), c(first))
    return flow


def seconds(run, slug):
    """Return when the body of each attempt began, in seconds from the run's beginning."""
    return [round(one.started - run.history[0].at) for one in run[slug].attempts]


def test_a_flow_comes_to_its_result():
    run = InProcessRunner().run(diamond())
    assert run.result() == 12
    assert_order(run, "a", "b", "d")
    assert {one.outcome for slug in run for one in run[slug].attempts} == {"success"}


def test_an_hours_delay_costs_nothing_and_is_in_the_history():
    begin = time.monotonic()
    run = InProcessRunner(fail("b", attempts=2)).run(diamond())
    assert time.monotonic() - begin < 5
    assert_attempts(run, "b", ["retrying", "retrying", "success"])
    assert seconds(run, "b") == [0, 3600, 7200]
    assert seconds(run, "d") == [7200]
    assert run.result() == 12


def test_a_failure_that_outlasts_its_retries_reaches_what_is_downstream():
    run = InProcessRunner(fail("b", attempts=3, error=ValueError("no rows"))).run(diamond())
    assert_states(run, {"a": "Success", "b": "Failed", "c": "Success", "d": "TriggerFailed"})
    assert_not_ran(run, "d")
    assert repr(run["b"].exception()) == "ValueError('no rows')"


def test_an_error_of_no_kind_is_a_scripted_one():
    run = InProcessRunner(fail("a")).run(diamond())
    assert isinstance(run["a"].exception(), ScriptedFailure)


def test_a_worker_that_dies_takes_what_lay_there_and_all_is_made_again():
    run = InProcessRunner(kill_worker("b"), task_defaults={"max_crash_retries": 1}).run(diamond())
    assert_attempts(run, "b", ["worker-lost", "success"])
    assert_attempts(run, "a", ["success", "re-executed"])
    assert run.result() == 12
    assert run["b"].attempts[0].worker != run["b"].attempts[1].worker


def test_a_crash_budget_of_nothing_ends_at_the_first_death():
    run = InProcessRunner(kill_worker("b"), task_defaults={"max_crash_retries": 0}).run(diamond())
    assert_states(run, {"b": "Crashed", "d": "TriggerFailed"})
    assert_attempts(run, "b", ["worker-lost"])


def test_crashes_and_retries_have_budgets_of_their_own():
    run = InProcessRunner(
        fail("b", attempts=2), kill_worker("b", attempt=2), task_defaults={"max_crash_retries": 1}
    ).run(diamond())
    assert_attempts(run, "b", ["retrying", "worker-lost", "retrying", "success"])


def test_what_lies_on_another_worker_survives():
    run = InProcessRunner(
        takes("b", 60), takes("c", 60), kill_worker("c"), workers=2,
        task_defaults={"max_crash_retries": 1},
    ).run(diamond())  # fmt: skip
    assert_attempts(run, "b", ["success"])
    assert_attempts(run, "c", ["worker-lost", "success"])
    assert run.result() == 12


def test_bodies_take_the_time_that_the_script_says_and_run_side_by_side():
    faults = takes("b", 60), takes("c", 30)
    one = InProcessRunner(*faults).run(diamond())
    two = InProcessRunner(*faults, threads=2).run(diamond())
    assert seconds(one, "d") == [90]
    assert seconds(two, "d") == [60]
    assert two["b"].attempts[0].ended - two["b"].attempts[0].started == pytest.approx(60)


def test_a_mapped_task_fails_for_one_child_or_for_all():
    with Flow("each") as flow:
        b.map([1, 2, 3])
    run = InProcessRunner(fail("b[1]")).run(flow)
    assert_attempts(run, "b[0]", ["success"])
    assert_attempts(run, "b[1]", ["retrying", "success"])
    everyone = InProcessRunner(fail("b")).run(flow)
    assert_attempts(everyone, "b[2]", ["retrying", "success"])
    assert everyone.result() == [2, 3, 4]


def test_many_children_are_not_slow():
    with Flow("many") as flow:
        c.map(list(range(200)))
    begin = time.monotonic()
    assert len(InProcessRunner().run(flow).result()) == 200
    assert time.monotonic() - begin < 5


def test_a_branch_that_is_not_taken_is_skipped():
    with Flow("branches") as flow, case(a(), 2):
        c(5)
    run = InProcessRunner().run(flow)
    assert_states(run, {"c": "Skipped"})
    assert_not_ran(run, "c")


def test_a_script_of_an_unknown_task_run_is_an_error():
    with pytest.raises(UnknownTask, match="did you mean 'b'"):
        InProcessRunner(fail("bb")).run(diamond())


@pytest.mark.parametrize(
    "make",
    [
        lambda: fail("b", attempts=0),
        lambda: kill_worker("b", attempt=0),
        lambda: InProcessRunner("b"),
        lambda: InProcessRunner(workers=0),
    ],
)
def test_what_makes_no_sense_is_an_error(make):
    with pytest.raises(OptionError):
        make()


def test_a_closed_runner_runs_nothing():
    with InProcessRunner() as runner:
        runner.run(diamond())
    with pytest.raises(RunnerClosed):
        runner.run(diamond())


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (lambda run: assert_ran(run, "d"), "d did not run"),
        (lambda run: assert_not_ran(run, "a"), "a ran: "),
        (lambda run: assert_order(run, "d", "a"), "d did not end before a"),
        (lambda run: assert_states(run, {"d": "Success"}), "d is TriggerFailed, not Success"),
        (lambda run: assert_attempts(run, "b", ["success"]), "not \\['success'\\]"),
    ],
)
def test_an_assertion_that_fails_shows_the_history(check, text):
    run = InProcessRunner(fail("b", attempts=3)).run(diamond())
    with pytest.raises(AssertionError, match=f"(?s){text}.*7200.0  b: .* -> Failed"):
        check(run)


def test_single_calls_have_the_same_clock_and_script():
    with InProcessRunner(fail("b")) as runner:
        future = runner.submit(b, runner.submit(a))
        children = runner.map(c, [1, 2])
        assert future.result(10) == 2
        assert [one.outcome for one in future.attempts] == ["retrying", "success"]
        assert [one.result(10) for one in children] == [10, 20]


def test_a_result_goes_on_into_another_run():
    runner = InProcessRunner()
    first = runner.run(diamond(), return_tasks="all")
    second = runner.run(diamond(), task_states={"b": first["b"].state})
    assert_not_ran(second, "b")
    assert second.result() == 12


def test_a_cancelled_run_does_not_begin_what_is_next():
    gate = Gate("in-process")

    @task
    def waits():
        gate.pass_through()
        return 1

    with Flow("cancelled") as flow:
        b(waits())
    run = InProcessRunner().start(flow)
    gate.wait()
    run.cancel()
    gate.open()
    run.wait(10)
    assert_states(run, {"b": "Cancelled"})
    assert_not_ran(run, "b")


def test_what_bodies_log_is_on_their_task_runs():
    @task
    def talks():
        logging.getLogger("talks").warning("half of it")

    with Flow("talk") as flow:
        talks()
    run = InProcessRunner(takes("talks", 3600)).run(flow)
    assert [line.text for line in run["talks"].logs] == ["half of it"]
    assert run["talks"].logs[0].attempt == 1


def test_a_failed_run_is_resumed_by_the_runner_that_made_it():
    wants = Gate("wanted")

    @task
    def picky(x):
        if not wants.opened.is_set():
            raise ValueError(x)
        return x

    with Flow("picky") as flow:
        picky(a())
    runner = InProcessRunner()
    first = runner.run(flow)
    wants.open()
    second = runner.run(flow, resume=first)
    assert_not_ran(second, "a")
    assert second.result() == 1


def test_a_timeout_is_held_against_the_virtual_clock():
    @task(timeout=60, max_retries=1, retry_delay=0)
    def slow():
        return 1

    with Flow("limits") as flow:
        slow()
    run = InProcessRunner(takes("slow", 3600)).run(flow)
    assert_states(run, {"slow": "TimedOut"})
    assert [one.outcome for one in run["slow"].attempts] == ["retrying", "timed-out"]
    assert [one.ended - one.started for one in run["slow"].attempts] == pytest.approx([60, 60])
    assert InProcessRunner(takes("slow", 59)).run(flow).result() == 1


@pytest.mark.parametrize("name", ["client", "cluster", "address", "dashboard_link"])
def test_it_has_no_cluster(name):
    with pytest.raises(NoCluster, match="no Dask client"):
        getattr(InProcessRunner(), name)
