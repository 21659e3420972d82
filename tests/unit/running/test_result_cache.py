"""What the runs of one runner take over from each other, on a cluster in this process."""

from __future__ import annotations

import gc
import time
import weakref
from datetime import timedelta

import pytest
from fakes.ran import RAN, ran

from dask_taskrunner import Flow, Parameter, cache_validators, context, result_cache, states, task
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.result_cache import ResultCache

HOUR = timedelta(hours=1)
BIG = list(range(1000))


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@pytest.fixture
def cache(backend):
    return ResultCache(backend)


@pytest.fixture
def run(finish, cache):
    """Run a flow to its end, as the same runner would."""

    def run(flow, **options):
        return finish(flow, **({"cache": cache} | options))

    return run


@task(cache_for=HOUR)
def clean(rows):
    ran("clean")
    return [*rows, len(BIG)] * 10


@task
def total(rows):
    return sum(rows)


def flow_of(cleaning=clean, rows=None):
    with Flow("etl") as flow:
        total(cleaning(BIG if rows is None else rows))
    return flow


def test_the_next_run_takes_the_result_of_the_last_one(run):
    first = run(flow_of())
    second = run(flow_of())
    assert RAN == ["clean"]
    assert second.result() == first.result()
    state = second["clean"].state
    assert (type(state), state.message) == (states.Success, "cached result")
    assert second["clean"].attempts == []


def test_a_small_result_is_kept_although_its_future_is_let_go_at_once(run):
    @task(cache_for=HOUR)
    def one():
        ran("one")
        return 1

    with Flow("small") as flow:
        one()
    assert [run(flow, keep="none").state.is_successful() for _ in range(3)] == [True] * 3
    assert RAN == ["one"]


def test_a_hit_keeps_the_result_that_was_made(run, cache):
    """Else each hit would stand behind the one before, for as long as there are hits."""
    run(flow_of())
    (entry,) = cache._entries.values()
    run(flow_of())
    assert list(cache._entries.values()) == [entry]


def test_other_inputs_are_a_miss_and_the_newest_result_counts(run, cache):
    for rows in ([1], [2], [2], [1]):
        run(flow_of(rows=rows))
    assert len(RAN) == 3
    assert len(cache) == 1


@pytest.mark.parametrize(
    ("validator", "hits"),
    [
        (cache_validators.all_inputs, {"day", "nothing"}),
        (cache_validators.all_parameters, {"rows", "nothing"}),
        (cache_validators.duration_only, {"rows", "day", "nothing"}),
        (cache_validators.never_use, set()),
        (cache_validators.partial_inputs_only(["rows"]), {"day", "nothing"}),
        (cache_validators.partial_inputs_only(), {"rows", "day", "nothing"}),
        (cache_validators.partial_parameters_only("day"), {"rows", "nothing"}),
        (cache_validators.partial_parameters_only("other"), {"rows", "day", "nothing"}),
        (lambda state, inputs, parameters: inputs["rows"] == [3], {"rows"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("change", ["rows", "day", "nothing"])
def test_validators_see_what_was_and_what_is(run, validator, hits, change):
    @task(cache_for=HOUR, cache_validator=validator)
    def made(rows):
        ran("made")
        return rows

    def flow(rows):
        with Flow("etl") as flow:
            Parameter("day")
            made(rows)
        return flow

    run(flow([1]), parameters={"day": 1})
    run(flow([3] if change == "rows" else [1]), parameters={"day": 2 if change == "day" else 1})
    assert len(RAN) == (1 if change in hits else 2)


def test_a_result_is_let_go_when_it_expires(run, cache, backend, monkeypatch):
    run(flow_of())
    ((seconds, purge),) = backend.timers
    assert 3590 < seconds <= 3600
    purge()
    assert len(cache) == 1
    later = time.time() + 3601
    monkeypatch.setattr(result_cache.time, "time", lambda: later)
    purge()
    assert len(cache) == 0


def test_an_expired_result_is_not_even_offered(run, cache, monkeypatch):
    run(flow_of())
    later = time.time() + 3601
    with monkeypatch.context() as patch:
        patch.setattr(result_cache.time, "time", lambda: later)
        assert cache._share(next(iter(cache._entries))) is None
    run(flow_of())
    assert len(RAN) == 2


def test_a_timer_does_not_keep_a_cache(backend):
    other = ResultCache(backend)
    other.take(("clean", "digest"), None, time.time() + 5)
    reference = weakref.ref(other)
    del other
    gc.collect()
    assert reference() is None
    ((_, call),) = backend.timers
    call()


def test_edited_code_is_a_miss_and_the_same_code_is_a_hit(run):
    def make(factor):
        @task(name="clean", cache_for=HOUR)
        def clean(rows):
            ran("clean")
            return [row * factor for row in rows]

        return clean

    assert run(flow_of(make(1))).result() == sum(BIG)
    assert run(flow_of(make(2))).result() == 2 * sum(BIG)
    assert run(flow_of(make(1))).result() == sum(BIG)
    assert len(RAN) == 2


def test_another_slug_is_another_result(run):
    with Flow("twice") as flow:
        clean(BIG)
        clean(BIG)
    run(flow)
    run(flow)
    assert len(RAN) == 2


def test_a_cleared_cache_offers_nothing(run, cache):
    run(flow_of())
    cache.clear()
    run(flow_of())
    assert len(RAN) == 2
    assert len(cache) == 1


def test_a_closed_cache_takes_nothing(run, cache):
    cache.close()
    run(flow_of())
    assert len(cache) == 0


def test_a_lost_result_is_made_anew(run, cache):
    first = run(flow_of(), keep="all")
    first._driver.channel.lose(first._plan.ids["clean"], Loss("killed", "worker died"))
    run(flow_of())
    assert len(RAN) == 2
    assert len(cache) == 1


def test_failures_skips_and_what_is_given_are_not_kept(run, cache):
    from dask_taskrunner import signals

    @task(cache_for=HOUR)
    def skips():
        raise signals.SKIP("nothing to do")

    @task(cache_for=HOUR)
    def fails():
        raise ValueError("no")

    with Flow("bad") as flow:
        skips()
        fails()
    run(flow)
    run(flow_of(), task_states={"clean": states.Success([1])})
    assert len(cache) == 0


def test_a_state_that_the_user_gives_comes_first(run, cache):
    run(flow_of())
    given = states.CachedState(cached_result=[7], cached_inputs={"rows": BIG})
    assert run(flow_of(), task_states={"clean": given}).result() == 7
    assert run(flow_of(), task_states={"clean": states.Pending()}).state.is_successful()
    assert len(RAN) == 2


def test_what_is_started_in_the_middle_runs_from_the_beginning(run):
    run(flow_of())
    run(flow_of(), start_tasks=["clean"])
    assert len(RAN) == 2
    # Its result is kept all the same.
    run(flow_of())
    assert len(RAN) == 2


def test_a_retry_and_a_trigger_come_as_without_a_cache(run):
    @task(cache_for=HOUR, max_retries=1, retry_delay=0)
    def flaky(rows):
        ran("flaky")
        if context.task_run_number == 1:
            raise ValueError("not yet")
        return rows

    run(flow_of(flaky))
    assert RAN == ["flaky", "flaky"]
    run(flow_of(flaky))
    assert RAN == ["flaky", "flaky"]


def refuse():
    raise ZeroDivisionError


class Trap:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return refuse, ()


def test_a_result_that_cannot_be_opened_is_no_reason_not_to_run(run):
    @task(cache_for=HOUR)
    def made():
        ran("made")
        return Trap()

    with Flow("trap") as flow:
        made()
    for _ in range(2):
        assert run(flow).state.is_successful()
    assert len(RAN) == 2


def test_a_plan_without_cache_for_is_left_alone(run, cache, backend):
    from dask_taskrunner.packing import Packer
    from dask_taskrunner.planning import plan_flow

    with Flow("none") as flow:
        total([1])
    plan = plan_flow(
        flow, {}, task_defaults={}, keep="all", return_tasks=None, packer=Packer()
    )  # fmt: skip
    assert cache.of_run(backend, offers=True).begin(plan) == (plan, {})


def test_each_child_of_a_mapped_task_takes_its_own(run):
    @task(cache_for=HOUR)
    def half(x):
        ran(x)
        return [x / 2] * 1000

    def flow(xs):
        with Flow("mapped") as flow:
            half.map(xs)
        return flow

    first = run(flow([1, 2, 3]), keep="all")
    second = run(flow([1, 5, 3, 4]), keep="all")
    # One has another input, and one is new.
    assert sorted(RAN) == [1, 2, 3, 4, 5]
    assert [r[0] for r in second.result()] == [0.5, 2.5, 1.5, 2.0]
    assert second["half[0]"].state.message == "cached result"
    assert first.result()[2] == second.result()[2]
    assert [r[0] for r in run(flow([1]), keep="all").result()] == [0.5]
    assert len(RAN) == 5
