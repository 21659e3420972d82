"""How results go: released, dropped, fetched at the end, and taken over by others."""

from __future__ import annotations

import gc

import pytest
from fakes.fake_backend import FakeFuture
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, exceptions, signals, states, task
from dask_taskrunner.keeping import keep_results

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


@task
def fails(text="no"):
    raise KeyError(text)


class Large(Exception):
    pass


def fails_large():
    raise Large(LARGE)


def raises(signal):
    raise signal


# --- release -------------------------------------------------------------------------------------


def test_a_released_result_is_gone_and_a_small_one_is_known(runner):
    large, small = runner.submit(give, LARGE), runner.submit(give, 5)
    large.result(PATIENCE)
    small.result(PATIENCE)
    for future in (large, small):
        future.release()
        future.release()
    runner.settled()
    assert eventually(lambda: large._id not in runner.records)
    for future in (large, small):
        assert future.done()
        assert isinstance(future.state, states.Success)
        assert future.exception(PATIENCE) is None
    assert small.result() == 5
    with pytest.raises(exceptions.ResultReleased, match="the result of"):
        large.result(PATIENCE)
    with pytest.raises(exceptions.ResultReleased):
        large.future  # noqa: B018


def test_what_is_released_early_goes_on(runner):
    gate = Gate("goes on")
    done = _DONE["works"] = []
    future = runner.submit(_works, gate)
    gate.wait()
    future.release()
    assert not future.done()
    gate.open()
    assert eventually(lambda: done)
    assert future.exception(PATIENCE) is None
    with pytest.raises(exceptions.ResultReleased):
        future.result(PATIENCE)


#: By name, for what a task refers to is pickled.
_DONE: dict[str, list[int]] = {}


def _works(gate):
    gate.pass_through()
    _DONE["works"].append(1)
    return LARGE


def test_what_is_dropped_goes_on_and_is_forgotten(runner):
    gate = Gate("dropped")
    _DONE["works"] = []
    runner.submit(_works, gate)
    runner.map(give, range(5))
    gate.open()
    assert eventually(lambda: _DONE["works"])
    assert eventually(lambda: not runner.records)
    assert eventually(lambda: not runner.channel._specs)
    assert eventually(lambda: not runner.channel._held)


def test_what_is_released_before_it_was_heard_of_says_so(runner, monkeypatch):
    # As the machine's thread would have it that has not looked yet.
    future = runner.submit(give, 5)
    future.result(PATIENCE)
    runner.driver.drop((future._id,))
    assert eventually(lambda: future._id not in runner.records)
    future._is_held = False
    assert future.done()
    assert "is not known any more: its future was released" in future.state.message
    for method in (future.result, future.exception):
        with pytest.raises(exceptions.ResultReleased):
            method(PATIENCE)


def test_many_calls_leave_nothing_behind(runner):
    for n in range(300):
        assert runner.submit(give, n).result(PATIENCE) == n
    assert eventually(lambda: not runner.records)
    assert eventually(lambda: not runner.channel._specs)
    assert eventually(lambda: not runner.channel._held)
    assert not runner.driver.machine.counts
    assert not runner.driver.machine.history
    assert not runner.driver._ends._waiters._waiters
    assert not runner.driver._ends._coming
    assert len(runner.session._stock._codes) == 1


@pytest.mark.parametrize("f", [fails, fails_large])
def test_who_was_told_of_a_failure_holds_on_to_nothing(runner, f):
    # Without the collector: what nobody holds any more goes at once.
    gc.disable()
    try:
        kept = runner.submit(f).exception(PATIENCE)
        with pytest.raises((KeyError, Large)):
            runner.submit(f).result(PATIENCE)
        runner.submit(give, runner.submit(f)).exception(PATIENCE)
        assert eventually(lambda: not runner.records)
    finally:
        gc.enable()
    assert isinstance(kept, KeyError | Large)


# --- at the end ----------------------------------------------------------------------------------


def test_live_futures_are_fetched_at_the_end_smallest_first(make_runner, finish):
    runner = make_runner()
    with Flow("etl") as flow:
        give(LARGE * 3)
    run = finish(flow)
    small, middle, large = (runner.submit(give, LARGE * n) for n in (1, 2, 4))
    dropped = runner.submit(give, LARGE)
    dropped.result(PATIENCE)
    del dropped
    runner.leave()
    keep_results([run.holder, runner.session.holder], 65_000)
    assert small.result() == LARGE
    assert middle.result() == LARGE * 2
    assert run.result() == LARGE * 3
    with pytest.raises(exceptions.ResultReleased) as caught:
        large.result()
    assert str(caught.value) == (
        "the result of give-3 (40 kB) was not fetched: the runner closed, and fetch_limit was used "
        "up"
    )
    (note,) = runner.session.listener.notes
    assert note.text == "not fetched when the runner closed, beyond fetch_limit: give-3 (40 kB)"


def test_results_are_fetched_together_at_the_end(make_runner, monkeypatch):
    runner = make_runner()
    futures = runner.map(give, [LARGE] * 20)
    failed = runner.submit(fails_large)
    failed.exception(PATIENCE)
    futures.results(timeout=PATIENCE)
    runner.leave()
    calls = []
    fetch_many, fetch = runner.channel.fetch_many, runner.channel.fetch
    monkeypatch.setattr(
        runner.channel, "fetch_many", lambda ids, t: calls.append(len(ids)) or fetch_many(ids, t)
    )
    monkeypatch.setattr(runner.channel, "fetch", lambda *a: calls.append(a) or fetch(*a))
    keep_results([runner.session.holder], 10**6)
    assert len(calls) <= 2
    assert futures.results() == [LARGE] * 20
    assert isinstance(failed.exception(), Large)


def test_what_was_fetched_goes_with_its_future(make_runner):
    runner = make_runner()
    future = runner.submit(give, LARGE)
    future.result(PATIENCE)
    runner.leave()
    keep_results([runner.session.holder], 10**6)
    assert future.result() == LARGE
    assert runner.driver.values._fetched
    del future
    assert not runner.driver.values._fetched


# --- the plain value for others ------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, LARGE, None], ids=["small", "large", "none"])
def test_future_is_the_clusters_own_of_the_plain_value(runner, value):
    theirs = runner.submit(give, value).future
    assert isinstance(theirs, FakeFuture)
    assert theirs.value == value


@pytest.mark.parametrize("f", [fails, fails_large])
def test_future_of_a_failure_fails(runner, f):
    failed = runner.submit(f)
    with pytest.raises((KeyError, Large)):
        failed.future  # noqa: B018  # the fake cluster runs it at once


def test_future_of_what_did_not_run_fails_with_what_result_raises(runner):
    gate = Gate("did not run")
    behind = runner.submit(give, runner.submit(fails))
    cancelled = runner.submit(give, runner.submit(gate.pass_through))
    cancelled.cancel()
    with pytest.raises(exceptions.UpstreamFailed):
        behind.future  # noqa: B018
    with pytest.raises(exceptions.TaskCancelled):
        cancelled.future  # noqa: B018
    gate.open()


def test_future_of_what_did_not_finish_says_so(runner):
    paused = runner.submit(raises, signals.PAUSE("ask somebody"))
    with pytest.raises(exceptions.NotFinished):
        paused.future  # noqa: B018
