"""What is true of the critical path, the slack and the replay of any run, whatever its shape."""

from __future__ import annotations

import itertools
import random

import pytest

from dask_taskrunner import Flow, task
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes

pytestmark = pytest.mark.many

#: More than any of these flows has task runs.
MANY = 60


@task(max_retries=2, retry_delay=7)
def one(*xs):
    return 1


@task(max_retries=2, retry_delay=7)
def child(x):
    return x


@task
def numbers(*xs):
    return [0, 1, 2]


class Case:
    """A random flow, how long everything takes in it, and what goes wrong."""

    def __init__(self, seed, *, faults=True, kills=True):
        self.numbers = random.Random(seed)
        with Flow("random") as self.flow:
            self._build()
        slugs = [bound.slug for bound in self.flow.sorted_tasks()]
        self.seconds = {slug: self.numbers.uniform(1, 10) for slug in slugs}
        self.faults = [takes(slug, seconds) for slug, seconds in self.seconds.items()]
        tried = [slug for slug in slugs if not slug.startswith("numbers")]
        if faults:
            for slug in self.numbers.sample(tried, 2):
                self.faults.append(fail(slug, attempts=self.numbers.randint(1, 2)))
        if faults and kills:
            self.faults.append(kill_worker(self.numbers.choice(tried)))

    def _build(self):
        bound = []
        for _ in range(self.numbers.randint(6, 14)):
            sources = self.numbers.sample(bound, min(len(bound), self.numbers.randrange(4)))
            if self.numbers.random() < 0.7:
                bound.append(one(*sources))
                continue
            children = child.map(numbers(*sources))
            if self.numbers.random() < 0.5:
                children = child.map(children)
            bound.append(one(children))

    def run(self, workers, threads=1):
        return InProcessRunner(*self.faults, workers=workers, threads=threads).run(self.flow)


SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_path_is_a_chain_of_upstream_runs_that_explains_all_the_time(seed):
    run = Case(seed).run(workers=random.Random(seed).randint(1, 5))
    path = run.critical_path()
    records = {record.plan.slug: record for record in run._driver.machine.records.values()}
    assert path[0].began == 0
    for before, step in itertools.pairwise(path):
        assert step.began == pytest.approx(before.ended)
        # What it waited for, or a part of that.
        named = {
            run._driver.machine.records[id].plan.slug for id in records[step.slug].plan.upstream
        }
        assert {before.slug, before.slug.partition("[")[0]} & named
    assert path[-1].ended == pytest.approx(path.seconds)
    assert sum(path.spent.values()) == pytest.approx(path.seconds)
    assert min(path.slack.values()) >= 0
    assert all(path.slack[step.slug] == 0 for step in path)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_slower_by_its_slack_changes_nothing_and_by_more_that_much(seed):
    # With places for all, for what else a delay leads to is no matter of slack.
    case = Case(seed, faults=False)
    run = case.run(workers=MANY)
    slack, whole = run.critical_path().slack, run.critical_path().seconds
    assert run.what_if().seconds == pytest.approx(whole, abs=1e-4)
    for each in run.task_runs:
        if each.children:
            continue
        seconds = each.attempts[0].ended - each.attempts[0].started
        for more in (0.0, 2.0):
            factor = (seconds + slack[each.slug] + more) / seconds
            predicted = run.what_if({each.slug: factor}, workers=MANY).seconds
            assert predicted == pytest.approx(whole + more, abs=1e-4), each.slug


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_whole_the_slack_is_what_its_parts_allow(seed):
    run = Case(seed, kills=False).run(workers=3)
    slack = run.critical_path().slack
    ends = {each.slug: each.attempts[-1].ended for each in run.task_runs if not each.children}
    for each in run.task_runs:
        if each.children:
            latest = max(ends[one.slug] + slack[one.slug] for one in each.children)
            ended = max(ends[one.slug] for one in each.children)
            assert slack[each.slug] == pytest.approx(latest - ended, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_of_what_was_takes_as_long_as_it_did(seed):
    # What a dead worker's results cost to make again is no part of it.
    workers = random.Random(seed).randint(1, 5)
    predicted = Case(seed, kills=False).run(workers).what_if()
    assert predicted.seconds == predicted.unchanged
    assert predicted.seconds == pytest.approx(predicted.measured, rel=0.2)


@pytest.mark.parametrize("seed", SEEDS)
def test_faster_bodies_and_more_places_are_slower_by_no_more_than_a_list_scheduler_may_be(seed):
    # Graham's anomalies: what begins earlier may take a place from what more hangs on.
    case = Case(seed)
    run = case.run(workers=3)
    unchanged = run.what_if().seconds
    slug = case.numbers.choice(sorted(case.seconds))
    bound = unchanged * (2 - 1 / 3)
    assert run.what_if({slug: 0.5}).seconds <= bound
    assert run.what_if(workers=4).seconds <= unchanged * (1 + 2 / 4)
    # Where all have a place there are none.
    free = [run.what_if({slug: factor}, workers=MANY).seconds for factor in (0.0, 0.5, 1.0, 2.0)]
    assert free == sorted(free)
    assert free[2] <= unchanged + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_no_prediction_is_below_what_the_work_itself_takes(seed):
    case = Case(seed)
    run = case.run(workers=4)
    bodies = [
        attempt.ended - attempt.started
        for each in run.task_runs
        for attempt in each.attempts
        # What was executed once more after its end is no part of what the run waited for.
        if attempt.outcome != "re-executed"
    ]
    for workers, threads in ((1, 1), (2, 1), (3, 2)):
        seconds = run.what_if(workers=workers, threads=threads).seconds
        assert seconds >= sum(bodies) / (workers * threads) - 1e-6
        assert seconds <= sum(bodies) + len(bodies) * 14 + 1e-6
