"""Resumed flow runs, from end to end on a cluster in this process."""

from __future__ import annotations

import gc
import logging

import pytest
from fakes.fake_backend import FakeBackend, launched
from fakes.gates import PATIENCE, Gate
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    MissingResult,
    Parameter,
    context,
    exceptions,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.exceptions import NotFinished, OptionError, UnknownTask

#: Too much for a header.
BIG = list(range(1000))


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@task
def extract(rows=None):
    ran(context.slug)
    return list(range(1000)) if rows is None else list(rows)


@task
def clean(rows, by=1):
    ran(context.slug)
    return [row * by for row in rows]


@task
def check(rows, good):
    ran(context.slug)
    if not good:
        raise ValueError("not good")
    return rows


@task
def total(*rows):
    ran(context.slug)
    return sum(map(sum, rows))


@task(trigger=triggers.any_failed, skip_on_upstream_skip=False)
def repair(x):
    ran(context.slug)
    return "repaired"


def etl(*, good, by=1):
    """extract -> clean -> total, and extract -> check -> total."""
    with Flow("etl") as flow:
        rows = extract()
        total(clean(rows, by), check(rows, good))
    return flow


def told(run):
    return [note.text for note in run.notes]


def test_what_succeeded_is_taken_over_and_the_rest_runs(finish):
    first = finish(etl(good=False))
    assert sorted(RAN) == ["check", "clean", "extract"]
    RAN.clear()
    run = finish(etl(good=True), resume=first)
    assert RAN == ["check", "total"]
    assert run.result() == 2 * sum(BIG)
    assert told(run) == ["reuses 2 task runs, runs 2"]
    assert run["clean"].attempts == []
    assert run["clean"].state == first["clean"].state
    assert run.state.message == "reference tasks succeeded"
    # What it has taken over the earlier run has as well, and it is told of nothing.
    assert type(first.state) is states.Failed
    assert told(first) == []


def test_what_is_taken_over_is_let_go_with_its_last_reader(finish):
    first = finish(etl(good=False))
    run = finish(etl(good=True), resume=first)
    for slug in ("extract", "clean", "check"):
        assert not run._driver.channel.holds(run._plan.ids[slug])
        with pytest.raises(exceptions.ResultReleased):
            run.result(slug)
    # The inputs of what had failed are still the earlier run's.
    assert first.result("extract") == BIG
    assert first.result("clean") == BIG


def test_a_run_that_succeeded_runs_nothing_again(finish):
    first = finish(etl(good=True))
    RAN.clear()
    run = finish(etl(good=True), resume=first)
    assert RAN == []
    assert told(run) == ["reuses 4 task runs, runs 0"]
    assert run.result() == first.result()


def test_an_edited_function_or_constant_reruns_nothing_but_what_is_named(finish):
    first = finish(etl(good=True), keep="all")
    RAN.clear()
    edited = etl(good=True, by=3)
    assert finish(edited, resume=first).result() == 2 * sum(BIG)
    assert RAN == []
    run = finish(edited, resume=first, rerun=["clean"])
    assert RAN == ["clean", "total"]
    assert run.result() == 4 * sum(BIG)
    assert told(run) == ["reuses 2 task runs, runs 2"]


def test_a_task_to_rerun_is_named_in_any_way_also_alone(finish):
    flow = etl(good=True)
    first = finish(flow, keep="all")
    (bound,) = flow.get_tasks("clean")
    for rerun in ("clean", clean, bound, ["clean"], (clean,), {bound}, iter(["clean"])):
        RAN.clear()
        finish(flow, resume=first, rerun=rerun)
        assert RAN == ["clean", "total"]
    for nothing in ((), [], None):
        RAN.clear()
        finish(flow, resume=first, rerun=nothing)
        assert RAN == []


# --- results that are gone -----------------------------------------------------------------------


def test_a_result_that_is_gone_is_computed_again_and_so_is_what_that_needs(finish):
    first = finish(etl(good=True))
    RAN.clear()
    run = finish(etl(good=True, by=2), resume=first, rerun=["total"])
    assert sorted(RAN) == ["check", "clean", "extract", "total"]
    assert told(run) == [
        "reuses 0 task runs, runs 1, computes 3 again because their results are gone",
        "computed again, for a result is gone: extract, clean, check",
    ]
    assert run.result() == 3 * sum(BIG)


def test_what_is_gone_and_nobody_reads_stays_gone(finish):
    first = finish(etl(good=True), return_tasks=["clean"])
    RAN.clear()
    # What it is made from is gone, and what it is made into; only `check` is missing.
    run = finish(etl(good=True), resume=first, rerun=["total"])
    assert sorted(RAN) == ["check", "extract", "total"]
    assert told(run)[0] == (
        "reuses 1 task run, runs 1, computes 2 again because their results are gone"
    )


def test_one_that_only_waits_for_another_needs_no_result_of_it(finish):
    @task(trigger=triggers.all_finished)
    def after(good):
        ran(context.slug)
        if not good:
            raise ValueError("no")

    def flow(good):
        with Flow("order") as flow:
            last = after(good, upstream_tasks=[clean(extract())])
            total([1], upstream_tasks=[last])
        return flow

    first = finish(flow(False), keep="none")
    first.release()
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["after", "total"]
    assert told(run) == ["reuses 2 task runs, runs 2"]
    with pytest.raises(exceptions.ResultReleased):
        run.result("clean")


def test_a_result_that_was_fetched_when_the_runner_closed_is_still_to_be_had(finish, backend):
    from dask_taskrunner.keeping import keep_results

    with Flow("two") as flow:
        clean(extract())
        total(check(extract(), good=False))
    first = finish(flow)
    keep_results([first.holder], 100_000_000)
    with Flow("two") as flow:
        clean(extract())
        total(check(extract(), good=True))
    RAN.clear()
    run = finish(flow, resume=first)
    assert sorted(RAN) == ["check", "extract-2", "total"]
    assert run.result("clean") == BIG
    assert told(run)[0].endswith("runs 2, computes 1 again because its result is gone")


def test_what_was_lost_is_computed_again(finish, backend):
    first = finish(etl(good=False))
    channel = backend.channels[first.run_id]
    from dask_taskrunner.machine.events import Loss

    channel.lose(first._plan.ids["clean"], Loss("lost", "its worker is gone"))
    RAN.clear()
    run = finish(etl(good=True), resume=first)
    assert sorted(RAN) == ["check", "clean", "total"]
    assert told(run)[0] == (
        "reuses 1 task run, runs 2, computes 1 again because its result is gone"
    )
    assert run.result() == 2 * sum(BIG)


def test_what_the_cluster_makes_again_by_itself_is_waited_for_and_told(finish, backend):
    first = finish(etl(good=False))
    channel = backend.channels[first.run_id]
    backend.late.append(channel.share(first._plan.ids["clean"]).task)
    RAN.clear()
    run = finish(etl(good=True), resume=first)
    assert RAN == ["check", "total"]
    assert told(run) == [
        "reuses 2 task runs, runs 2",
        "lost with a worker, and made again by Dask: clean",
    ]


def test_small_results_are_never_gone(finish):
    def flow(good):
        with Flow("small") as flow:
            total(check(clean(extract([1, 2])), good))
        return flow

    first = finish(flow(False), keep="none")
    first.release()
    RAN.clear()
    assert finish(flow(True), resume=first).result() == 3
    assert RAN == ["check", "total"]


# --- states --------------------------------------------------------------------------------------


def test_what_watches_failures_is_asked_again(finish):
    def flow(good):
        with Flow("watched") as flow:
            repair(check(extract(), good))
        return flow

    first = finish(flow(False))
    assert first["repair"].result() == "repaired"
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["check"]
    assert type(run["repair"].state) is states.TriggerFailed
    again = finish(flow(True), resume=run)
    # It has not succeeded; asking it again costs nothing.
    assert told(again)[0].startswith("reuses 2 task runs, runs 1")
    assert RAN == ["check"]


def test_a_skip_is_taken_over_unless_something_upstream_runs(finish):
    @task
    def maybe(rows, good):
        ran(context.slug)
        if not good:
            raise signals.SKIP("nothing new")
        return rows

    def flow(good, *, branch):
        with Flow("skips") as flow:
            total(maybe(extract(), branch))
            check([1], good)
        return flow

    first = finish(flow(False, branch=False))
    RAN.clear()
    run = finish(flow(True, branch=True), resume=first)
    assert RAN == ["check"]
    assert type(run["total"].state) is states.Skipped
    assert run["maybe"].state.message == "nothing new"
    RAN.clear()
    run = finish(flow(True, branch=True), resume=first, rerun="extract")
    assert sorted(RAN) == ["check", "extract", "maybe", "total"]
    assert run.result("total") == sum(BIG)


def test_what_was_cancelled_or_never_ran_runs(start, finish):
    gate = Gate("cancelled")

    @task
    def stops(rows):
        gate.pass_through()
        return rows

    with Flow("cancelled") as flow:
        total(stops(extract()))
    first = start(flow)
    gate.wait()
    first.cancel()
    gate.open()
    first.wait(PATIENCE)
    assert type(first["stops"].state) is states.Cancelled
    RAN.clear()
    run = finish(flow, resume=first)
    assert RAN == ["total"]
    assert run.result() == sum(BIG)
    assert told(run) == ["reuses 1 task run, runs 2"]


def test_what_paused_runs_again(finish):
    @task(trigger=triggers.manual_only)
    def asks(rows):
        return rows

    def flow(trigger):
        with Flow("asks") as flow:
            total(asks(extract(), task_args={"trigger": trigger}))
        return flow

    first = finish(flow(triggers.manual_only))
    assert type(first.state) is states.Paused
    RAN.clear()
    run = finish(flow(triggers.all_successful), resume=first)
    assert RAN == ["total"]
    assert run.result() == sum(BIG)


def test_a_looped_task_is_taken_over_or_run_as_a_whole(finish):
    @task
    def loops(rows):
        ran(f"loop {context.task_loop_count}")
        if context.task_loop_count < 3:
            raise signals.LOOP(result=context.task_loop_count)
        return rows

    def flow(good):
        with Flow("loops") as flow:
            check(loops(extract()), good)
        return flow

    first = finish(flow(False))
    RAN.clear()
    assert finish(flow(True), resume=first).result() == BIG
    assert RAN == ["check"]
    RAN.clear()
    assert finish(flow(True), resume=first, rerun=[loops]).result() == BIG
    # What it reads was let go when it had ended.
    assert RAN == ["extract", "loop 1", "loop 2", "loop 3", "check"]


# --- edited flows --------------------------------------------------------------------------------


def test_a_new_task_runs_and_all_behind_it(finish):
    first = finish(etl(good=True), keep="all")
    with Flow("etl") as flow:
        rows = extract()
        total(clean(rows), check(rows, True), extract([1], task_args={"name": "more"}))
    RAN.clear()
    run = finish(flow, resume=first)
    assert sorted(RAN) == ["more", "total"]
    assert run.result() == 2 * sum(BIG) + 1


def test_who_reads_another_task_than_it_did_runs_again(finish):
    @task
    def difference(a, b):
        ran(context.slug)
        return sum(a) - sum(b)

    def flow(*, swapped):
        with Flow("two") as flow:
            a, b = extract(), extract([1] * 1000)
            difference(b, a) if swapped else difference(a, b)
        return flow

    first = finish(flow(swapped=False), keep="all")
    RAN.clear()
    run = finish(flow(swapped=True), resume=first)
    assert RAN == ["difference"]
    assert run.result() == -first.result()


def test_a_task_that_became_mapped_runs_again(finish):
    def flow(*, mapped):
        with Flow("two") as flow:
            rows = extract()
            check.map(rows, good=True) if mapped else check(rows, True)
        return flow

    first = finish(flow(mapped=False), keep="all")
    RAN.clear()
    with pytest.raises(exceptions.ArgumentError):
        finish(flow(mapped=True), resume=first)


def test_what_is_mapped_over_now_and_was_not_is_made_again_as_a_list(finish):
    def flow(*, mapped):
        with Flow("mapped") as flow:
            rows = extract()
            total(rows)
            if mapped:
                total.map(rows, task_args={"name": "each"})
        return flow

    first = finish(flow(mapped=False), keep="all")
    RAN.clear()
    run = finish(flow(mapped=True), resume=first)
    assert RAN[0] == "extract"
    assert told(run)[0] == (
        "reuses 1 task run, runs the children of each, computes 1 again because its result is gone"
    )


# --- parameters ----------------------------------------------------------------------------------


def with_parameters(*, good=True):
    with Flow("etl") as flow:
        by = Parameter("by", default=1)
        Parameter("unused", default=0)
        day = Parameter("day")
        rows = extract()
        total(clean(rows, by), check(rows, good), extract([day]))
    return flow


def test_a_parameter_without_a_value_keeps_that_of_the_earlier_run(finish):
    first = finish(with_parameters(good=False), parameters={"by": 5, "day": 7})
    RAN.clear()
    run = finish(with_parameters(), resume=first)
    assert run.parameters == {"by": 5, "unused": 0, "day": 7}
    assert RAN == ["check", "total"]
    assert run.result() == 6 * sum(BIG) + 7


def test_a_changed_parameter_reruns_what_takes_it_and_all_behind_that(finish):
    first = finish(with_parameters(), parameters={"day": 7}, keep="all")
    RAN.clear()
    run = finish(with_parameters(), parameters={"by": 2, "unused": 1}, resume=first)
    assert RAN == ["clean", "total"]
    assert run.result() == 3 * sum(BIG) + 7
    RAN.clear()
    finish(with_parameters(), parameters={"by": 1, "day": 7}, resume=first)
    assert RAN == []


def test_values_of_parameters_are_compared_by_tokens_and_what_has_none_has_changed(finish):
    class Bad:
        def __dask_tokenize__(self):
            raise ValueError("no token")

        def __eq__(self, other):
            raise AssertionError("somebody compared it")

        __hash__ = None

    with Flow("etl") as flow:
        extract(Parameter("rows"))
    first = finish(flow, parameters={"rows": [1, 2]})
    RAN.clear()
    finish(flow, parameters={"rows": [1, 2]}, resume=first)
    assert RAN == []
    with Flow("etl") as flow:
        bad = Parameter("bad")
        clean([1], 1, upstream_tasks=[check(bad, True)])
    bad = Bad()
    first = finish(flow, parameters={"bad": bad})
    RAN.clear()
    finish(flow, parameters={"bad": bad}, resume=first)
    assert RAN == []
    finish(flow, parameters={"bad": Bad()}, resume=first)
    assert RAN == ["check", "clean"]


# --- flows in flows, growth ----------------------------------------------------------------------


def test_a_flow_that_is_used_as_a_task_is_rerun_by_its_name(finish):
    with Flow("prep") as prep:
        clean(extract(Parameter("rows", default=BIG)))
    with Flow("outer") as outer:
        check(prep.as_task()(), True)
    first = finish(outer, keep="all")
    RAN.clear()
    finish(outer, resume=first, rerun=["prep"])
    assert RAN == ["prep/extract", "prep/clean", "check"]
    RAN.clear()
    finish(outer, resume=first, rerun=["prep/clean"])
    assert RAN == ["prep/clean", "check"]


def grown(result, *, good=True):
    from dask_taskrunner import expand

    @task
    def grows():
        ran(context.slug)
        with Flow("inner") as inner:
            first = extract(task_args={"name": "inside"})
            if result == "one":
                clean(first)
            elif result == "map":
                clean.map([[1] * 1000, [2] * 1000])
            else:
                clean(first)
                clean(first)
        return expand(inner.tasks[-1] if result == "map" else inner)

    @task
    def reads(rows, good):
        ran(context.slug)
        if not good:
            raise ValueError("no")
        return rows

    with Flow("grows") as flow:
        reads(grows(), good)
        extract([1])
    return flow


def test_a_task_that_had_grown_is_taken_over_with_its_result(finish):
    first = finish(grown("one", good=False))
    RAN.clear()
    run = finish(grown("one"), resume=first)
    assert RAN == ["reads"]
    assert run.result("reads") == BIG
    assert len(run["grows"].children) == 0
    assert told(run) == ["reuses 2 task runs, runs 1"]


@pytest.mark.parametrize("result", ["map", "several"])
def test_one_of_whose_result_others_have_the_parts_grows_again_for_who_reads_it(finish, result):
    first = finish(grown(result, good=False))
    RAN.clear()
    run = finish(grown(result), resume=first)
    assert RAN[0] == "grows"
    assert RAN[-1] == "reads"
    assert told(run)[0] == (
        "reuses 1 task run, runs 1, computes 1 again because its result is gone"
    )
    assert run.state.is_successful()
    # Where nobody does, it is what it was.
    RAN.clear()
    again = finish(grown(result), resume=run, rerun=["extract"])
    assert RAN == ["extract"]
    assert again["grows"].state.is_successful()


def test_what_failed_inside_grows_again_as_a_whole(finish):
    from dask_taskrunner import expand

    def flow(good):
        @task
        def grows():
            ran(context.slug)
            with Flow("inner") as inner:
                check(extract(), good)
            return expand(inner)

        with Flow("grows") as flow:
            total(grows())
        return flow

    first = finish(flow(False), keep="all")
    assert first["grows/extract"].state.is_successful()
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["grows", "grows/extract", "grows/check", "total"]
    assert told(run) == ["reuses 0 task runs, runs 2"]


# --- what cannot be ------------------------------------------------------------------------------


def test_a_run_that_goes_on_cannot_be_resumed(start, backend):
    gate = Gate("goes on")

    @task
    def waits():
        gate.pass_through()

    with Flow("goes on") as flow:
        waits()
    first = start(flow)
    gate.wait()
    with pytest.raises(NotFinished, match="'nightly' is still running"):
        start(flow, resume=first)
    gate.open()
    first.wait(PATIENCE)
    assert start(flow, resume=first).wait(PATIENCE).state.is_successful()


def test_a_run_of_another_cluster_cannot_be_resumed(finish):
    first = finish(etl(good=True))
    other = FakeBackend()
    with pytest.raises(OptionError, match="of another cluster, or of another Dask client"):
        launched(other, etl(good=True), resume=first)
    assert other.channels == {}
    other.close()


def test_without_a_runner_no_cluster_is_started_for_what_cannot_be(finish, monkeypatch):
    from dask_taskrunner.dask_backend import connecting

    monkeypatch.setattr(connecting, "LocalCluster", None)
    first = finish(etl(good=True))
    with pytest.raises(OptionError, match="by the same runner"):
        etl(good=True).run(resume=first)


def test_of_a_lost_cluster_what_its_record_has_is_taken_over(start, backend):
    gate = Gate("lost cluster")

    @task
    def waits(n, rows):
        gate.pass_through()
        return sum(rows) + n

    @task
    def small():
        ran(context.slug)
        return 5

    with Flow("lost") as flow:
        waits(small(), extract())
    first = start(flow)
    gate.wait()
    backend.channels[first.run_id].lose_cluster()
    with pytest.raises(exceptions.ClusterLost):
        first.wait(PATIENCE)
    gate.open()
    RAN.clear()
    other = FakeBackend()
    other.workers = backend.workers
    try:
        run = launched(backend, flow, resume=first)
        run.wait(PATIENCE)
        assert run.result() == sum(BIG) + 5
        assert RAN == ["extract"]
        assert told(run)[0] == (
            "reuses 1 task run, runs 1, computes 1 again because its result is gone"
        )
    finally:
        other.close()


def test_options_that_do_not_go_together_say_so(start, finish):
    first = finish(etl(good=True))
    flow = etl(good=True)
    for options, text in [
        ({"rerun": ["clean"]}, "needs resume=run"),
        ({"resume": "nightly"}, "must be an earlier FlowRun, not 'nightly'"),
        ({"resume": first, "start_tasks": ["clean"]}, "do not go with it"),
        ({"resume": first, "task_states": {}}, "do not go with it"),
    ]:
        with pytest.raises(OptionError, match=text):
            start(flow, **options)
    with pytest.raises(UnknownTask, match="no task 'clear'"):
        start(flow, resume=first, rerun=["clear"])
    with pytest.raises(UnknownTask, match="'clean' had no children"):
        start(flow, resume=first, rerun=["clean[0]"])


def test_a_resumed_run_is_resumed_like_any_other(finish):
    first = finish(etl(good=False))
    second = finish(etl(good=False), resume=first)
    assert type(second.state) is states.Failed
    del first
    gc.collect()
    RAN.clear()
    third = finish(etl(good=True), resume=second)
    assert RAN == ["check", "total"]
    assert third.result() == 2 * sum(BIG)
    assert told(third) == ["reuses 2 task runs, runs 2"]


def test_what_is_said_first_is_also_logged(finish, caplog):
    first = finish(etl(good=True))
    caplog.set_level(logging.INFO, "dask_taskrunner")
    finish(etl(good=True), resume=first)
    assert caplog.messages[0] == "nightly: reuses 4 task runs, runs 0"


def test_a_cached_result_spares_no_task_that_is_to_run_again(finish, backend):
    from datetime import timedelta

    from dask_taskrunner.result_cache import ResultCache

    cache = ResultCache(backend)
    with Flow("cached") as flow:
        clean(extract(), task_args={"cache_for": timedelta(hours=1)})
    first = finish(flow, cache=cache, keep="all")
    RAN.clear()
    finish(flow, cache=cache, resume=first, rerun="clean")
    assert RAN == ["clean"]
    cache.close()


def test_missing_results_of_failures_are_not_taken_over(finish):
    @task(trigger=triggers.all_finished)
    def look(x):
        ran(context.slug)
        return repr(x) if isinstance(x, MissingResult) else len(x)

    def flow(good):
        with Flow("looks") as flow:
            look(check(extract(), good))
        return flow

    first = finish(flow(False))
    RAN.clear()
    # It succeeded, with what it saw of the failure.
    run = finish(flow(True), resume=first)
    assert RAN == ["check", "look"]
    assert run.result("look") == 1000
