"""Which results can be had after a run, from where, and which cannot."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE, Gate

from dask_taskrunner import Flow, exceptions, task
from dask_taskrunner.keeping import keep_results
from dask_taskrunner.machine.events import Loss

LARGE = "x" * 10_000


@task
def one():
    return 1


@task
def large():
    return LARGE


@task
def length(text):
    return len(text)


def make(*tasks):
    """Return a flow of calls without arguments."""
    with Flow("etl") as flow:
        for each in tasks:
            each()
    return flow


def chain():
    with Flow("etl") as flow:
        length(large())
        large()
    return flow


def test_a_result_that_nobody_needs_any_more_is_released(finish):
    run = finish(chain())
    assert run["large-2"].result() == LARGE
    with pytest.raises(exceptions.ResultReleased, match=r"keep it with return_tasks=\['large'\]"):
        run["large"].result()


def test_return_tasks_are_kept_besides(finish):
    assert finish(chain(), return_tasks=["large"])["large"].result() == LARGE
    assert finish(chain(), return_tasks="all")["large"].result() == LARGE


@pytest.mark.parametrize(
    ("keep", "held"), [("all", {"large", "large-2"}), ("reference", {"large-2"}), ("none", set())]
)
def test_keep_says_what_is_held_after_the_end(finish, keep, held):
    run = finish(chain(), keep=keep)
    assert {slug for slug, id in run._plan.ids.items() if run._driver.values.holds(id)} == held


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": "some"}, "keep must be one of 'reference', 'all', 'none', not 'some'"),
        ({"return_tasks": "large"}, "return_tasks must be a list of tasks or 'all', not 'large'"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_sent(start, backend, options, text):
    with pytest.raises(exceptions.OptionError, match=text):
        start(chain(), **options)
    assert backend.channels == {}


def test_only_flows_are_run(start):
    with pytest.raises(exceptions.OptionError, match="a runner runs a Flow, not 5"):
        start(5)


def test_a_small_result_outlives_its_future(finish):
    run = finish(make(one), keep="none")
    assert run.result() == 1


def test_release_lets_go_of_all_but_what_is_here(finish):
    run = finish(make(one, large))
    run.release()
    assert run["one"].result() == 1
    with pytest.raises(exceptions.ResultReleased):
        run["large"].result()
    run.release()


def test_release_is_refused_while_the_run_goes_on(start):
    gate = Gate("release")

    @task
    def waits():
        gate.pass_through()

    run = start(make(waits))
    with pytest.raises(exceptions.NotFinished, match="goes on and needs its results"):
        run.release()
    gate.open()


def test_results_are_fetched_before_the_cluster_ends_smallest_first(finish, backend):
    @task
    def of_size(n):
        return b"x" * n

    with Flow("etl") as flow:
        for n in (20_000, 1_000, 5_000):
            of_size(n)
    run = finish(flow)
    keep_results([run.holder], 10_000)
    assert len(run["of_size-2"].result()) == 1_000
    assert len(run["of_size-3"].result()) == 5_000
    with pytest.raises(exceptions.ResultReleased, match="was not fetched: the runner closed, and"):
        run["of_size"].result()
    assert run.notes[-1].text.startswith(
        "not fetched when the runner closed, beyond fetch_limit: of_"
    )
    assert backend.channels == {}


def test_one_result_that_breaks_at_the_close_keeps_no_other_from_being_fetched(
    finish, backend, monkeypatch
):
    run = finish(make(large, large))
    (channel,) = backend.channels.values()
    fetch = channel.fetch

    def broken(id, timeout):
        if id == (0, -1):
            raise OSError("the connection ended")
        return fetch(id, timeout)

    def all_broken(ids, timeout):
        raise OSError("the connection ended")

    monkeypatch.setattr(channel, "fetch", broken)
    monkeypatch.setattr(channel, "fetch_many", all_broken)
    keep_results([run.holder], 10**9)
    assert run["large-2"].result() == LARGE
    with pytest.raises(exceptions.ResultReleased, match="OSError: the connection ended"):
        run["large"].result()


def test_a_cluster_that_does_not_answer_at_the_close_is_waited_for_once(
    finish, backend, monkeypatch
):
    run = finish(make(large, large, one))
    (channel,) = backend.channels.values()
    asked = []

    def silent(ids, timeout):
        asked.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(channel, "fetch", silent)
    monkeypatch.setattr(channel, "fetch_many", silent)
    keep_results([run.holder], 10**9)
    # Together, and the first one alone.
    assert asked == [30, 30]
    for slug in ("large", "large-2"):
        with pytest.raises(exceptions.ResultReleased, match="results did not come within 30 s"):
            run[slug].result()
    assert run["one"].result() == 1


def test_nothing_is_fetched_from_a_cluster_that_is_lost(start, backend, monkeypatch):
    gate = Gate("lost")

    @task
    def waits(text):
        gate.pass_through()

    with Flow("lost") as flow:
        waits(large())
    run = start(flow)
    gate.wait()
    (channel,) = backend.channels.values()
    asked = []
    monkeypatch.setattr(channel, "fetch", lambda *args: asked.append(args))
    monkeypatch.setattr(channel, "fetch_many", lambda *args: asked.append(args))
    channel.lose_cluster()
    with pytest.raises(exceptions.ClusterLost):
        run.wait(PATIENCE)
    gate.open()
    keep_results([run.holder], 10**9)
    assert not asked
    with pytest.raises(exceptions.ResultReleased, match="of large is gone: the fake went away"):
        run["large"].result()


def test_a_result_that_cannot_be_fetched_at_the_close_is_told_when_asked_for(finish, backend):
    run = finish(make(large))
    (channel,) = backend.channels.values()
    channel.lose((0, -1), Loss("lost", "its worker went"))
    keep_results([run.holder], 10**9)
    with pytest.raises(exceptions.ResultReleased, match="ResultLost: the result of large is gone"):
        run.result()
