"""Why something has not run yet, while the run goes on; and that nothing breaks the answers."""

from __future__ import annotations

import random

import pytest
from fakes.growing_cluster import GrowingCluster
from fakes.machine_story import WALL, Story
from fakes.mapped_plans import Over
from fakes.model_cluster import ModelCluster
from fakes.random_flows import Walk, make_plan, random_plan, random_scripts
from fakes.random_growth import random_growth
from fakes.random_maps import random_maps

from dask_taskrunner.insight.durations import time_of
from dask_taskrunner.insight.paths import critical_path
from dask_taskrunner.insight.pending import Moment
from dask_taskrunner.insight.readings import node_id, read
from dask_taskrunner.insight.reasons import reasons_for
from dask_taskrunner.insight.repeats import repeats_of
from dask_taskrunner.insight.replays import predict


def why(story, n, stalled=""):
    """Return the reasons, each as kind and text."""
    machine = story.machine
    moment = Moment(WALL + story.now, machine.final, stalled)
    found = reasons_for(story.record(n), machine.records, moment)
    return [(one.kind, one.text) for one in found]


def test_what_waits_names_what_runs_at_the_end_of_the_chain():
    # All are sent at once: it is the cluster that keeps the order.
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.begins(0, "w7")
    story.now = 2.0
    assert why(story, 2) == [
        ("running", "t0 has been running for 2.0 s (attempt 1, w7)"),
        ("waits", "t1 waits for t0"),
        ("waits", "t2 waits for t1"),
    ]


def test_what_waits_for_a_retry_says_when_it_is_due():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.ends(0, "Retrying", delay=30.0)
    story.now = 10.0
    assert why(story, 1) == [
        ("retry-due", "t0 is due again in 20.0 s: Retrying"),
        ("waits", "t1 waits for t0"),
    ]
    story.now = 31.0
    assert why(story, 0) == [("retry-due", "t0 is due again now: Retrying")]


def test_what_runs_says_where_and_for_how_long():
    story = Story({0: ()})
    story.starts()
    assert why(story, 0) == [
        (
            "submitted",
            (
                "t0 was sent, and no worker has said that it runs: "
                "it waits for a place or for its inputs there, or has only just begun"
            ),
        )
    ]
    story.begins(0, "w7")
    story.now = 3.0
    assert why(story, 0) == [("running", "t0 has been running for 3.0 s (attempt 1, w7)")]


def test_what_stands_still_begins_with_what_was_found_out_about_it():
    story = Story({0: ()})
    story.starts()
    found = why(story, 0, stalled="no worker is connected; 1 task run waits")
    assert found[0] == ("stalled", "no worker is connected; 1 task run waits")
    assert [kind for kind, _ in found] == ["stalled", "submitted"]


def test_before_the_run_begins_all_is_about_to_be_sent():
    story = Story({0: ()})
    assert why(story, 0) == [("sending", "t0 is about to be sent")]


def test_what_has_paused_is_told_before_what_runs():
    story = Story({0: (), 1: (), 2: (0, 1)})
    story.starts()
    story.begins(0)
    story.ends(1, "Paused", body=False)
    assert why(story, 2) == [
        ("paused", "t1 has paused; run.approve('t1') lets it go on"),
        ("waits", "t2 waits for t0, t1"),
    ]


def test_a_mapped_run_is_explained_by_a_child_that_goes_on():
    story = Story(make_plan({0: (), 1: (0,)}, maps={0: Over(lengths=(3,))}, lists={1: (0,)}))
    story.starts()
    story.wakes()
    story.ends((0, 0))
    story.begins((0, 1), "w7")
    assert why(story, 0) == [
        ("running", "t0[1] has been running for 0 ms (attempt 1, w7)"),
        ("parts", "t0: 1 of 3 have finished"),
    ]
    assert [kind for kind, _ in why(story, 1)] == ["running", "parts", "waits"]


def test_a_graph_that_is_being_planned_says_so():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    assert why(story, 1) == [
        ("growing", "t0 has returned a graph, which is being planned"),
        ("waits", "t1 waits for t0"),
    ]
    story.grows(0, {2: (), 3: (2,)}, [3])
    story.wakes()
    story.begins(2)
    assert [kind for kind, _ in why(story, 1)] == ["running", "parts", "waits"]


def test_a_value_that_is_made_again_is_what_is_waited_for():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.end(0)
    story.loses_value(0)
    assert why(story, 0) == [("succeeded", "t0 succeeded")]
    story.wakes()
    assert why(story, 1) == [
        ("made-again", "the result of t0 was lost, and is made again"),
        ("waits", "t1 waits for t0"),
    ]


def test_a_child_whose_value_is_made_again_is_too():
    story = Story(make_plan({0: (), 1: (0,)}, maps={0: Over(lengths=(2,))}, lists={1: (0,)}))
    story.starts()
    story.wakes()
    story.end((0, 0), (0, 1))
    story.wakes()
    story.loses_value((0, 1))
    assert why(story, 1) == [
        ("made-again", "the result of t0[1] was lost, and is made again"),
        ("waits", "t1 waits for t0"),
    ]


def test_after_a_lost_cluster_what_is_not_known_says_so():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.begins(0, "w7")
    story.loses_cluster()
    (first, _), (kind, text) = why(story, 0)
    assert (first, kind) == ("run-ended", "run-ended")
    assert text == "t0 not known: no answer; last heard: running on w7"


def test_what_belongs_to_another_run_says_so():
    story = Story(make_plan({0: (), 1: (0,)}, roles={0: "foreign"}))
    story.starts()
    assert why(story, 1)[0] == ("foreign", "t0 belongs to another run, which goes on")


# --- whatever happens ----------------------------------------------------------------------------

KINDS = frozenset(
    {
        "double", "drop", "report", "kill", "kill under", "report and kill", "retire", "vanish",
        "execute again", "error", "cancel by another",
    }
)  # fmt: skip


def check(machine, history):
    """Ask everything of everything, and check what is true of any answer."""
    records = dict(machine.records)
    moment = Moment(WALL, machine.final)
    reading = read(records, history)
    for record in records.values():
        found = reasons_for(record, records, moment)
        assert found
        assert all(one.text for one in found)
        again = repeats_of(record, records)
        assert len(again) >= min(len(record.values) - 1, 1)
        time, spent = time_of(record, node_id(record), records, reading)
        assert all(seconds >= 0 for seconds in spent.values())
        assert all(one.text for one in time)
    path = critical_path(reading)
    assert all(slack >= 0 for slack in path.slack.values())
    assert sum(step.seconds for step in path) <= path.seconds + 1e-6
    assert all(path.slack[step.slug] < 1e-5 for step in path[-1:])
    replayed = predict(reading, {}, {}, 2, 1)
    assert 0 <= replayed.seconds < float("inf")
    assert str(path)
    assert str(replayed)


def walk(cluster, rng):
    walk = Walk(cluster, rng, faults=rng.randint(0, 12), kinds=KINDS)
    moves = rng.randint(0, 60)
    if rng.random() < 0.5:
        walk.walk()
        return
    # In the middle of it, too.
    cluster.start()
    for _ in range(moves):
        if possible := cluster.moves():
            cluster.do(rng.choice(possible))


@pytest.mark.parametrize("batch", range(6))
def test_any_run_of_any_flow_can_be_explained_at_any_time(batch):
    for seed in range(batch * 50, batch * 50 + 50):
        rng = random.Random(seed)
        if seed % 2:
            plan, scripts = random_maps(rng, max_crash_retries=2, again=("retry",))
        else:
            plan = random_plan(rng, max_crash_retries=2)
            scripts = random_scripts(rng, plan, ("retry",))
        cluster = ModelCluster(plan, scripts, allowed_failures=0)
        walk(cluster, rng)
        check(cluster.machine, cluster.machine.history)


@pytest.mark.parametrize("batch", range(4))
def test_calls_one_by_one_can_be_too(batch):
    for seed in range(batch * 50, batch * 50 + 50):
        rng = random.Random(seed)
        cluster: GrowingCluster = random_growth(
            seed, rng, budget=2, again=("retry",), is_exact=False
        )
        walk(cluster, rng)
        check(cluster.machine, cluster.all_history)
