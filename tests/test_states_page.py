"""The page on states and triggers: its cells are run, its tables are those of the code."""

from __future__ import annotations

import queue
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pages import check_page

from dask_taskrunner import Flow, TaskRunner, context, expand, signals, states, task, triggers
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes

PAGE = (Path(__file__).parents[1] / "docs" / "states.md").read_text(encoding="utf-8")


def rows(*head):
    """Return the rows of the table whose head begins so, without backticks."""
    lines = iter(PAGE.splitlines())
    first = next(line for line in lines if line.startswith(f"| {' | '.join(head)} |"))
    table = [first]
    for line in lines:
        if not line.startswith("|"):
            break
        table.append(line)
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table]


def test_the_cells_show_what_the_page_shows():
    check_page(PAGE, {"__name__": "__main__"})


# --- the table of states --------------------------------------------------------------------------


def test_every_state_is_told_of_with_its_parent():
    _, _, *table = rows("state", "is a")
    told = {name: (parent, over) for name, parent, over, _ in table}
    classes = {
        name: (cls.__base__.__name__, "yes" if cls().is_finished() else "no")
        for name, cls in states.STATE_CLASSES.items()
    }
    assert told == {n: said for n, said in classes.items() if n not in ("State", "Finished")}


def test_every_question_is_named():
    questions = {name for name in vars(states.State) if name.startswith("is_")}
    assert all(name in PAGE for name in questions)


def test_every_signal_is_told_of_with_its_state():
    _, _, *table = rows("signal", "state")
    classes = {cls.__name__: cls.state_class.__name__ for cls in signals.Signal.__subclasses__()}
    assert {name: state for name, state, _ in table} == classes


# --- which states one sees ------------------------------------------------------------------------


@task
def plain(x=None):
    return [1, 2]


@task(max_retries=1, retry_delay=60)
def tried_again():
    return 1


@task
def skips():
    raise signals.SKIP("no news")


@task(timeout=5)
def limited():
    return 1


@task(trigger=triggers.manual_only)
def deploy():
    return 1


@task
def loops():
    if context.task_loop_count == 1:
        raise signals.LOOP(result=1)
    return 2


@task
def grows():
    with Flow("inner") as inner:
        plain()
    return expand(inner)


@task(cache_for=timedelta(hours=1))
def cached():
    return 1


RUNS = queue.SimpleQueue()


@task
def cancels():
    # Not by its name, which would be pickled with this function.
    sys.modules["test_states_page"].RUNS.get(timeout=10).cancel()


def once(body, *faults, slug="plain", **defaults):
    """Run a flow, and return its run; the task run that is looked at has this slug."""
    with Flow("once") as flow:
        body()
    runner = InProcessRunner(*faults, task_defaults=defaults)
    run = runner.run(flow)
    return runner, flow, run, slug


def approved(said):
    _, _, run, _ = outcome = once(deploy, slug="deploy")
    getattr(run, said)("deploy").wait()
    return outcome


def taken_from_the_cache():
    runner, flow, _, slug = once(cached, slug="cached")
    return runner, flow, runner.run(flow), slug


def cancelled():
    with Flow("cancelled") as flow:
        plain(cancels())
    runner = InProcessRunner()
    run = runner.start(flow)
    RUNS.put(run)
    return runner, flow, run.wait(), "plain"


KILLED_TWICE = (kill_worker("plain"), kill_worker("plain", attempt=2))

WHAT_HAPPENS = {
    "it succeeds": lambda: once(plain),
    "it succeeds, and takes a while": lambda: once(plain, takes("plain", 1)),
    "it fails once, and has a retry": lambda: once(
        tried_again, fail("tried_again"), slug="tried_again"
    ),
    "it fails for good": lambda: once(plain, fail("plain")),
    "something upstream failed, and its trigger says no": lambda: once(
        lambda: plain(tried_again()), fail("tried_again", attempts=2)
    ),
    "something upstream was skipped": lambda: once(lambda: plain(skips())),
    "it takes longer than its timeout": lambda: once(limited, takes("limited", 6), slug="limited"),
    "its worker dies under it, once": lambda: once(plain, kill_worker("plain")),
    "its worker dies under it, more often than allowed": lambda: once(
        plain, *KILLED_TWICE, max_crash_retries=1
    ),
    "it is mapped": lambda: once(lambda: plain.map([1, 2])),
    "it loops": lambda: once(loops, slug="loops"),
    "it pauses, and is approved": lambda: approved("approve"),
    "it pauses, and is rejected": lambda: approved("reject"),
    "it returns a flow (expand)": lambda: once(grows, slug="grows"),
    "an earlier result stands for it": taken_from_the_cache,
    "the flow run is cancelled": cancelled,
}


def test_no_case_is_left_out():
    _, _, *table = rows("what happens")
    assert [what.replace("`", "") for what, _ in table] == list(WHAT_HAPPENS)


@pytest.mark.parametrize("what", WHAT_HAPPENS)
def test_one_sees_the_states_of_the_table(what):
    (said,) = [seen for name, seen in rows("what happens") if name.replace("`", "") == what]
    runner, _, run, slug = WHAT_HAPPENS[what]()
    changes = [change for change in run.history if change.slug == slug]
    # The same state once more tells only how far it is.
    seen = [change.new for change in changes if change.new != change.old]
    runner.close()
    assert [changes[0].old, *seen] == said.replace("`", "").split()


# --- triggers -------------------------------------------------------------------------------------

#: What the heads of the tables of triggers speak of.
UPSTREAM = {
    "both succeeded": (states.Success(), states.Success()),
    "one failed": (states.Success(), states.Failed(message="no")),
    "both failed": (states.Failed(message="no"), states.Crashed(message="no")),
    "one was cancelled": (states.Cancelled(), states.Success()),
    "one was skipped": (states.Skipped(), states.Success()),
    "both were skipped": (states.Skipped(), states.Skipped()),
    "nothing": (),
    "one was skipped, one failed": (states.Skipped(), states.Failed(message="no")),
    "a mapped task, some of its children skipped": (
        states.Mapped(counts={"Skipped": 1, "Success": 1}),
    ),
}


def state_after(upstream, **options):
    """Return the state of a task that is run behind these states."""
    body = task(lambda: "ran", name="body", **options)
    return TaskRunner(body).run(upstream_states=dict(enumerate(upstream)))


def verdict(trigger, upstream):
    state = state_after(upstream, trigger=trigger, skip_on_upstream_skip=False)
    words = {states.Success: "runs", states.TriggerFailed: "no", states.Paused: "pauses"}
    assert (state.result == "ran") == (type(state) is states.Success)
    return words[type(state)]


def test_the_table_of_triggers_is_true():
    head, _, *table = rows("upstream", "both succeeded")
    for name, *cells in table:
        trigger = eval(name, vars(triggers))
        assert cells == [verdict(trigger, UPSTREAM[case]) for case in head[1:]], name


def test_every_trigger_is_told_of():
    _, _, *table = rows("upstream", "both succeeded")
    told = {name.partition("(")[0] for name, *_ in table} | {"always_run", "never_run"}
    there = {n for n in vars(triggers) if n.startswith(("all_", "any_", "some_", "not_"))}
    assert told == there | {"manual_only", "always_run", "never_run"}
    assert triggers.always_run is triggers.all_finished
    assert triggers.never_run is triggers.manual_only


def test_the_table_of_skips_is_true():
    _, _, *table = rows("upstream", "by default")
    asked = []

    def trigger(upstream_states):
        asked.append(upstream_states)
        return True

    for case, *cells in table:
        for said, skips_too in zip(cells, (True, False), strict=True):
            asked.clear()
            state = state_after(UPSTREAM[case], trigger=trigger, skip_on_upstream_skip=skips_too)
            assert said == ("the trigger is asked" if asked else "is skipped"), case
            assert state.is_skipped() != bool(asked)


# --- the flow's own state -------------------------------------------------------------------------


def test_the_triggers_that_only_watch_are_named():
    _, _, watching = PAGE.partition("only watches or cleans up (")
    named = watching.partition(")")[0].replace("`", "").replace("\n", " ").split(", ")
    told = rows("upstream", "both succeeded")[2:]
    watchers = [
        name.partition("(")[0]
        for name, *_ in told
        if getattr(eval(name, vars(triggers)), "runs_after_failures", False)
    ]
    assert sorted(named) == sorted(watchers)


ENDS = {
    "one failed": {"a": "Failed", "b": "Cancelled"},
    "none failed, one has not ended": {"a": "Paused", "b": "Cancelled"},
    "all ended, one cancelled": {"a": "Success", "b": "Cancelled"},
    "all succeeded": {"a": "Success", "b": "Success"},
}


@pytest.mark.parametrize("case", ENDS)
def test_the_flow_ends_as_the_table_says(case):
    (said,) = [told for name, told in rows("of the reference tasks") if name == case]
    raised = {"Failed": signals.FAIL, "Paused": signals.PAUSE, "Cancelled": signals.CANCELLED}

    @task
    def ends(state):
        if state in raised:
            raise raised[state]("as asked")

    with Flow("ends") as flow:
        for name, state in ENDS[case].items():
            ends(state, task_args={"name": name})
    run = InProcessRunner().run(flow)
    assert type(run.state).__name__ == said.partition("`")[0]
