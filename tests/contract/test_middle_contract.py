"""What every backend promises of what a run does not make itself: shared, given, cached states."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fakes.bare_run import BareRun
from fakes.gates import eventually

from dask_taskrunner import Flow, MissingResult, signals, task, triggers
from dask_taskrunner.backend import Backend, Constant
from dask_taskrunner.given_states import Given
from dask_taskrunner.packing import Packer
from dask_taskrunner.states import CachedState, Success

LARGE = "x" * 10_000
OpenRun = Callable[[Flow], BareRun]


@task
def give(value):
    return value


@task(skip_on_upstream_skip=False)
def add(x, y):
    return x.slug + y if isinstance(x, MissingResult) else x + y


@task
def skips():
    raise signals.SKIP("nothing")


@task(trigger=triggers.any_failed)
def never(x):
    return x


@task(cache_for=timedelta(hours=1))
def cached(value):
    return value


def sums(source: Any, name: str = "give") -> Flow:
    with Flow("sums") as flow:
        add(source(LARGE, task_args={"name": name}), "y")
    return flow


def change(run: BareRun, slug: str, **fields: Any) -> None:
    """Tell the cluster something else of a task run."""
    id = run.id(slug)
    run.channel.add({id: run.plan.specs[id]._replace(**fields)})


def made(open_run: OpenRun, source: Any = give) -> BareRun:
    run = open_run(sums(source))
    run.send("give")
    run.hear("give")
    return run


def test_a_backend_and_its_channels_are_in_one_place(open_run: OpenRun, backend: Backend):
    first, second = made(open_run), made(open_run)
    assert first.channel.place is second.channel.place is backend.place
    assert backend.is_at_hand(first.channel.share(first.id("give")))


def test_a_state_is_shared_with_another_run_and_outlives_the_first(
    open_run: OpenRun, backend: Backend
):
    first = made(open_run)
    shared = backend.share(first.channel.share(first.id("give")))
    first.channel.close()
    second = open_run(sums(give))
    change(second, "give", held=shared)
    assert second.channel.holds(second.id("give"))
    second.send("add")
    assert second.hear("add").state == "Success"
    assert second.fetch("add") == LARGE + "y"
    assert second.fetch("give") == LARGE
    second.channel.release([second.id("give")])
    assert not second.channel.holds(second.id("give"))


def test_a_state_of_another_run_has_the_name_that_it_has_here(open_run: OpenRun):
    with Flow("skipped") as flow:
        skips()
    first = open_run(flow)
    first.send("skips")
    first.hear("skips")
    second = open_run(sums(give))
    change(second, "give", held=first.channel.share(first.id("skips")))
    change(second, "add", known_as={0: "give"})
    second.send("add")
    second.hear("add")
    assert second.fetch("add") == "givey"


def test_a_state_that_is_given_by_value_is_there_for_its_readers(open_run: OpenRun):
    run = open_run(sums(give))
    given = Given("give", Success(LARGE))
    wire = given.wire(given.header(run.id("give")), Packer())
    change(run, "give", wire=wire)
    run.send("add")
    run.hear("add")
    assert run.fetch("add") == LARGE + "y"
    assert run.fetch("give") == LARGE


def test_what_is_gone_or_somebody_elses_is_not_shared(
    open_run: OpenRun, backend: Backend, cancel: Callable[[BareRun, str], None]
):
    run = made(open_run)
    shared = run.channel.share(run.id("give"))
    assert backend.share(shared) is not None
    cancel(run, "give")
    assert eventually(lambda: backend.share(shared) is None)
    run.channel.release([run.id("give")])
    assert run.channel.share(run.id("give")) is None


def test_a_trigger_that_is_ignored_is_not_asked(open_run: OpenRun):
    with Flow("etl") as flow:
        never(give(1))
    for ignores, state in ((False, "TriggerFailed"), (True, "Success")):
        run = open_run(flow)
        change(run, "never", ignores_trigger=ignores)
        run.send("give", "never")
        assert run.hear("never").state == state


def test_a_run_begins_with_the_state_that_it_is_given(open_run: OpenRun):
    state = CachedState(cached_result="earlier", cached_inputs={"value": LARGE})
    data = pickle.dumps(state)
    for fields in ({"initial": data}, {"cached": Constant(data)}):
        run = open_run(sums(cached))
        change(run, "give", **fields)
        run.send("give")
        header = run.hear("give")
        assert (header.state, header.message, header.started) == ("Success", "cached result", None)
        assert run.fetch("give") == "earlier"
        run.channel.settle([run.id("give")])


def test_a_run_begins_with_what_another_one_has_cached(open_run: OpenRun, backend: Backend):
    first = made(open_run, cached)
    for _ in range(2):
        second = open_run(sums(cached))
        change(second, "give", cached=backend.share(first.channel.share(first.id("give"))))
        second.send("give", "add")
        header = second.hear("give")
        assert (header.message, header.started) == ("cached result", None)
        second.hear("add")
        assert second.fetch("add") == LARGE + "y"
        second.channel.settle([second.id("give")])


def test_what_another_one_had_cached_may_be_gone(
    open_run: OpenRun, backend: Backend, cancel: Callable[[BareRun, str], None]
):
    first = made(open_run, cached)
    shared = first.channel.share(first.id("give"))
    second = open_run(sums(cached))
    change(second, "give", cached=backend.share(shared))
    cancel(first, "give")
    assert eventually(lambda: backend.share(shared) is None)
    second.send("give")
    assert second.hear("give").started is not None
