"""How long a run would have taken on other workers, or with other bodies."""

from __future__ import annotations

import math
import random

import pytest

from dask_taskrunner import Flow, OptionError, UnknownTask, task
from dask_taskrunner.insight.readings import Execution, Node, Reading
from dask_taskrunner.insight.replays import predict
from dask_taskrunner.insight.waits import places_of, spent
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes


@task
def one(*xs):
    return 1


@task
def numbers():
    return [*range(8)]


@task(max_retries=3, retry_delay=30)
def fit(x):
    return x


def sleepers(count, seed=0):
    """Return a flow of so many tasks, and how long each takes."""
    with Flow("sleep") as flow:
        for _ in range(count):
            one()
    slugs = [bound.slug for bound in flow.sorted_tasks()]
    durations = random.Random(seed)
    return flow, [takes(slug, durations.uniform(0.05, 0.5)) for slug in slugs]


def test_sixty_sleeping_tasks_on_four_workers_tell_how_long_two_take():
    flow, faults = sleepers(60)
    measured = InProcessRunner(*faults, workers=4).run(flow)
    real = InProcessRunner(*faults, workers=2).run(flow).critical_path().seconds
    assert measured.what_if(workers=2).seconds == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("then", "now"), [(4, 2), (2, 4), (3, 1), (1, 8)])
def test_a_random_graph_takes_as_long_as_predicted(seed, then, now):
    numbers = random.Random(seed)
    with Flow("random") as flow:
        bound = []
        for _ in range(25):
            bound.append(one(*numbers.sample(bound, min(len(bound), numbers.randrange(3)))))
    faults = [takes(each.slug, numbers.uniform(1, 10)) for each in bound]
    measured = InProcessRunner(*faults, workers=then).run(flow)
    real = InProcessRunner(*faults, workers=now).run(flow).critical_path().seconds
    predicted = measured.what_if(workers=now)
    assert predicted.seconds == pytest.approx(real, rel=0.15)
    assert predicted.unchanged == pytest.approx(predicted.measured, rel=0.15)


def test_threads_are_places_like_workers():
    flow, faults = sleepers(20)
    run = InProcessRunner(*faults, workers=2, threads=2).run(flow)
    unchanged = run.what_if()
    assert (unchanged.workers, unchanged.threads) == (2, 2)
    assert unchanged.seconds == pytest.approx(run.what_if(workers=4, threads=1).seconds)
    assert run.what_if(threads=1).seconds > 1.5 * unchanged.seconds


def test_faster_bodies_of_a_mapped_task_are_those_of_all_its_children():
    with Flow("map") as flow:
        one(fit.map(numbers()))
    run = InProcessRunner(takes("numbers", 3), takes("fit", 8), workers=2).run(flow)
    assert run.what_if().seconds == pytest.approx(35)
    assert run.what_if({"fit": 0.5}).seconds == pytest.approx(19)
    assert run.what_if({fit: 0.5}, workers=8).seconds == pytest.approx(7)
    assert run.what_if({"fit[0]": 0, "numbers": 2}, workers=8).seconds == pytest.approx(14)


def test_a_factor_for_a_child_and_one_for_all_are_multiplied():
    with Flow("map") as flow:
        fit.map(numbers())
    run = InProcessRunner(takes("fit", 8), workers=8).run(flow)
    assert run.what_if({"fit": 0.5, "fit[3]": 4}).seconds == pytest.approx(16)


def test_a_flow_used_as_a_task_and_what_has_grown_stand_for_all_inside():
    from dask_taskrunner import expand

    @task
    def grows():
        with Flow("inner") as inner:
            fit(1)
        return expand(inner)

    with Flow("part") as part:
        fit(1)
    with Flow("outer") as flow:
        part.as_task()()
        grows()
    run = InProcessRunner(
        takes("part/fit", 10), takes("grows", 1), takes("grows/fit", 4), workers=2
    ).run(flow)
    assert run.what_if().seconds == pytest.approx(10)
    assert run.what_if({"part": 0.1}).seconds == pytest.approx(5)
    assert run.what_if({"part": 0.1, "grows": 3}).seconds == pytest.approx(15)


def test_retries_wait_as_long_as_they_did_and_take_no_place_meanwhile():
    with Flow("retry") as flow:
        fit(1)
        one()
    run = InProcessRunner(takes("fit", 2), takes("one", 20), fail("fit", attempts=1)).run(flow)
    measured = run.critical_path().seconds
    assert run.what_if().seconds == pytest.approx(measured)
    assert run.what_if({"fit": 0.5}).seconds == pytest.approx(measured - 2)


def test_what_a_dead_worker_took_along_is_replayed_on_as_many_workers_as_there_were():
    with Flow("lost") as flow:
        one(fit(1))
    run = InProcessRunner(takes("fit", 5), takes("one", 1), kill_worker("fit")).run(flow)
    predicted = run.what_if()
    assert predicted.workers == 1
    assert predicted.seconds == pytest.approx(run.critical_path().seconds)


def test_a_run_of_nothing_takes_nothing():
    with Flow("given") as flow:
        one()
    first = InProcessRunner().run(flow)
    state = first["one"].state
    run = InProcessRunner().run(flow, task_states={"one": type(state)(1)})
    assert run.what_if(workers=3).seconds == 0


# --- by hand: what things cost besides their bodies ----------------------------------------------


def node(n, began, ended, worker, *upstream, ready=0.0, nbytes=0, name="t", **needs):
    ids = tuple(((source, -1), False) for source in upstream)
    needed = tuple(sorted(needs.items()))
    body = Execution(ready, began, ended, worker, "success", needs=needed)
    id = ((n, -1), False)
    return Node(id, f"{name}-{n}", name, ids, ready, ended, (body,), (n, -1, n), {}, nbytes, True)


def reading(*nodes, seconds):
    bodies = tuple(body for each in nodes for body in each.executions)
    return Reading({each.id: each for each in nodes}, seconds, bodies)


def seconds(run, factors=None, workers=None, threads=None):
    return predict(run, {}, factors or {}, workers, threads).seconds


def test_the_start_the_changes_and_the_end_cost_what_they_did():
    # 0.2 s until the first begins, 0.1 s between two, and 0.3 s of news at the end.
    run = reading(
        node(0, 0.2, 1.2, "w1"),
        node(1, 0.2, 1.2, "w2"),
        node(2, 1.3, 2.3, "w1"),
        node(3, 1.3, 2.3, "w2"),
        seconds=2.6,
    )
    assert seconds(run) == pytest.approx(2.6)
    assert seconds(run, workers=4) == pytest.approx(1.5)
    assert seconds(run, workers=1) == pytest.approx(0.2 + 4 * 1 + 3 * 0.1 + 0.3)


def test_a_link_of_a_chain_costs_what_it_did_on_any_workers():
    run = reading(
        node(0, 0.1, 1.1, "w1"),
        node(1, 1.3, 2.3, "w1", 0, ready=1.1),
        node(2, 2.5, 3.5, "w1", 1, ready=2.3),
        seconds=3.5,
    )
    assert seconds(run, workers=5) == pytest.approx(3.5)
    assert seconds(run, {((1, -1), False): 0.5}) == pytest.approx(3.0)


def test_a_large_result_travels_only_where_it_does_not_lie():
    # A link costs 0.1 s; 100 MB take a second more.
    run = reading(
        node(0, 0.1, 1.1, "w1", nbytes=100_000_000),
        node(1, 1.2, 9.2, "w1", 0, ready=1.1),
        node(2, 2.2, 9.2, "w2", 0, ready=1.1),
        seconds=9.2,
    )
    assert seconds(run) == pytest.approx(9.2)
    # On one worker nothing travels, and one waits for the other.
    assert seconds(run, workers=1) == pytest.approx(1.2 + 8 + 7)


def test_what_is_further_downstream_goes_first():
    # Else the chain of 1 and 2 would begin behind 3, and end last.
    run = reading(
        node(0, 0, 1, "w1"),
        node(1, 1, 2, "w1", 0, ready=1.0),
        node(2, 2, 12, "w1", 1, ready=2.0),
        node(3, 0, 2, "w2"),
        seconds=12,
    )
    assert seconds(run, workers=1) == pytest.approx(14)


def test_what_needs_a_resource_waits_until_its_worker_has_it_again():
    # Two places, and one connection: the other place is free all the time, and of no use.
    run = reading(
        node(0, 0, 2, "w1", DB=1),
        node(1, 2, 4, "w1", DB=1),
        node(2, 4, 6, "w1", DB=1),
        node(3, 0, 1, "w1"),
        seconds=6,
    )
    assert seconds(run) == pytest.approx(6)
    assert seconds(run, workers=2) == pytest.approx(4)
    assert seconds(run, workers=3) == pytest.approx(2)
    assert seconds(run, threads=8) == pytest.approx(6)
    waited = spent(run.nodes[(2, -1), False], places_of(run))
    assert (waited.queued, waited.overhead) == (4, 0)


def test_a_worker_that_came_late_has_as_many_places_as_the_others():
    # It was never seen to run more than one: nothing there had waited for a place.
    run = reading(
        node(0, 0, 4, "w1"),
        node(1, 0, 4, "w1"),
        node(2, 0, 3, "w2"),
        node(3, 3, 4, "w2", ready=0.0),
        seconds=4,
    )
    waited = spent(run.nodes[(3, -1), False], places_of(run))
    assert (waited.queued, waited.overhead) == (0, 3)


def test_what_needs_nothing_passes_what_waits_for_a_resource():
    run = reading(
        node(0, 0, 5, "w1", DB=2),
        node(1, 5, 6, "w1", DB=1),
        node(2, 5, 6, "w1", DB=1),
        node(3, 0, 3, "w1"),
        node(4, 3, 4, "w1"),
        seconds=6,
    )
    # 1 and 2 come first, and leave the second place to 3 and 4.
    assert seconds(run) == pytest.approx(6)
    assert seconds(run, {((3, -1), False): 2.0}) == pytest.approx(7)


def test_more_than_one_resource_must_be_there_at_once():
    run = reading(
        node(0, 0, 3, "w1", A=1),
        node(1, 0, 2, "w1", B=1),
        node(2, 3, 4, "w1", A=1, B=1),
        seconds=4,
    )
    assert seconds(run) == pytest.approx(4)
    assert seconds(run, {((1, -1), False): 2.0}) == pytest.approx(5)


# --- what it is asked ----------------------------------------------------------------------------


def run_of_one():
    with Flow("one") as flow:
        one()
    return InProcessRunner(takes("one", 2)).run(flow)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_and_threads_are_whole_numbers(workers):
    with pytest.raises(OptionError, match="workers must be a whole number from 1"):
        run_of_one().what_if(workers=workers)
    with pytest.raises(OptionError, match="threads must be a whole number from 1"):
        run_of_one().what_if(threads=workers)


def test_a_number_of_numpys_is_one():
    import numpy

    predicted = run_of_one().what_if({"one": numpy.float64(0.5)}, workers=numpy.int64(3))
    assert (predicted.seconds, predicted.workers) == (pytest.approx(1), 3)


@pytest.mark.parametrize("factor", [-1, math.inf, math.nan, "half", None, True])
def test_a_factor_is_a_number(factor):
    with pytest.raises(OptionError, match=r"'one' can take 0\.5 or 2 times as long, but not"):
        run_of_one().what_if({"one": factor})


def test_a_factor_is_for_a_task_of_the_run():
    with pytest.raises(UnknownTask, match="two"):
        run_of_one().what_if({"two": 0.5})
    with pytest.raises(OptionError, match=r"a dict such as \{'fit': 0.5\}, not 'fit'"):
        run_of_one().what_if("fit")


def test_in_words_it_says_what_was_asked_and_how_far_it_is_to_be_trusted():
    predicted = run_of_one().what_if({"one": 0.5}, workers=3)
    assert str(predicted) == (
        "with one x 0.5, on 3 workers of 1 thread: 1.0 s; it took 2.0 s, "
        "and replayed as it was 2.0 s"
    )
