"""What a run's time hung on, and how much later everything else could have ended."""

from __future__ import annotations

import itertools

import pytest
from fakes.machine_story import Story

from dask_taskrunner import Flow, NotFinished, expand, signals, task, triggers
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.readings import read
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes


@task
def a():
    return [1, 2, 3]


@task(max_retries=2, retry_delay=60)
def b(x):
    return x


@task
def c(*xs):
    return 1


@task
def d():
    return 1


def path_of(flow, *faults, **options):
    run = InProcessRunner(*faults, **options).run(flow)
    path = run.critical_path()
    # Whatever there is on the way, the steps follow on one another, and explain all their time.
    for before, step in itertools.pairwise(path):
        assert step.began == pytest.approx(before.ended)
    for step in path:
        parts = sum(getattr(step, name) for name in path.spent)
        assert parts == pytest.approx(step.seconds, abs=1e-6)
        assert path.slack[step.slug] == 0
    assert sum(path.spent.values()) == pytest.approx(path.seconds, abs=1e-6)
    return path


def slugs(path):
    return [step.slug for step in path]


def test_the_path_is_the_chain_that_ended_last():
    with Flow("diamond") as flow:
        first = a()
        c(b(first), c(first))
        d()
    path = path_of(flow, takes("a", 3), takes("b", 1), takes("c", 5), takes("c-2", 2), workers=3)
    assert slugs(path) == ["a", "c", "c-2"]
    assert [step.running for step in path] == pytest.approx([3, 5, 2])
    assert path.seconds == pytest.approx(10)
    assert path.slack == pytest.approx({"a": 0, "b": 4, "c": 0, "c-2": 0, "d": 10})


def test_of_a_mapped_task_the_child_that_ended_last_is_on_the_path():
    with Flow("map") as flow:
        c(b.map(a()))
    path = path_of(flow, takes("a", 3), takes("b[1]", 9), takes("b", 1), takes("c", 1), workers=3)
    assert slugs(path) == ["a", "b[1]", "c"]
    assert path.slack == pytest.approx({"a": 0, "b": 0, "b[0]": 8, "b[1]": 0, "b[2]": 8, "c": 0})


def test_a_map_over_a_map_goes_child_by_child():
    with Flow("maps") as flow:
        c(c.map(b.map(a())))
    faults = takes("b[2]", 2), takes("b", 1), takes("c[0]", 2), takes("c[2]", 3), takes("c-2", 1)
    path = path_of(flow, *faults, workers=3)
    assert slugs(path) == ["a", "b[2]", "c[2]", "c-2"]


def test_what_waited_for_a_retry_is_told_from_what_ran():
    with Flow("retry") as flow:
        c(b(a()))
    path = path_of(flow, takes("b", 2), fail("b", attempts=2))
    (step,) = [step for step in path if step.slug == "b"]
    assert (step.running, step.delayed) == (pytest.approx(6), pytest.approx(120))


def test_what_waited_for_a_place_is_told_from_what_ran():
    with Flow("busy") as flow:
        for _ in range(4):
            d()
    faults = [takes(slug, 5) for slug in ("d", "d-2", "d-3", "d-4")]
    path = path_of(flow, *faults)
    assert slugs(path) == ["d-4"]
    assert (path[0].running, path[0].queued) == (pytest.approx(5), pytest.approx(15))
    alone = path_of(flow, *faults, workers=4)
    assert alone[0].queued == 0


def test_of_what_has_grown_the_runs_inside_are_on_the_path():
    @task
    def grows():
        with Flow("inner") as inner:
            c(d(), b(1))
        return expand(inner)

    with Flow("outer") as flow:
        c(grows())
    faults = takes("grows", 1), takes("grows/d", 2), takes("grows/b", 7), takes("c", 1)
    path = path_of(flow, *faults, workers=2)
    assert slugs(path) == ["grows", "grows/b", "grows/c", "c"]
    assert path.slack["grows/d"] == pytest.approx(5)


def test_iterations_of_a_loop_are_one_step():
    @task
    def loop():
        from dask_taskrunner import context

        if context.task_loop_count < 3:
            raise signals.LOOP(result=1)

    with Flow("loop") as flow:
        c(loop())
    path = path_of(flow, takes("loop", 4))
    assert slugs(path) == ["loop", "c"]
    assert path[0].running == pytest.approx(12)


def test_what_a_worker_took_along_counts_as_running():
    with Flow("lost") as flow:
        c(b(a()))
    path = path_of(flow, takes("b", 4), kill_worker("b"))
    (step,) = [step for step in path if step.slug == "b"]
    assert step.running == pytest.approx(8)


def test_a_failed_run_has_a_path_to_what_did_not_run_because_of_it():
    @task
    def fails():
        raise ValueError

    @task(trigger=triggers.any_failed)
    def cleans(x):
        pass

    with Flow("failed") as flow:
        bad = fails()
        c(bad)
        cleans(bad)
    path = path_of(flow, takes("fails", 3), takes("cleans", 2))
    assert slugs(path) == ["fails", "cleans"]
    assert path.slack["c"] == pytest.approx(2)


def test_a_state_that_was_given_is_no_step():
    with Flow("given") as flow:
        c(b(a()))
    first = InProcessRunner(takes("a", 5)).run(flow, keep="all")
    path = path_of(flow, takes("b", 2))
    assert slugs(path) == ["a", "b", "c"]
    with InProcessRunner(takes("b", 2)) as runner:
        run = runner.run(flow, task_states={"a": first["a"].state.copy_with(result=[1])})
    assert slugs(run.critical_path()) == ["b", "c"]
    assert "a" not in run.critical_path().slack


def test_a_run_that_paused_has_a_path_of_what_ended_so_far():
    @task(trigger=triggers.manual_only)
    def by_hand(x):
        pass

    with Flow("paused") as flow:
        c(by_hand(a()))
    run = InProcessRunner(takes("a", 2)).run(flow)
    assert slugs(run.critical_path()) == ["a"]
    assert set(run.critical_path().slack) == {"a"}


def test_a_run_that_goes_on_has_none_yet():
    from fakes.gates import Gate

    gate = Gate("insight goes on")

    @task
    def waits():
        gate.pass_through()

    with Flow("on") as flow:
        waits()
    with InProcessRunner() as runner:
        run = runner.start(flow)
        gate.wait()
        with pytest.raises(NotFinished, match=r"run\.wait\(\)"):
            run.critical_path()
        with pytest.raises(NotFinished, match=r"run\.wait\(\)"):
            run.what_if(workers=2)
        gate.open()


def test_a_cancelled_run_has_what_ran_until_then():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.now = 4.0
    story.end(0)
    story.cancels()
    path = critical_path(read(story.machine.records, story.machine.history))
    assert path.seconds == 4


@pytest.mark.parametrize("ahead", [-3600.0, -0.5, 3600.0])
def test_a_worker_whose_clock_is_wrong_changes_nothing(ahead):
    story = Story({0: (), 1: (0,), 2: (0,)})
    story.starts()
    for n, worker, ended in ((0, "w1", 3.0), (1, "w2", 5.0), (2, "w1", 7.0)):
        story.now = ended
        wrong = ahead if worker == "w2" else 0.0
        header = story.header(n, worker=worker)
        header = header._replace(started=header.started - 1.0 + wrong, seconds=1.0)
        story.hears(header)
    reading = read(story.machine.records, story.machine.history)
    (body,) = reading.nodes[(1, -1), False].executions
    assert (body.started, body.ended) == pytest.approx((4.0, 5.0))
    assert [step.slug for step in critical_path(reading)] == ["t0", "t2"]


@pytest.mark.parametrize("behind", [0.0, 0.05])
def test_a_retry_that_began_before_it_was_due_by_its_workers_clock_was_delayed(behind):
    story = Story({0: ()})
    story.starts()
    story.ends(0, "Retrying", delay=10.0)
    story.wakes(10.0)
    story.now = 10.5
    # It began at once, and took 0.5 s.
    header = story.header(0)
    header = header._replace(started=header.started - 0.5 - behind, seconds=0.5)
    story.hears(header)
    (step,) = critical_path(read(story.machine.records, story.machine.history))
    assert step.delayed == pytest.approx(10.0 - behind, abs=0.02)
    assert step.running == pytest.approx(0.5, abs=0.02)


def test_in_words_it_names_each_step_and_what_took_its_time():
    with Flow("words") as flow:
        c(b(a()))
    path = path_of(flow, takes("a", 3), takes("b", 1), fail("b", attempts=1))
    assert str(path).splitlines() == [
        "1 min 05 s, of which 1 min 00 s waiting for a retry or an approval, 5.0 s running",
        "  a  3.0 s: 3.0 s running",
        "  b  1 min 02 s: 1 min 00 s waiting for a retry or an approval, 2.0 s running",
        "  c  0 ms: no time",
    ]
    assert repr(path) == "<CriticalPath 1 min 05 s: 3 task runs>"


def test_a_long_path_is_told_by_its_ends():
    with Flow("long") as flow:
        x = a()
        for _ in range(30):
            x = c(x)
    lines = str(path_of(flow)).splitlines()
    assert len(lines) == 22
    assert lines[11] == "  ... 11 more"
    assert lines[-1].startswith("  c-30")


def test_a_body_that_never_ran_takes_no_time_of_those_that_would():
    @task
    def skips():
        raise signals.SKIP("no news")

    with Flow("skips") as flow:
        c(b(skips()))
    path = path_of(flow, takes("skips", 2), takes("b", 9), takes("c", 9))
    assert path.seconds == pytest.approx(2)
