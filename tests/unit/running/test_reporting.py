"""What is told of a run: its table; what failed by itself, and what did not run because of it."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE, Gate, eventually
from fakes.machine_story import Story

from dask_taskrunner import Flow, context, states, task, triggers
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.reporting import _short, max_attempts


@task
def one():
    return 1


@task
def large():
    return "x" * 10_000


@task
def fails(x):
    raise ValueError("negative\nprice")


@task
def load(*xs):
    pass


@pytest.mark.parametrize("has_failed", [False, True])
def test_what_a_trigger_refused_by_itself_is_blamed_on_no_failure(finish, has_failed):
    @task(trigger=triggers.some_successful(at_least=2))
    def publish(x): ...

    with Flow("etl") as flow:
        load(publish(one()))
        if has_failed:
            load(fails(1))
    headline, *lines = finish(flow).failure_text().splitlines()
    if has_failed:
        said = "1 of 5 task runs failed, 1 did not run because of it, 2 did not run for"
        assert headline == f"etl 'nightly' failed: {said} another reason"
    else:
        assert headline == "etl 'nightly' failed: 2 of 3 task runs did not run"
    reason = "trigger some_successful(at_least=2): 1 of 1 upstream runs were successful"
    assert f"  not run: publish ({reason})" in lines


def test_many_children_that_fail_alike_do_not_hide_what_else_failed(finish):
    with Flow("etl") as flow:
        load(fails.map(range(100)), fails(1))
    told = finish(flow).failure_text().splitlines()
    slugs = [line.split()[0] for line in told if "ValueError: negative  " in line]
    assert slugs == [*(f"fails[{n}]" for n in range(19)), "fails-2"]
    assert told[-2].startswith("  failed as well: fails[19], fails[20], ")


def test_a_crash_says_so_and_counts_no_attempts_of_a_body(start, backend):
    gate = Gate("report a crash")

    @task(max_crash_retries=0)
    def extract():
        gate.pass_through()

    with Flow("etl") as flow:
        load(extract(), one())
    run = start(flow)
    gate.wait()
    assert eventually(lambda: run.still_running)
    worker = run["extract"].attempts[0].worker
    (channel,) = backend.channels.values()
    channel.lose((0, -1), Loss("killed", "KilledWorker", worker))
    run.wait(PATIENCE)
    gate.open()
    lines = run.failure_text().splitlines()
    assert lines == [
        "etl 'nightly' failed: 1 of 3 task runs failed, 1 did not run because of it",
        (
            f"  extract  Crashed: its worker died once, last {worker} "
            "(memory limit, os._exit or a crash in C code, walltime, or a GIL held too long?)"
        ),
        "  not run: load (trigger all_successful: 1 of 2 upstream runs were not successful)",
    ]


def test_attempts_are_those_that_were_made_of_those_there_could_be(finish):
    @task(max_retries=3, retry_delay=0)
    def clean(chunk, mode="fast"):
        if context.task_run_number == 3:
            raise RuntimeError("for good")
        raise ValueError("again")

    clean = clean.with_options(retry_on=ValueError)
    with Flow("etl") as flow:
        clean([1, 2])
    run = finish(flow)
    line, inputs, *_ = run.failure_text().splitlines()[1:]
    assert line.startswith("  clean  RuntimeError: for good")
    assert line.endswith(f"attempt 3 of 4, {run['clean'].attempts[-1].worker}")
    assert inputs == "    chunk=[1, 2]"


def test_those_that_did_not_run_for_one_reason_share_a_line(finish):
    @task(trigger=triggers.all_failed)
    def rescue(x):
        pass

    with Flow("etl") as flow:
        bad = fails(1)
        load(bad)
        load(bad)
        flow.set_reference_tasks([rescue(one()), bad])
    lines = finish(flow).failure_text().splitlines()
    assert lines[0] == (
        "etl 'nightly' failed: 1 of 5 task runs failed, 2 did not run because of it, "
        "1 did not run for another reason"
    )
    assert lines[1].startswith("  fails  ValueError: negative  ")
    assert lines[-2:] == [
        (
            "  not run: load, load-2 (trigger all_successful: "
            "1 of 1 upstream runs were not successful)"
        ),
        "  not run: rescue (trigger all_failed: 1 of 1 upstream runs did not fail)",
    ]


@pytest.mark.parametrize(
    ("message", "short"),
    [
        (None, "mine"),
        ("all_successful: 3 of 5 upstream runs were not successful (2 Failed); root cause: x: E",
         "all_successful: 3 of 5 upstream runs were not successful"),
        ("somebody said no; and why", "somebody said no"),
    ],
)  # fmt: skip
def test_a_triggers_message_is_told_without_the_root_cause(message, short):
    assert _short("mine", message) == short


def test_what_ran_more_often_than_it_could_ran_so_often():
    story = Story({0: ()})
    story.starts()
    for _ in range(3):
        story.ends(0, "Retrying", delay=0.0)
        story.wakes()
    assert max_attempts(story.record(0), 0) == 3
    assert max_attempts(story.record(0), 7) == 8


# --- the table -----------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_task_run(finish):
    with Flow("etl") as flow:
        load(fails(7))
        large()
    run = finish(flow)
    rows = run.table()
    assert [list(row) for row in rows] == [
        [
            "slug", "task", "map_index", "state", "message", "attempts", "worker", "queued",
            "started", "ended", "seconds", "nbytes", "inputs",
        ]
    ] * 3  # fmt: skip
    failed, not_run, done = rows
    assert (failed["slug"], failed["state"], failed["attempts"]) == ("fails", "Failed", 1)
    assert failed["message"] == "ValueError: negative\nprice"
    assert failed["inputs"] == {"x": "7"}
    assert failed["queued"] <= failed["started"] <= failed["ended"]
    assert failed["worker"].startswith("fake://")
    assert (not_run["state"], not_run["attempts"], not_run["started"]) == ("TriggerFailed", 0, None)
    assert not_run["worker"].startswith("fake://")
    assert done["nbytes"] > 10_000
    assert done["seconds"] >= 0
    assert run.table("large") == [done]


def test_a_row_of_what_was_not_sent_is_empty(finish):
    @task(trigger=triggers.manual_only)
    def by_hand():
        pass

    with Flow("etl") as flow:
        load(by_hand())
    run = finish(flow)
    assert isinstance(run.state, states.Paused)
    by_hand_row, load_row = run.table()
    assert by_hand_row["state"] == "Paused"
    assert (load_row["state"], load_row["worker"], load_row["seconds"]) == (
        "Pending", None, None,
    )  # fmt: skip
