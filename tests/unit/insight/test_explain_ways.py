"""From a task run to its root cause, however long the way is; and what is shown of it."""

from __future__ import annotations

import pytest
from fakes.machine_story import WALL, Story
from fakes.mapped_plans import Over
from fakes.random_flows import make_plan

from dask_taskrunner import Flow, signals, task
from dask_taskrunner.insight.durations import time_of
from dask_taskrunner.insight.explanations import Explanation, Reason
from dask_taskrunner.insight.pending import Moment
from dask_taskrunner.insight.readings import node_id, read
from dask_taskrunner.insight.reasons import reasons_for
from dask_taskrunner.insight.repeats import repeats_of
from dask_taskrunner.placement import Need, WorkerView
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes

#: More than Python's stack has room for.
LONG = 1200


@task
def load():
    return [1, 2, 3]


@task
def step(*xs):
    return 1


@task
def bad(*xs):
    raise ValueError("negative price")


def why(story, n, **known):
    moment = Moment(WALL + story.now, story.machine.final, **known)
    return reasons_for(story.record(n), story.machine.records, moment)


def chain(length):
    return Story({0: (), **{n: (n - 1,) for n in range(1, length)}})


# --- long ways -----------------------------------------------------------------------------------


def test_a_long_chain_of_what_waits_comes_down_to_what_runs():
    story = chain(LONG)
    story.starts()
    story.begins(0, "w7")
    found = why(story, LONG - 1)
    assert len(found) == LONG
    assert [one.kind for one in found[:2]] == ["running", "waits"]
    assert found[-1].text == f"t{LONG - 1} waits for t{LONG - 2}"


def test_a_long_chain_of_skips_comes_down_to_the_first():
    with Flow("etl") as flow:
        x = task(_skips, name="skips")()
        for _ in range(LONG):
            x = step(x)
    found = InProcessRunner().run(flow).explain(f"step-{LONG}").reasons
    assert len(found) == LONG + 1
    assert found[0].text == "skips skipped itself: no news today"


def _skips():
    raise signals.SKIP("no news today")


@pytest.mark.timeout(30)
def test_each_link_of_a_failed_chain_is_told_once():
    # It took twice as long with each link, so that a minute was too short for 25 of them.
    with Flow("etl") as flow:
        x = bad()
        for _ in range(60):
            x = step(x)
    found = InProcessRunner().run(flow).explain("step-60").reasons
    assert [one.task_run for one in found[:3]] == ["bad", "step", "step-2"]
    assert len(found) == 61


def test_of_many_reasons_the_ends_are_shown():
    reasons = tuple(Reason("waits", f"t{n}", f"t{n} waits") for n in range(50))
    lines = str(Explanation("t49", "Pending", reasons)).splitlines()
    assert len(lines) == 22
    assert lines[1:3] == ["  t0 waits", "  t1 waits"]
    assert lines[11] == "  ... 30 more"
    assert lines[-1] == "  t49 waits"


def test_what_was_raised_in_several_lines_stays_within_its_reason():
    reason = Reason("failed", "t", "t failed: ValueError: a\nb")
    told = str(Explanation("t", "Failed", (reason,))).splitlines()
    assert told[:3] == ["t is Failed", "  t failed: ValueError: a", "    b"]


# --- what is asked of the workers ----------------------------------------------------------------


def needs(**resources):
    """Return what needs which resource, by the names of task runs."""
    return lambda _, slug: Need(slug, resources.get(slug), None)


def asked(*views):
    calls = []

    def look():
        calls.append(None)
        return list(views)

    return look, calls


def test_what_no_worker_suits_says_so_although_others_run():
    story = Story({0: (), 1: ()})
    story.starts()
    story.begins(1, "w7")
    look, calls = asked(WorkerView("w7", "w7", 2, {}, 1))
    found = why(story, 0, look=look, need=needs(t0={"GPU": 1}))
    assert [tuple(one) for one in found] == [
        ("no-worker", "t0", "t0 needs GPU=1, and no worker has that"),
        ("submitted", "t0", "t0 was sent, and no worker has said that it runs"),
    ]
    assert len(calls) == 1


def test_what_others_have_taken_names_them():
    story = Story({0: (), 1: (), 2: ()})
    story.starts()
    story.begins(0, "w7")
    look, _ = asked(WorkerView("w7", "w7", 4, {"DB": 1}, 1))
    found = why(story, 1, look=look, need=needs(t0={"DB": 1}, t1={"DB": 1}))
    assert found[0] == (
        "limit", "t1", "t1 needs DB=1, and what the workers have of that is taken by t0",
    )  # fmt: skip


def test_what_can_never_begin_is_told_before_what_runs():
    # Whoever waits for both is not helped by the end of the one that runs.
    story = Story({0: (), 1: (), 2: (0, 1)})
    story.starts()
    story.begins(0, "w7")
    look, calls = asked(WorkerView("w7", "w7", 2, {}, 1))
    found = why(story, 2, look=look, need=needs(t1={"GPU": 1}))
    assert [(one.kind, one.task_run) for one in found] == [
        ("no-worker", "t1"), ("submitted", "t1"), ("waits", "t2"),
    ]  # fmt: skip
    assert len(calls) == 1


def test_what_cannot_go_on_is_among_the_few_that_are_named():
    story = Story({**dict.fromkeys(range(9), ()), 9: tuple(range(9))})
    story.starts()
    story.ends(7, "Paused", body=False)
    assert why(story, 9)[-1].text == "t9 waits for t7, t0, t1 and 6 more"


def test_nobody_is_asked_where_nothing_waits_for_a_place():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.begins(0, "w7")
    look, calls = asked()
    why(story, 1, look=look)
    story.end(0, 1)
    why(story, 1, look=look)
    assert calls == []


def test_of_a_whole_a_part_that_cannot_go_on_tells_most_and_then_one_that_runs():
    story = Story(make_plan({0: ()}, maps={0: Over(lengths=(3,))}))
    story.starts()
    story.wakes()
    story.begins((0, 1), "w7")
    look, _ = asked(WorkerView("w7", "w7", 1, {}, 1))
    assert [one.task_run for one in why(story, 0, look=look)] == ["t0[1]", "t0"]
    story.ends((0, 2), "Retrying", delay=30.0)
    assert [one.task_run for one in why(story, 0, look=look)] == ["t0[2]", "t0"]


def test_a_child_that_runs_for_long_is_compared_with_its_siblings():
    story = Story(make_plan({0: ()}, maps={0: Over(lengths=(4,))}))
    story.starts()
    story.wakes()
    story.begins((0, 3), "w7")
    for child in range(3):
        header = story.header((0, child))
        story.hears(header._replace(seconds=2.0))
    story.now = 3.0
    assert [one.kind for one in why(story, (0, 3))] == ["running"]
    story.now = 9.0
    assert [one.text for one in why(story, (0, 3))] == [
        "t0[3] has been running for 9.0 s (attempt 1, w7)",
        "the middle one of its 3 siblings that have ended ran for 2.0 s",
    ]


# --- what is true of attempts --------------------------------------------------------------------


def test_a_failure_that_dask_made_again_had_not_succeeded():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Failed", worker="w1")
    story.ends(0, "Failed", worker="w2", submission=1)
    record = story.record(0)
    assert [one.outcome for one in record.attempts()] == ["failed", "re-executed"]
    (reason,) = why(story, 0)
    assert reason.text.startswith("t0 failed (attempt 1, w1)")
    (again,) = repeats_of(record, story.machine.records)
    assert again.text == (
        "attempt 1 had failed on w1, and its state was lost: it was executed again on w2"
    )


def test_what_died_before_it_was_heard_of_says_how_often_its_workers_did():
    story = Story({0: ()})
    story.starts()
    story.loses(0, worker="w1", starts=4)
    story.wakes()
    story.ends(0)
    (again,) = repeats_of(story.record(0), story.machine.records)
    assert again == (
        "lost",
        "t0",
        "workers died 4 times to which t0 was assigned; whether its body had begun is not known",
    )


def test_what_asked_to_be_tried_again_has_not_failed():
    @task
    def asks():
        from dask_taskrunner import context

        if context.attempt == 1:
            raise signals.RETRY("the file is not there yet", delay=1)

    @task(max_retries=1, retry_delay=1)
    def gives_up():
        raise signals.FAIL("quota: used up")

    with Flow("etl") as flow:
        asks()
        gives_up()
    run = InProcessRunner().run(flow)
    assert [one.text for one in run.explain("asks").again] == [
        "attempt 1 asked to be tried again: the file is not there yet"
    ]
    assert [one.text for one in run.explain("gives_up").again] == [
        "attempt 1 ended with FAIL: quota: used up, and was retried"
    ]


def test_a_worker_that_died_is_named_once():
    with Flow("etl") as flow:
        step()
    (lost,) = InProcessRunner(kill_worker("step")).run(flow).explain("step").again
    assert lost.text == "attempt 1 was lost with its worker in-process://0"


def test_what_is_cancelled_while_it_waits_for_a_retry_says_that_it_was_tried():
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying", delay=30.0)
    story.is_cancelled()
    (reason,) = why(story, 0)
    assert reason.text == (
        "t0 was cancelled: cancelled by the user; it had been tried, and waited for its next "
        "try: Retrying"
    )


def test_what_had_paused_when_the_run_failed_says_so():
    from dask_taskrunner import triggers

    with Flow("etl") as flow:
        step(bad())
        step.with_options(trigger=triggers.manual_only, name="by_hand")()
    found = InProcessRunner().run(flow).explain("by_hand").reasons
    assert [one.kind for one in found] == ["run-ended", "run-ended"]
    assert found[1].text.startswith("by_hand was Paused: manual_only")


def test_a_skip_of_a_part_of_a_map_is_not_taken_for_that_of_all():
    with Flow("etl") as flow:
        some = task(_skips_two, name="some").map(load())
        step([some, task(_skips, name="skips")()])
    found = InProcessRunner().run(flow).explain("step").reasons
    assert [one.task_run for one in found] == ["skips", "step"]


def _skips_two(x):
    if x == 2:
        raise signals.SKIP("two")


# --- what its time went to -----------------------------------------------------------------------


def time(story, n):
    record, records = story.record(n), story.machine.records
    reading = read(records, story.machine.history)
    # Of what has taken some.
    return {
        name: s for name, s in time_of(record, node_id(record), records, reading)[1].items() if s
    }


def test_what_is_cancelled_while_it_waits_for_a_retry_was_delayed():
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying", delay=30.0)
    story.now = 12.0
    story.is_cancelled()
    assert time(story, 0) == {"delayed": 12}


def test_what_is_cancelled_before_a_worker_had_it_was_queued():
    story = Story({0: ()})
    story.starts()
    story.now = 12.0
    story.is_cancelled()
    assert time(story, 0) == {"queued": 12}


def test_what_is_cancelled_while_it_runs_was_running():
    story = Story({0: ()})
    story.starts()
    story.begins(0)
    story.now = 12.0
    story.is_cancelled()
    assert time(story, 0) == {"running": 12}


def test_what_is_rejected_was_delayed():
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Paused", body=False)
    story.now = 12.0
    story.rejects(0)
    assert time(story, 0) == {"delayed": 12}


# --- what is shown -------------------------------------------------------------------------------


def run_of(*faults):
    with Flow("etl") as flow:
        step(bad(), step())
    return InProcessRunner(takes("bad", 3), *faults).run(flow)


def test_what_can_be_done_is_said_of_the_root_cause():
    run = run_of()
    assert run.explain("step-2").advice == (
        "see run['bad'].logs and its state's traceback; once it is mended, "
        "runner.run(flow, resume=run) runs what is left"
    )
    assert str(run.explain("step-2")).splitlines()[-1].startswith("what to do: see run['bad']")
    assert run.explain("step").advice == ""


def test_its_repr_is_a_line():
    assert repr(run_of().explain("step-2")) == (
        "<Explanation step-2 is TriggerFailed: "
        "bad failed (attempt 1, in-process://0): ValueError: negative price>"
    )


def test_a_notebook_shows_it_with_the_color_of_its_state():
    html = run_of(fail("step", error=ValueError("<b>1 < 2</b>"))).explain("step")._repr_html_()
    assert "<b>step</b>" in html
    assert "Failed" in html
    assert "&lt;b&gt;1 &lt; 2&lt;/b&gt;" in html
