"""A flow run on worker processes: what is sent, what stays there, what is sent again."""

from __future__ import annotations

import pickle
import time
from collections import Counter

import pytest
from marks import eventually
from traffic import Traffic
from watched import tasks_on

from dask_taskrunner import (
    Flow,
    ResultNotHere,
    ResultReleased,
    UpstreamFailed,
    context,
    signals,
    states,
    task,
    triggers,
)
from dask_taskrunner.exceptions import NotFinished

pytestmark = pytest.mark.cluster


@task
def one():
    return 1


@task
def add(x, y=1):
    return x + y


@task
def block(marks, name="go"):
    marks.add(f"waits-for-{name}")
    marks.wait(name)
    return name


def our_keys(client, run):
    """Return the keys of a flow run's task runs that the scheduler is to run or to hold.

    It remembers released ones, too, as long as it would need them to make others again.
    """
    return {
        key
        for key in tasks_on(client, but=("released",))
        if isinstance(key, tuple) and f"-{run.run_id}-" in key[0]
    }


# -- one future per task run, all at once ------------------------------------------------


def test_every_task_run_is_one_dask_task_and_all_are_sent_at_once(runner, client, marks):
    with Flow("chain") as flow:
        previous = block(marks)
        for n in range(5):
            previous = add(previous, str(n))
    run = runner.start(flow)
    marks.wait("waits-for-go")
    keys = eventually(lambda: our_keys(client, run) if len(our_keys(client, run)) == 6 else None)
    assert keys == {
        (f"block-{run.run_id}-0", -1, 1),
        *((f"add-{run.run_id}-{n}", -1, 1) for n in range(1, 6)),
    }
    marks.add("go")
    assert run.wait().result() == "go01234"
    assert all(len(task_run.attempts) == 1 for task_run in run.task_runs)


def test_a_task_run_costs_few_bytes_on_the_wire(runner, monkeypatch):
    with Flow("wide") as flow:
        for _ in range(500):
            one()
    runner.run(flow)
    traffic = Traffic(monkeypatch)
    runner.run(flow)
    # To the scheduler, from there to a worker, each with its key, and the header back.
    assert traffic.bytes < 4_000 * 500


def test_the_edges_on_the_scheduler_are_those_of_the_flow(runner, client, marks):
    with Flow("edges") as flow:
        first = block(marks)
        left, right = add(first, "l"), add(first, "r")
        add(left, right)
    run = runner.start(flow)
    marks.wait("waits-for-go")
    eventually(lambda: len(our_keys(client, run)) == 4)

    def dependencies(run_id, dask_scheduler):
        return {
            key: {dependency.key for dependency in ts.dependencies}
            for key, ts in dask_scheduler.tasks.items()
            if f"-{run_id}-" in key[0]
        }

    found = client.run_on_scheduler(dependencies, run.run_id)
    names = {key[0].rsplit("-", 1)[1]: key for key in our_keys(client, run)}
    shared = {(f"definition-{run.run_id}", 0, 1)}
    edges = {n: found[key] - shared for n, key in names.items()}
    assert edges == {
        "0": set(),
        "1": {names["0"]},
        "2": {names["0"]},
        "3": {names["1"], names["2"]},
    }
    marks.add("go")
    assert run.wait().result() == "golgor"


def test_roots_start_at_once_and_independent_runs_side_by_side(runner, marks):
    @task
    def meet(mine, other):
        marks.add(mine)
        marks.wait(other)

    with Flow("pair") as flow:
        meet("left", "right")
        meet("right", "left")
    assert runner.run(flow).state.is_successful()


def test_keys_are_one_prefix_and_one_group_per_task_run_position(runner, client, marks):
    with Flow("names") as flow:
        gate = block(marks)
        for n in range(3):
            add.with_options(name="odd name.(x)")(gate, str(n))
    run = runner.start(flow)
    marks.wait("waits-for-go")
    keys = eventually(lambda: our_keys(client, run) if len(our_keys(client, run)) == 4 else None)
    names = sorted(key[0] for key in keys)
    assert names == [
        f"block-{run.run_id}-0",
        *(f"odd_name__x_-{run.run_id}-{n}" for n in (1, 2, 3)),
    ]

    def prefixes(names, dask_scheduler):
        return [
            {ts.prefix.name for key, ts in dask_scheduler.tasks.items() if key[0] == name}
            for name in names
        ]

    found = client.run_on_scheduler(prefixes, names)
    assert found == [{"block"}, *[{"odd_name__x_"}] * 3]
    marks.add("go")
    run.wait()


def test_priorities_go_downstream_and_never_above_those_of_others(runner, client, marks):
    with Flow("depths") as flow:
        gate = block(marks)
        middle = add(gate, "x")
        add(middle, "y")
        add(gate, "z", task_args={"priority": 7})
    run = runner.start(flow)
    marks.wait("waits-for-go")
    eventually(lambda: len(our_keys(client, run)) == 4)

    def priorities(run_id, dask_scheduler):
        # The scheduler's smallest comes first.
        return {
            int(key[0].rsplit("-", 1)[1]): -ts.priority[0]
            for key, ts in dask_scheduler.tasks.items()
            if f"-{run_id}-" in key[0]
        }

    found = client.run_on_scheduler(priorities, run.run_id)
    by_name = {t.slug: found[n] for n, t in enumerate(run.task_runs)}
    assert by_name["block"] == pytest.approx(-2 / 3)
    assert by_name["add"] == pytest.approx(-1 / 3)
    assert by_name["add-2"] == pytest.approx(0)
    assert by_name["add-3"] == pytest.approx(7 - 1 / 3)
    marks.add("go")
    run.wait()


def test_two_runs_of_one_flow_share_no_key(runner, client, marks):
    with Flow("twice") as flow:
        add(block(marks), "!")
    first, second = runner.start(flow), runner.start(flow)
    marks.wait("waits-for-go", 2)
    eventually(lambda: len(our_keys(client, first)) == len(our_keys(client, second)) == 2)
    assert not our_keys(client, first) & our_keys(client, second)
    marks.add("go")
    assert first.wait().result() == second.wait().result() == "go!"
    assert first.run_id != second.run_id
    assert marks.count("waits-for-go") == 2


# -- retries -----------------------------------------------------------------------------


def test_a_retry_counts_run_numbers_and_keeps_every_attempt(runner, marks):
    @task(max_retries=2, retry_delay=0.05)
    def flaky():
        number = marks.add("flaky", f"{context.task_run_number} {context.attempt}")
        if number < 3:
            raise ValueError(f"not yet {number}")
        return number

    with Flow("flaky") as flow:
        flaky()
    run = runner.run(flow)
    assert run.result() == 3
    assert marks.texts("flaky") == ["1 1", "2 2", "3 3"]
    attempts = run["flaky"].attempts
    assert [(a.number, a.run_number, a.submission, a.outcome) for a in attempts] == [
        (1, 1, 1, "retrying"),
        (2, 2, 2, "retrying"),
        (3, 3, 3, "success"),
    ]
    assert [a.error for a in attempts] == [
        "ValueError: not yet 1",
        "ValueError: not yet 2",
        None,
    ]
    assert all(a.started < a.ended and a.worker.startswith("tcp://") for a in attempts)
    shown = [e.new for e in run.history if e.task_run is not None]
    assert [s for s in shown if s != "Running"] == [
        "Retrying", "Pending", "Retrying", "Pending", "Success",
    ]  # fmt: skip


def test_a_retry_sends_the_unfinished_rest_of_its_cone_again_and_nothing_else(runner, marks):
    @task
    def body(name, *upstream):
        marks.add(name)

    @task(max_retries=1, retry_delay=0.05)
    def flaky(before):
        if marks.add("flaky") == 1:
            raise ValueError("once")

    with Flow("cone") as flow:
        root = body("root")
        body("beside", root)
        tried = flaky(root)
        after = body("after", tried)
        body("last", after)
    run = runner.run(flow)
    assert run.state.is_successful()
    assert {n: marks.count(n) for n in ("root", "beside", "flaky", "after", "last")} == {
        "root": 1, "beside": 1, "flaky": 2, "after": 1, "last": 1,
    }  # fmt: skip
    submissions = [[a.submission for a in task_run.attempts] for task_run in run.task_runs]
    assert submissions == [[1], [1], [1, 2], [2], [2]]


def test_a_waiting_retry_holds_no_slot_and_nothing_outside_its_cone_waits(runner, marks):
    @task(max_retries=1, retry_delay=2)
    def flaky():
        if marks.add("flaky") == 1:
            raise ValueError("once")

    @task
    def short(n):
        marks.add("short")

    with Flow("slots") as flow:
        # First in the plan, and the most urgent: it holds the only slot that there is for it.
        flaky(task_args={"workers": [address := next(iter(runner.client.nthreads()))]})
        for n in range(20):
            short(n, task_args={"workers": [address]})
    run = runner.run(flow)
    assert run.state.is_successful()
    first, second = marks.times("flaky")
    assert second - first >= 2
    assert max(marks.times("short")) < second
    assert len(run["flaky"].attempts) == 2


@pytest.mark.parametrize(
    ("trigger", "ends_well"),
    [
        (triggers.all_successful, True),
        (triggers.all_finished, True),
        (triggers.any_failed, True),
        (triggers.any_failed, False),
        (triggers.all_finished, False),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_join_of_a_diamond_runs_once_with_final_states(runner, marks, trigger, ends_well):
    @task(max_retries=2, retry_delay=0.05)
    def flaky(x):
        if marks.add("flaky") < 3 or not ends_well:
            raise ValueError("again")
        return "flaky"

    @task
    def slow(x):
        # Ends between the other arm's attempts.
        marks.wait("flaky", 2)
        return "slow"

    @task(trigger=trigger)
    def join(left, right):
        marks.add("join", f"{left or 'missing'} {right}")

    with Flow("diamond") as flow:
        root = one()
        join(flaky(root), slow(root))
    run = runner.run(flow)
    assert marks.count("flaky") == 3
    if trigger is triggers.any_failed and ends_well:
        assert marks.count("join") == 0
        assert isinstance(run["join"].state, states.TriggerFailed)
    else:
        assert marks.texts("join") == ["flaky slow" if ends_well else "missing slow"]
        assert run["join"].state.is_successful()


def test_a_signal_may_ask_for_a_retry_beyond_max_retries(runner, marks):
    @task
    def polls():
        if marks.add("polls") < 3:
            raise signals.RETRY("not there", delay=0.02)
        return "there"

    with Flow("poll") as flow:
        polls()
    run = runner.run(flow)
    assert run.result() == "there"
    assert [a.run_number for a in run["polls"].attempts] == [1, 2, 3]


def test_while_a_retry_waits_the_state_says_when_it_is_due(runner, marks):
    import pendulum

    @task(max_retries=1, retry_delay=600)
    def flaky():
        raise ValueError("once")

    with Flow("due") as flow:
        add(flaky())
    run = runner.start(flow)
    assert eventually(lambda: run["flaky"].state.is_retrying())
    state = run["flaky"].state
    assert 590 < (state.scheduled_time - pendulum.now("UTC")).total_seconds() <= 600
    # Its cone was taken back, so nothing of it is on the cluster.
    assert eventually(lambda: not our_keys(runner.client, run))
    assert run["add"].state.is_pending()
    run.cancel()
    run.wait()
    assert run.counts == {"Cancelled": 2}


# -- triggers and flow states --------------------------------------------------------------


def test_a_failure_is_a_value_that_triggers_see(runner, marks):
    @task
    def fails():
        raise ValueError("broken")

    @task(trigger=triggers.all_finished)
    def clean_up(x):
        marks.add("clean_up", f"{type(x).__name__} {x.slug} {type(x.exception).__name__}")
        return "cleaned"

    with Flow("failing") as flow:
        failed = fails()
        add(failed)
        clean_up(failed)
    run = runner.run(flow, return_tasks="all")
    assert isinstance(run.state, states.Failed)
    assert marks.texts("clean_up") == ["MissingResult fails ValueError"]
    assert type(run["add"].state) is states.TriggerFailed
    assert "root cause: fails: ValueError: broken" in run["add"].state.message
    with pytest.raises(UpstreamFailed) as caught:
        run["add"].result()
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="broken") as caught:
        run["fails"].result()
    assert any("attempt 1 of 1" in note for note in caught.value.__notes__)
    assert run["add"].attempts == []


def test_a_run_that_cannot_go_on_is_paused_and_keeps_what_it_needs(runner, client):
    @task(trigger=triggers.manual_only)
    def approve(x):
        return x

    with Flow("approval") as flow:
        add(approve(add.with_options(name="big")(b"x" * 1000, b"y")))
    run = runner.run(flow)
    assert isinstance(run.state, states.Paused)
    assert isinstance(run["approve"].state, states.Paused)
    only_input = {(f"big-{run.run_id}-0", -1, 1)}
    assert eventually(lambda: our_keys(client, run) == only_input)
    with pytest.raises(NotFinished):
        run["approve"].result()


def test_every_run_has_a_header_and_every_finished_one_a_time_and_a_worker(runner, client):
    with Flow("many") as flow:
        add(sum_of([add(one(), n) for n in range(30)]))
    run = runner.run(flow)
    assert len(run.states) == len(run) == 62
    assert run.counts == {"Success": 62}
    workers = set(client.nthreads())
    for row in run.table():
        assert row["worker"] in workers
        assert row["queued"] <= row["ended"]
        assert row["seconds"] >= 0
    assert max(Counter(e.task_run for e in run.history).values()) <= 6


@task
def sum_of(numbers):
    return sum(numbers)


# -- results ----------------------------------------------------------------------------------


@task
def payload(n=100_000):
    return b"p" * n


@task
def size_of(data):
    return len(data)


@pytest.fixture
def gathers(client, monkeypatch):
    """The keys that are gathered through the client."""
    found: list = []
    original = client._gather

    def observed(futures, *args, **kwargs):
        flat = futures if isinstance(futures, (list, tuple, set)) else [futures]
        found.extend(future.key for future in flat)
        return original(futures, *args, **kwargs)

    monkeypatch.setattr(client, "_gather", observed)
    return found


def test_large_results_stay_on_the_workers_and_small_ones_come_with_the_header(
    runner, client, gathers
):
    with Flow("sizes") as flow:
        size_of(payload())
    run = runner.run(flow, return_tasks=["payload"])
    assert run.result() == 100_000
    assert gathers == []
    state = run["payload"].state
    assert state.is_successful()
    with pytest.raises(ResultNotHere, match=r"payload \(bytes, 100 kB\) is on tcp://"):
        _ = state.result
    key = (f"payload-{run.run_id}-0", -1, 1)
    assert eventually(lambda: our_keys(client, run) == {key})
    assert run["payload"].result() == b"p" * 100_000
    assert gathers == [key]


def test_a_future_is_released_as_soon_as_nobody_can_need_it(runner, client, marks):
    # Apart, so that nothing stands behind the body that waits.
    here, there = ({"workers": address} for address in sorted(client.nthreads()))
    with Flow("release") as flow:
        gate = block(marks, task_args=here)
        size = size_of(payload(task_args=there), task_args=there)
        add(gate, size_of(payload(10, task_args=there), task_args=there), upstream_tasks=[size])
    run = runner.start(flow)
    marks.wait("waits-for-go")

    def left():
        return sorted(key[0].split("-")[0] for key in our_keys(client, run))

    # `add` waits, and all that stands directly before it; the payloads had other readers.
    assert eventually(lambda: left() == ["add", "block", "size_of", "size_of"], 5), left()
    marks.add("go")
    run.wait()
    assert eventually(lambda: left() == [])


def test_a_diamonds_input_is_held_while_the_other_arm_retries(runner, client, marks):
    @task(max_retries=1, retry_delay=600)
    def flaky(data):
        raise ValueError("once")

    with Flow("held") as flow:
        data = payload()
        size_of(data)
        flaky(data)
    run = runner.start(flow)
    eventually(lambda: run["flaky"].state.is_retrying() and run["size_of"].state.is_finished())
    assert eventually(lambda: len(our_keys(client, run)) == 1)
    assert our_keys(client, run) == {(f"payload-{run.run_id}-0", -1, 1)}
    run.cancel()
    run.wait()


@pytest.mark.parametrize(
    ("keep", "held"),
    [("reference", {"payload-3"}), ("none", set()), ("all", {"payload", "payload-2", "payload-3"})],
)
def test_keep_says_what_is_held_after_the_end(runner, client, keep, held):
    with Flow("keep") as flow:
        first = payload()
        second = payload(upstream_tasks=[first])
        payload(upstream_tasks=[second])
    run = runner.run(flow, keep=keep)
    positions = {f"payload-{run.run_id}-{n}": t.slug for n, t in enumerate(run.task_runs)}

    def kept():
        return {positions[key[0]] for key in our_keys(client, run)}

    assert eventually(lambda: kept() == held), kept()
    assert {key[0] for key in client.futures} == {
        name for name, slug in positions.items() if slug in held
    }
    for slug in positions.values():
        if slug in held:
            assert len(run[slug].result()) == 100_000
        else:
            with pytest.raises(ResultReleased, match="keep it with return_tasks="):
                run[slug].result()
    run.release()
    assert eventually(lambda: not tasks_on(client))
    if held:
        with pytest.raises(ResultReleased):
            run["payload-3"].result()


def test_a_run_that_nobody_holds_leaves_nothing_on_the_cluster(runner, client):
    with Flow("dropped") as flow:
        payload()
    run = runner.run(flow)
    assert tasks_on(client)
    runner.last_run = None
    del run
    assert eventually(lambda: not tasks_on(client), 5), tasks_on(client)


def test_parameters_and_constants_are_no_dask_tasks(runner, client, marks):
    from dask_taskrunner import Parameter

    with Flow("constants") as flow:
        x = Parameter("x", default=1)
        add(add(x, 2), sum_of([x, 3, block_number(marks)]))
    run = runner.start(flow, x=10)
    marks.wait("waits-for-go")
    eventually(lambda: len(tasks_on(client)) >= 5)
    # `add` may have finished already; nothing else is there but the shared definition.
    names = {key[0].split("-")[0] for key in tasks_on(client)}
    assert names <= {"add", "sum_of", "block_number", "definition"}
    marks.add("go")
    assert run.wait().result() == 10 + 2 + 10 + 3 + 5


@task
def block_number(marks):
    marks.add("waits-for-go")
    marks.wait("go")
    return 5


# -- cancelling -----------------------------------------------------------------------------


def test_cancel_starts_nothing_more_and_says_whose_code_was_running(runner, client, marks):
    with Flow("cancelled") as flow:
        gates = [block(marks, "go") for _ in range(2)]
        for _n in range(40):
            touch(marks, upstream_tasks=gates)
        for _n in range(40):
            touch(marks)
    run = runner.start(flow)
    marks.wait("waits-for-go", 2)
    assert eventually(lambda: len(run.still_running) == 2)
    before = marks.count("touch")
    began = time.monotonic()
    run.cancel()
    run.wait()
    assert time.monotonic() - began < 2
    assert isinstance(run.state, states.Cancelled)
    running = run.still_running
    assert [task_run.slug for task_run in running] == ["block", "block-2"]
    for task_run in running:
        text = task_run.state.message
        assert text.startswith("asked to stop; its code was running on tcp://")
    assert eventually(lambda: not tasks_on(client))
    marks.add("go")
    assert eventually(lambda: not run.still_running)
    assert marks.count("touch") == before
    # News that comes later fills the attempt, and changes no state.
    assert [[a.outcome for a in t.attempts] for t in running] == [["success"]] * 2
    assert all(isinstance(t.state, states.Cancelled) for t in running)


@task
def touch(marks):
    marks.add("touch")


def test_a_cancel_takes_effect_within_one_slice(runner, client, marks):
    with Flow("slices") as flow:
        for _n in range(1500):
            block(marks, "go")
    sent = []
    original = client.map

    def observed(function, calls, *args, **kwargs):
        sent.append(len(calls))
        if len(sent) == 1:
            eventually(lambda: runner.last_run).cancel()
        return original(function, calls, *args, **kwargs)

    client.map = observed
    try:
        run = runner.start(flow)
        run.wait()
    finally:
        del client.map
    assert sum(sent) <= 1000
    assert run.counts == {"Cancelled": 1500}
    marks.add("go")
    assert eventually(lambda: not tasks_on(client))


def test_a_second_run_works_after_a_cancelled_one(runner, marks):
    with Flow("again") as flow:
        block(marks)
    run = runner.start(flow)
    marks.wait("waits-for-go")
    run.cancel()
    marks.add("go")
    run.wait()
    assert runner.run(flow).result() == "go"


def test_a_result_is_what_a_pickle_makes_of_it(runner):
    @task
    def made():
        return {"a": (1, 2.5, None), "b": [b"x", "y", True]}

    with Flow("small") as flow:
        made()
    run = runner.run(flow)
    header = run.task_runs[0]._record.header
    assert pickle.loads(header.small) == run.result()
    assert run["made"].state.result == {"a": (1, 2.5, None), "b": [b"x", "y", True]}
