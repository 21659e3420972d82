"""Flow runs that begin in their middle, from end to end on a cluster in this process."""

from __future__ import annotations

import gc
import logging
import pickle

import pytest
from fakes.fake_backend import FakeBackend, launched
from fakes.gates import PATIENCE
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    MissingResult,
    context,
    exceptions,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.backend import Constant
from dask_taskrunner.states import CachedState, Failed, Pending, Retrying, Skipped, Success

#: Too much for a header.
BIG = list(range(1000))


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@task
def extract():
    ran(context.slug)
    return list(BIG)


@task
def clean(rows, by=1):
    ran(context.slug)
    return [row * by for row in rows]


@task
def total(rows, more=0):
    ran(context.slug)
    return sum(rows) + (sum(more) if more else 0)


@task(trigger=triggers.all_finished)
def look(x):
    ran(context.slug)
    return repr(x) if isinstance(x, MissingResult) else x


@task
def fails():
    ran(context.slug)
    raise ValueError("no")


def chain():
    with Flow("etl") as flow:
        total(clean(extract()))
    return flow


def test_small_and_large_results_can_be_given(finish):
    run = finish(chain(), task_states={"clean": Success([1, 2])})
    assert run.result() == 3
    # What it would have read runs all the same: nobody said that it should not.
    assert sorted(RAN) == ["extract", "total"]
    given = finish(chain(), task_states={"extract": Success(BIG), "clean": Success(BIG)})
    assert given.result() == sum(BIG)
    assert given.result("clean") is BIG
    assert given["clean"].attempts == []
    assert sorted(RAN) == ["extract", "total", "total"]


def test_all_may_be_given(finish, backend):
    run = finish(
        chain(), task_states={"extract": Success(), "clean": Success(), "total": Success(BIG)}
    )
    assert run.state.is_successful()
    assert run.result() == BIG
    assert RAN == []
    (channel,) = backend.channels.values()
    assert channel.submitted == []
    assert channel._held == {}


def test_a_result_of_an_earlier_run_is_read_where_it_lies(finish):
    earlier = finish(chain(), return_tasks=["clean"])
    RAN.clear()
    # Another flow of the same slugs.
    run = finish(chain(), start_tasks=["total"], task_states={"clean": earlier["clean"].state})
    assert RAN == ["total"]
    assert run.result() == earlier.result()
    assert run["extract"].state.message == "not part of this run"
    with pytest.raises(exceptions.NotFinished, match="not part of this run"):
        run["extract"].result()
    row = run.table("clean")[0]
    assert (row["state"], row["attempts"], row["nbytes"]) == (
        "Success",
        0,
        earlier.table()[1]["nbytes"],
    )


def test_a_result_that_is_given_is_let_go_with_its_last_reader(finish):
    earlier = finish(chain(), return_tasks=["clean"])
    run = finish(chain(), start_tasks="total", task_states=earlier.states)
    assert not run._driver.channel.holds(run._plan.ids["clean"])
    with pytest.raises(exceptions.ResultReleased):
        run.result("clean")
    # The earlier run's own is as it was.
    assert earlier.result("clean") == BIG
    kept = finish(chain(), start_tasks="total", task_states=earlier.states, return_tasks=["clean"])
    assert kept.result("clean") == BIG


def test_what_only_somebody_outside_would_read_is_let_go(finish):
    with Flow("etl") as flow:
        rows = extract()
        total(rows)
        clean(rows)
    run = finish(flow, start_tasks="total", task_states={"extract": Success(BIG)})
    assert not run._driver.channel.holds(run._plan.ids["extract"])


def test_a_given_result_can_be_given_on(finish):
    first = finish(chain(), return_tasks=["clean"])
    second = finish(chain(), start_tasks="total", task_states=first.states, return_tasks=["clean"])
    del first
    third = finish(chain(), start_tasks="total", task_states=second.states)
    assert third.result() == sum(BIG)


def test_two_results_of_one_name_stay_two(finish):
    first, second = finish(chain(), return_tasks=["clean"]), finish(chain(), return_tasks=["clean"])

    def both(upstream_states):
        for slug in upstream_states:
            ran(f"trigger of {slug}")
        return True

    with Flow("both") as flow:
        total(clean(extract()), clean(extract()), task_args={"trigger": both})
    given = {"clean": first["clean"].state, "clean-2": second["clean"].state}
    run = finish(flow, start_tasks=["total"], task_states=given)
    assert run.result() == 2 * sum(BIG)
    run = finish(flow, task_states=given | {"extract": Success(), "extract-2": Success()})
    assert run.result() == 2 * sum(BIG)
    assert RAN[-3:] == ["trigger of clean", "trigger of clean-2", "total"]


def test_a_result_that_went_with_its_run_is_told_before_anything_is_sent(finish, backend):
    earlier = launched(backend, chain(), return_tasks=["clean"]).wait(PATIENCE)
    states = earlier.states
    earlier._driver._thread.join(PATIENCE)
    del earlier
    gc.collect()
    with pytest.raises(exceptions.ResultReleased, match="keep it with return_tasks"):
        finish(chain(), task_states={"clean": states["clean"]})
    held = finish(chain())
    with pytest.raises(exceptions.ResultReleased, match="keep it with return_tasks"):
        finish(chain(), task_states={"clean": held["clean"].state})
    RAN.clear()
    assert finish(chain(), start_tasks=["extract"], task_states=held.states).result() == sum(BIG)


def test_a_result_on_another_cluster_is_told_before_anything_is_sent(finish, monkeypatch):
    earlier = finish(chain(), return_tasks=["clean"])
    other = FakeBackend()
    with pytest.raises(exceptions.ResultReleased, match="another Dask client"):
        launched(other, chain(), task_states={"clean": earlier["clean"].state})
    assert other.channels == {}
    other.close()


# --- states that are no success ------------------------------------------------------------------


def watched():
    with Flow("etl") as flow:
        look(clean(extract()))
    return flow


@pytest.mark.parametrize(
    ("state", "seen"),
    [
        (Skipped(), "MissingResult"),
        (Skipped(7), 7),
        (Failed(exception=ValueError("of yesterday")), "ValueError('of yesterday')"),
        (states.TriggerFailed(message="no"), "MissingResult"),
        (states.Crashed(message="it died"), "MissingResult"),
        (states.Cancelled(message="enough"), "MissingResult"),
    ],
)
def test_whoever_reads_sees_the_state_that_is_given(finish, state, seen):
    @task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
    def see(x):
        if isinstance(x, MissingResult):
            assert type(x.state) is type(state)
            assert x.slug == "clean"
            return repr(x.exception) if x.exception else "MissingResult"
        return x

    with Flow("etl") as flow:
        see(clean(extract()))
    run = finish(flow, start_tasks=["see"], task_states={"clean": state})
    given = run["clean"].state
    assert (type(given), given.message) == (type(state), state.message)
    assert run["see"].result() == seen


def test_a_given_failure_fails_what_is_behind_it_and_is_not_told_as_news(finish, caplog):
    caplog.set_level(logging.ERROR, "dask_taskrunner")
    given = {"clean": Failed(exception=ValueError("of yesterday"))}
    run = finish(chain(), task_states=given)
    assert type(run["total"].state) is states.TriggerFailed
    assert run["total"].state.root_cause == ("clean", "ValueError: of yesterday")
    with pytest.raises(ValueError, match="of yesterday") as caught:
        run["clean"].result()
    assert caught.value.__notes__ == ["clean"]
    # The flow run did fail, and its text says what of it is no news.
    (record,) = caplog.records
    assert record.getMessage().splitlines()[1].split() == (
        ["clean", "ValueError:", "of", "yesterday", "given,", "not", "run", "here"]
    )
    with pytest.raises(exceptions.FlowRunFailed, match="given, not run here"):
        run.raise_for_failure()
    assert [failure.slug for failure in run.failures] == ["clean"]


def test_a_start_task_asks_neither_its_trigger_nor_for_a_skip(finish):
    for state in (Failed(message="no"), Skipped()):
        run = finish(watched(), start_tasks=[look], task_states={"clean": state})
        assert run["look"].result().startswith("MissingResult")
    with Flow("etl") as flow:
        total(clean(extract()))
    run = finish(flow, start_tasks=["clean"], task_states={"extract": Success([1])})
    assert run.result() == 1


def test_downstream_of_a_start_task_triggers_are_asked(finish):
    with Flow("etl") as flow:
        total(clean(extract()), extract())
    given = {"extract": Success([1]), "extract-2": Failed(message="no")}
    run = finish(flow, start_tasks=["clean"], task_states=given)
    assert run["clean"].result() == [1]
    assert type(run["total"].state) is states.TriggerFailed


# --- states that are not final -------------------------------------------------------------------


def test_a_retry_goes_on_with_its_number(finish):
    @task(max_retries=3, retry_delay=0)
    def number():
        if context.task_run_number < 4:
            raise ValueError(context.task_run_number)
        return context.task_run_number

    with Flow("retried") as flow:
        number()
    run = finish(flow, task_states={"number": Retrying(last_run_number=2)})
    assert run.result() == 4
    assert [attempt.run_number for attempt in run["number"].attempts] == [3, 4]


def test_a_retry_that_is_due_later_is_waited_for(start):
    import time

    with Flow("later") as flow:
        total(extract())
    due = time.time() + 3600
    run = start(flow, task_states={"extract": Retrying(scheduled_time=due, last_run_number=1)})
    run._driver.wait_for(lambda: run["extract"].state.is_retrying(), PATIENCE)
    assert run["extract"].state.scheduled_time.timestamp() == pytest.approx(due, abs=5)
    run.cancel()
    assert run._driver.ended.wait(PATIENCE)
    assert RAN == []


def test_what_has_not_ended_is_run(finish):
    for state in (Pending(), states.Paused(), states.Running(), states.Scheduled()):
        assert finish(chain(), task_states={"clean": state}).result() == sum(BIG)


@pytest.mark.parametrize("value", [[5], [5] * 100_000], ids=["small", "large"])
def test_a_cached_state_spares_the_body_where_the_validator_accepts_it(finish, value, backend):
    cached = CachedState(cached_result=value, cached_inputs={"rows": BIG})
    run = finish(chain(), task_states={"clean": cached})
    assert run["clean"].state.message == "cached result"
    assert run.result() == sum(value)
    assert RAN == ["extract", "total"]
    other = CachedState(cached_result=value, cached_inputs={"rows": []})
    assert finish(chain(), task_states={"clean": other}).result() == sum(BIG)
    # What was sent beside the run is let go with it.
    for channel in backend.channels.values():
        constants = [shared for shared in channel.users if isinstance(shared, Constant)]
        assert not any(channel.users[constant] for constant in constants)


def test_retries_inside_the_part_that_is_run(finish):
    @task(max_retries=2, retry_delay=0)
    def flaky(rows):
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return rows

    with Flow("etl") as flow:
        rows = extract()
        total(flaky(rows), clean(rows))
    run = finish(
        flow, start_tasks=["flaky"], task_states={"extract": Success(BIG), "clean": Success(BIG)}
    )
    assert run.result() == 2 * sum(BIG)
    assert len(run["flaky"].attempts) == 3
    assert RAN == ["total"]


def test_a_header_knows_its_run_but_weakly_and_does_not_take_it_along(finish):
    earlier = finish(chain(), return_tasks=["clean"])
    state = earlier["clean"].state
    assert pickle.loads(pickle.dumps(state)) == state
    assert state == earlier.states["clean"]
    with pytest.raises(exceptions.ResultNotHere):
        _ = state.result


def test_a_signal_of_yesterday_is_nobodys_failure(finish):
    @task
    def skips():
        raise signals.SKIP("nothing new", result=BIG)

    @task(skip_on_upstream_skip=False)
    def reads(x):
        return len(x)

    with Flow("etl") as flow:
        reads(skips())
    earlier = finish(flow, return_tasks=["skips"])
    run = finish(flow, start_tasks=["reads"], task_states=earlier.states)
    assert type(run["skips"].state) is Skipped
    assert run.result() == 1000
