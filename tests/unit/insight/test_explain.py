"""Why a task run is as it is, in a run that has ended: the root cause first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dask_taskrunner import Flow, UnknownTask, case, context, expand, signals, task, triggers
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes


@task
def a():
    return [1, 2, 3]


@task(max_retries=1, retry_delay=60)
def b(x):
    if x == 2:
        raise ValueError("negative price")
    return x


@task
def c(*xs):
    return 1


@task
def bad(*xs):
    raise ValueError("negative price")


def explained(flow, task, *faults, **options):
    return InProcessRunner(*faults, **options).run(flow).explain(task)


def reasons(explanation):
    return [(one.kind, one.task_run) for one in explanation.reasons]


def test_what_failed_by_itself_is_its_own_root_cause():
    with Flow("etl") as flow:
        bad()
    why = explained(flow, "bad")
    assert (why.slug, why.state) == ("bad", "Failed")
    assert [tuple(one) for one in why.reasons] == [
        ("failed", "bad", "bad failed (attempt 1, in-process://0): ValueError: negative price")
    ]
    assert why.root_cause is why.reasons[0]
    assert why.again == ()


def test_what_did_not_run_is_told_from_the_root_cause_down():
    with Flow("etl") as flow:
        middle = c(bad(a()))
        c(c(middle), a())
    why = explained(flow, "c-3")
    assert reasons(why) == [
        ("failed", "bad"), ("trigger", "c"), ("trigger", "c-2"), ("trigger", "c-3"),
    ]  # fmt: skip
    assert why.reasons[-1].text == (
        "c-3 was not run: all_successful: 1 of 2 upstream runs were not successful "
        "(1 TriggerFailed)"
    )


def test_a_failed_child_is_the_root_cause_of_what_reads_all():
    with Flow("etl") as flow:
        c(c(b.map(a())))
    why = explained(flow, "c-2")
    assert reasons(why) == [("failed", "b[1]"), ("trigger", "c"), ("trigger", "c-2")]
    parent = explained(flow, b)
    assert reasons(parent) == [("failed", "b[1]"), ("parts", "b")]
    assert parent.reasons[-1].text == "b: 1 of 3 did not succeed: b[1]"
    assert reasons(explained(flow, "b[1]")) == [("failed", "b[1]")]


def test_a_trigger_that_asks_for_failures_has_no_root_cause_but_itself():
    @task(trigger=triggers.all_failed)
    def rescue(x):
        pass

    with Flow("etl") as flow:
        rescue(a())
    why = explained(flow, "rescue")
    (reason,) = why.reasons
    assert reason == (
        "trigger",
        "rescue",
        "rescue was not run: all_failed: 1 of 1 upstream runs did not fail (1 Success)",
    )


def test_a_skip_is_told_from_the_branch_that_was_not_taken():
    with Flow("etl") as flow:
        count = c(a())
        with case(count, 0):
            c(c())
    why = explained(flow, "c-3")
    assert [one.kind for one in why.reasons] == ["skipped", "upstream-skipped", "upstream-skipped"]
    assert "1 is not 0" in why.root_cause.text
    assert why.reasons[-1].text == "c-3 was skipped: c-2 was skipped"


def test_a_task_that_skips_itself_says_why():
    @task
    def skips():
        raise signals.SKIP("no news today")

    with Flow("etl") as flow:
        c(skips())
    why = explained(flow, "c")
    assert reasons(why) == [("skipped", "skips"), ("upstream-skipped", "c")]
    assert why.root_cause.text == "skips skipped itself: no news today"


def test_a_skipped_child_is_the_reason_where_all_were():
    @task
    def skips(x):
        raise signals.SKIP("no news today")

    with Flow("etl") as flow:
        c(skips.map(a()))
    assert reasons(explained(flow, "c")) == [("skipped", "skips[0]"), ("upstream-skipped", "c")]


def test_what_timed_out_and_what_crashed_say_so():
    @task(timeout=5)
    def slow():
        pass

    with Flow("etl") as flow:
        slow()
        c()
    run = InProcessRunner(
        takes("slow", 9),
        kill_worker("c"),
        kill_worker("c", attempt=2),
        task_defaults={"max_crash_retries": 1},
    ).run(flow)
    assert run.explain("slow").root_cause.kind == "timed-out"
    crashed = run.explain("c")
    assert crashed.root_cause.kind == "crashed"
    assert crashed.root_cause.text.startswith("c crashed: its worker died")
    assert [one.kind for one in crashed.again] == ["lost"]


def test_what_was_given_was_not_run_here():
    with Flow("etl") as flow:
        c(a())
    first = InProcessRunner().run(flow, keep="all")
    state = first["a"].state.copy_with(result=[1])
    why = InProcessRunner().run(flow, task_states={"a": state}).explain("a")
    assert [one.kind for one in why.reasons] == ["given"]
    assert why.time == ()
    outside = InProcessRunner().run(flow, start_tasks=["c"], task_states={"a": state})
    assert outside.explain("c").root_cause.kind == "succeeded"


def test_what_is_not_part_of_a_run_says_so():
    with Flow("etl") as flow:
        c(a())
        bad()
    run = InProcessRunner().run(flow, start_tasks=["a"])
    why = run.explain("bad")
    assert [tuple(one) for one in why.reasons] == [
        ("outside", "bad", "bad is not part of this run")
    ]


def test_a_cached_result_says_so():
    @task(cache_for=timedelta(hours=1))
    def cached():
        return 1

    with Flow("etl") as flow:
        cached()
    with InProcessRunner() as runner:
        assert runner.run(flow).explain("cached").root_cause.kind == "succeeded"
        assert runner.run(flow).explain("cached").root_cause.kind == "cached"


def test_what_was_cancelled_with_the_run_says_so():
    from fakes.gates import Gate

    gate = Gate("insight cancels")

    @task
    def waits():
        gate.pass_through()

    with Flow("etl") as flow:
        c(waits())
    with InProcessRunner() as runner:
        run = runner.start(flow)
        gate.wait()
        run.cancel()
        gate.open()
        run.wait()
    why = run.explain("c")
    assert [tuple(one) for one in why.reasons] == [
        ("cancelled", "c", "c was cancelled: cancelled by the user")
    ]


def test_what_somebody_rejected_says_so():
    @task(trigger=triggers.manual_only)
    def by_hand():
        pass

    with Flow("etl") as flow:
        c(by_hand())
    with InProcessRunner() as runner:
        run = runner.run(flow)
        why = run.explain("c")
        assert reasons(why) == [("paused", "by_hand"), ("waits", "c")]
        assert why.root_cause.text.endswith("run.approve('by_hand') lets it go on")
        run.reject("by_hand")
        assert reasons(run.explain("c")) == [("rejected", "by_hand"), ("upstream-skipped", "c")]


def test_inside_of_what_has_grown_the_root_cause_is_the_run_that_failed():
    @task
    def grows():
        with Flow("inner") as inner:
            c(bad())
        return expand(inner)

    with Flow("etl") as flow:
        c(grows())
    why = explained(flow, "c")
    assert why.root_cause.task_run == "grows/bad"
    assert why.reasons[-1].kind == "trigger"
    whole = explained(flow, "grows")
    assert reasons(whole) == [("failed", "grows/bad"), ("parts", "grows")]


def test_a_flow_used_as_a_task_is_explained_by_what_failed_in_it():
    with Flow("prep") as prep:
        c(bad())
    with Flow("etl") as flow:
        c(prep.as_task()())
    run = InProcessRunner().run(flow)
    why = run.explain("prep")
    assert why.state == "Failed"
    assert reasons(why) == [("failed", "prep/bad"), ("parts", "prep")]
    well = InProcessRunner().run(flow.copy()).explain("c")
    assert well.root_cause.task_run == "prep/bad"


def test_a_flow_used_as_a_task_that_succeeded_says_so():
    with Flow("prep") as prep:
        c()
    with Flow("etl") as flow:
        c(prep.as_task()())
    why = explained(flow, "prep")
    assert [tuple(one) for one in why.reasons] == [
        ("parts", "prep", "prep came to this: 1 Success")
    ]


# --- why it ran more than once -------------------------------------------------------------------


def test_a_retry_says_what_the_attempt_before_ended_with():
    with Flow("etl") as flow:
        b(1)
    why = explained(flow, "b", fail("b", attempts=1, error=ConnectionError("no route")))
    assert [tuple(one) for one in why.again] == [
        ("retried", "b", "attempt 1 ended with ConnectionError: no route, and was retried")
    ]


def test_a_lost_worker_is_the_reason_of_what_ran_again_with_it():
    with Flow("etl") as flow:
        b(a())
    run = InProcessRunner(kill_worker("b")).run(flow)
    (lost,) = run.explain("b").again
    assert lost.kind == "lost"
    assert "attempt 1 was lost with its worker in-process://0" in lost.text
    (again,) = run.explain("a").again
    assert again.kind == "made-again"
    assert again.text == (
        "attempt 1 had succeeded on in-process://0, and what it made was lost: "
        "it was executed again on in-process://1"
    )


def test_each_iteration_and_each_approval_is_told():
    @task
    def loop():
        if context.task_loop_count < 3:
            raise signals.LOOP(result=1)

    @task
    def pauses():
        if context.attempt == 1:
            raise signals.PAUSE("look first")

    with Flow("etl") as flow:
        loop()
        pauses()
    with InProcessRunner() as runner:
        run = runner.run(flow)
        run.approve("pauses")
    assert [one.kind for one in run.explain("loop").again] == ["looped", "looped"]
    assert [one.kind for one in run.explain("pauses").again] == ["approved"]


def test_of_many_children_that_ran_again_the_first_few_are_told():
    with Flow("etl") as flow:
        c.with_options(max_retries=1, retry_delay=1).map([*range(9)])
    why = explained(flow, "c", fail("c", attempts=1))
    assert [one.task_run for one in why.again] == ["c[0]", "c[1]", "c[2]", "c"]
    assert why.again[0].text.startswith("attempt 1 of c[0] ended with")
    assert why.again[-1].text == "6 more task runs inside it did, too"


# --- why it is slow ------------------------------------------------------------------------------


def test_what_took_longest_comes_first():
    with Flow("etl") as flow:
        c(b(1))
    why = explained(flow, "b", takes("b", 2), fail("b", attempts=1))
    assert [one.kind for one in why.time] == ["delayed", "running"]
    assert why.spent == pytest.approx(
        {"running": 4, "delayed": 60, "queued": 0, "fetching": 0, "overhead": 0}
    )


def test_a_child_that_took_much_longer_than_its_siblings_says_so():
    with Flow("etl") as flow:
        c.map([*range(6)])
    faults = takes("c[4]", 9), takes("c", 1)
    why = explained(flow, "c[4]", *faults, workers=6)
    assert why.time[-1] == (
        "longer", "c[4]", "the middle one of its 5 siblings ran for 1.0 s",
    )  # fmt: skip
    assert [one.kind for one in explained(flow, "c[3]", *faults, workers=6).time] == ["running"]
    whole = explained(flow, "c", *faults, workers=6)
    assert [one.kind for one in whole.time] == ["parts", "running", "longer"]
    assert whole.time[0].text == "c[4] ended last of what is inside"


def test_among_few_children_none_is_the_rule():
    with Flow("etl") as flow:
        c.map([*range(3)])
    why = explained(flow, "c[2]", takes("c[2]", 9), takes("c", 1), workers=3)
    assert [one.kind for one in why.time] == ["running"]


def test_what_waited_for_a_place_says_so():
    with Flow("etl") as flow:
        c()
        c()
    why = explained(flow, "c-2", takes("c", 30), takes("c-2", 1))
    assert [one.kind for one in why.time] == ["queued", "running"]
    assert why.time[0].text == "30.0 s waiting for a place on a worker"


# --- in words ------------------------------------------------------------------------------------


def test_in_words_it_begins_with_the_root_cause():
    with Flow("etl") as flow:
        c(b.map(a()))
    run = InProcessRunner(takes("b", 2)).run(flow)
    assert str(run.explain("c")).splitlines() == [
        "c is TriggerFailed",
        "  b[1] failed (attempt 2, in-process://0): ValueError: negative price",
        "  c was not run: all_successful: 1 of 3 upstream runs were not successful (1 Failed)",
        (
            "what to do: see run['b[1]'].logs and its state's traceback; once it is mended, "
            "runner.run(flow, resume=run) runs what is left"
        ),
    ]
    assert str(run.explain("b[1]")).splitlines()[2:] == [
        "it ran more than once",
        "  attempt 1 ended with ValueError: negative price, and was retried",
        "it took 1 min 06 s",
        "  1 min 00 s waiting for a retry or an approval",
        "  4.0 s running",
        "  2.0 s waiting for a place on a worker",
        (
            "what to do: see run['b[1]'].logs and its state's traceback; once it is mended, "
            "runner.run(flow, resume=run) runs what is left"
        ),
    ]


def test_a_task_that_is_none_of_the_run_is_an_error():
    with Flow("etl") as flow:
        a()
    with pytest.raises(UnknownTask, match="nobody"):
        explained(flow, "nobody")
