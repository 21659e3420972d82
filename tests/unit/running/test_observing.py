"""Who asks for it is told of each change of state: by the log, and by a call."""

from __future__ import annotations

import logging
import threading

import pytest
from fakes.gates import PATIENCE
from fakes.machine_story import Story

from dask_taskrunner import (
    Flow,
    OptionError,
    StateChange,
    context,
    expand,
    observing,
    signals,
    task,
)
from dask_taskrunner.observing import Observers
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes

STATES = "dask_taskrunner.states"


@task
def a():
    return [1, 2]


@task(max_retries=1, retry_delay=60)
def b(x):
    return x


@task
def c(*xs):
    return 1


def etl():
    with Flow("etl") as flow:
        c(b.map(a()))
    return flow


def heard(flow, *faults, **options):
    """Return the run, and what was told of it."""
    changes: list[StateChange] = []
    return InProcessRunner(*faults, on_event=changes.append, **options).run(flow), changes


def told(changes, slug):
    return [(change.old, change.new) for change in changes if change.slug == slug]


def test_each_entry_of_the_history_is_told_once_and_in_its_order():
    run, changes = heard(etl(), fail("b[1]", attempts=1), takes("b", 2))
    assert [(each.at, each.slug or "", each.old, each.new) for each in changes] == [
        (entry.at, entry.slug, entry.old, entry.new) for entry in run.history
    ]
    assert {each.run_id for each in changes} == {run.run_id}
    assert {each.run_name for each in changes} == {run.run_name}
    assert {each.flow_name for each in changes} == {"etl"}


def test_a_change_says_what_is_known_by_then():
    run, changes = heard(etl(), fail("b[1]", attempts=1), takes("b", 2))
    last = [change for change in changes if change.slug == "b[1]"][-1]
    assert (last.task, last.map_index, last.part_of, last.upstream) == ("b", 1, "b", ("a",))
    assert last.attempts == tuple(run["b[1]"].attempts)
    retrying = next(change for change in changes if change.new == "Retrying")
    assert [attempt.outcome for attempt in retrying.attempts] == ["retrying"]
    assert retrying.message == "retry 1 of 1 after ScriptedFailure: b[1] fails"
    assert told(changes, None) == [("Pending", "Running"), ("Running", "Success")]


def test_all_has_been_told_when_the_wait_for_the_run_is_over():
    changes = []

    def slow(change):
        threading.Event().wait(0.01)
        changes.append(change)

    run = InProcessRunner(on_event=slow).run(etl())
    assert len(changes) == len(run.history)


def test_it_is_called_in_the_thread_that_is_kept_for_hooks():
    names = set()
    run = InProcessRunner(on_event=lambda _: names.add(threading.current_thread().name)).run(etl())
    assert names == {f"dask-taskrunner-hooks-{run.run_id}"}


def test_what_it_raises_is_a_note_and_how_often_is_another():
    changes = []

    def broken(change):
        raise RuntimeError("no space left")

    run = InProcessRunner(on_event=[broken, changes.append]).run(etl())
    assert run.result() == 1
    assert len(changes) == len(run.history)
    name = f"on_event {broken.__qualname__}"
    assert [(note.level, note.text) for note in run.notes] == [
        (logging.WARNING, f"{name}: RuntimeError: no space left"),
        (logging.WARNING, f"{name} raised {len(changes)} times"),
    ]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, signals.SKIP])
def test_not_even_what_is_meant_to_end_a_program_ends_anything(error):
    def broken(change):
        raise error

    assert InProcessRunner(on_event=broken).run(etl()).result() == 1


def test_what_was_executed_again_is_told_with_the_end():
    with Flow("etl") as flow:
        c(b(a()))
    run, changes = heard(flow, kill_worker("b"))
    ends = [change for change in changes if change.slug == "a"]
    assert [(each.old, each.new, len(each.attempts)) for each in ends][-1] == (
        "Success", "Success", 2,
    )  # fmt: skip
    assert ends[-1].attempts == tuple(run["a"].attempts)
    lost = [change for change in changes if change.slug == "b"][-1]
    assert [attempt.outcome for attempt in lost.attempts] == ["worker-lost", "success"]


def test_what_has_grown_is_part_of_what_it_has_grown_from():
    @task
    def grows():
        with Flow("inner") as inner:
            c(b(1))
        return expand(inner)

    with Flow("etl") as flow:
        grows()
    _, changes = heard(flow)
    ends = {change.slug: change for change in changes}
    assert (ends["grows/b"].part_of, ends["grows/b"].upstream) == ("grows", ("grows",))
    assert ends["grows/c"].upstream == ("grows/b", "grows")


def test_a_failure_is_told_with_its_type_and_its_traceback():
    @task
    def breaks():
        raise signals.FAIL("quota: used up")

    with Flow("etl") as flow:
        c(breaks())
    _, changes = heard(flow)
    ends = {change.slug: change for change in changes}
    assert ends["breaks"].error_type == "FAIL"
    assert "quota: used up" in ends["breaks"].traceback
    # What `result` raises.
    assert (ends["c"].error_type, ends["c"].traceback) == ("UpstreamFailed", None)


def test_what_an_attempt_ended_with_is_told_of_each_kind_of_error():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    @task(max_retries=1, retry_delay=1)
    def fails(kind):
        if context.attempt == 2:
            return
        raise {"fail": signals.FAIL("quota: used up"), "mute": Mute(), "exit": SystemExit(3)}[kind]

    @task(timeout=5, max_retries=1, retry_delay=1)
    def slow():
        pass

    @task
    def asks():
        if context.attempt == 1:
            raise signals.RETRY("later: please", delay=1)

    with Flow("etl") as flow:
        for kind in ("fail", "mute", "exit"):
            fails(kind)
        slow()
        asks()
    run, _ = heard(flow, takes("slow", 9))
    errors = {slug: run[slug].attempts[0].error for slug in run}
    assert errors == {
        "fails": "FAIL: quota: used up",
        "fails-2": "Mute: (its text could not be made: RuntimeError)",
        "fails-3": "SystemExit: 3",
        "slow": "TimeoutError: it ran longer than its timeout of 5 s; its code was stopped",
        "asks": None,
    }


def test_a_run_that_goes_on_tells_of_it():
    @task
    def pauses():
        if context.attempt == 1:
            raise signals.PAUSE("look first")

    with Flow("etl") as flow:
        pauses()
    changes = []
    with InProcessRunner(on_event=changes.append) as runner:
        run = runner.run(flow)
        assert told(changes, None)[-1] == ("Running", "Paused")
        run.approve()
    assert told(changes, None)[-2:] == [("Paused", "Running"), ("Running", "Success")]


def test_single_calls_are_told_of_too():
    changes = []
    with InProcessRunner(on_event=changes.append) as runner:
        assert runner.submit(b, 5).result(PATIENCE) == 5
        assert runner.map(c, [1, 2]).results() == [1, 1]
    ends = {change.slug: change for change in changes if change.new == "Success"}
    assert {"b", "c[0]", "c[1]"} <= set(ends)
    assert ends["b"].flow_name is None
    assert [attempt.outcome for attempt in ends["b"].attempts] == ["success"]
    assert ends["b"].run_name.startswith("futures-")


def test_of_single_calls_nothing_is_remembered_that_is_forgotten(monkeypatch):
    monkeypatch.setattr(observing, "_FORGOTTEN", 3)
    story = Story({}, is_open=True)
    observers = Observers("calls", pytest.fail, functions=[lambda change: None])
    told = 0
    for n in range(20):
        story.adds({n: ()})
        story.starts() if n == 0 else story.wakes()
        story.ends(n)
        news, told = story.machine.history[told:], len(story.machine.history)
        observers.changes(news, story.machine.records)
    assert len(story.machine.records) < 3
    assert len(observers._told) < 10


@pytest.mark.parametrize("on_event", [5, "print", [print, 5], None, {"print": print}])
def test_what_cannot_be_called_is_refused(on_event):
    with pytest.raises(OptionError, match="on_event must be a callable, or a list of them, not"):
        InProcessRunner(on_event=on_event)


# --- the log -------------------------------------------------------------------------------------


def test_at_debug_there_is_a_record_for_each_change(caplog):
    with caplog.at_level(logging.DEBUG, STATES):
        run = InProcessRunner(fail("b[1]", attempts=1)).run(etl())
    records = [record for record in caplog.records if record.name == STATES]
    assert len(records) == len(run.history)
    changed = [(each.task_run or "", each.old_state, each.new_state) for each in records]
    assert changed == [(entry.slug, entry.old, entry.new) for entry in run.history]
    assert {record.flow_run_id for record in records} == {run.run_id}
    levels = {(record.task_run is None, record.levelno) for record in records}
    assert levels == {(True, logging.INFO), (False, logging.DEBUG)}
    assert (
        f"{run.run_name}: b[1] Pending -> Retrying: retry 1 of 1 after ScriptedFailure: b[1] fails"
    ) in caplog.messages


def test_at_info_there_are_only_those_of_the_flow_run(caplog):
    with caplog.at_level(logging.INFO, STATES):
        run = InProcessRunner().run(etl())
    assert [record.getMessage() for record in caplog.records if record.name == STATES] == [
        f"{run.run_name}: Pending -> Running",
        f"{run.run_name}: Running -> Success: reference tasks succeeded",
    ]


def test_where_nobody_asked_nothing_is_put_together(caplog, monkeypatch):
    from dask_taskrunner import observing

    made = []
    monkeypatch.setattr(observing, "StateChange", lambda *args: made.append(args))
    with caplog.at_level(logging.WARNING, "dask_taskrunner"):
        assert InProcessRunner().run(etl()).result() == 1
    assert made == []
    assert [record for record in caplog.records if record.name == STATES] == []
