"""``TaskRunFutures``, callbacks, ``cancel``, ``wait`` and ``as_completed``."""

from __future__ import annotations

import collections.abc
import threading

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import (
    MissingResult,
    TaskRunFutures,
    as_completed,
    exceptions,
    signals,
    task,
    triggers,
    wait,
)

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


def end_as(how):
    """Succeed, fail, or skip."""
    if how == "fail":
        raise ValueError("no")
    if how == "skip":
        raise signals.SKIP("nothing new")
    if how == "skip with":
        raise signals.SKIP("nothing new", 5)
    return how


@task(trigger=triggers.all_finished)
def look(x):
    return type(x.state).__name__ if isinstance(x, MissingResult) else x


def failed(runner):
    future = runner.submit(end_as, "fail")
    future.exception(PATIENCE)
    return future


# --- a sequence ----------------------------------------------------------------------------------


def test_futures_are_a_sequence_in_index_order(runner):
    futures = runner.map(give, range(5))
    assert isinstance(futures, collections.abc.Sequence)
    assert len(futures) == 5
    assert [f.slug for f in futures] == [f"give[{i}]" for i in range(5)]
    assert futures[1] is list(futures)[1]
    assert futures[-1].result(PATIENCE) == 4
    assert futures.index(futures[2]) == 2
    assert futures[2] in futures
    assert next(reversed(futures)) is futures[4]
    part = futures[1:4]
    assert isinstance(part, TaskRunFutures)
    assert part.results(timeout=PATIENCE) == [1, 2, 3]
    with pytest.raises(IndexError):
        futures[5]


def test_a_parts_results_outlive_the_whole(runner):
    part = runner.map(give, [LARGE + str(n) for n in range(5)])[3:]
    assert part.results(timeout=PATIENCE) == [LARGE + "3", LARGE + "4"]


def test_what_has_no_result_is_an_error_kept_or_dropped(runner):
    gate = Gate("missing")
    ways = ["ok", "fail", "skip", "skip with", "fine"]
    futures = TaskRunFutures([*runner.map(end_as, ways), runner.submit(gate.pass_through)], "all")
    gate.wait()
    futures[-1].cancel()
    gate.open()
    kept = futures.results("keep", PATIENCE)
    assert kept[0] == "ok"
    assert kept[3:5] == [5, "fine"]
    assert [type(kept[n].state).__name__ for n in (1, 2, 5)] == ["Failed", "Skipped", "Cancelled"]
    assert (kept[1].slug, kept[5].slug) == ("end_as[1]", "pass_through")
    assert not kept[1]
    assert futures.results("drop") == ["ok", 5, "fine"]
    with pytest.raises(exceptions.MappedFailed) as caught:
        futures.results()
    assert str(caught.value).startswith(
        "2 have no result: end_as[1]: ValueError: no; pass_through: "
    )
    assert isinstance(caught.value.__cause__, ValueError)
    assert futures[2:5].results() == [None, 5, "fine"]


def test_a_failed_map_counts_its_failures_and_names_the_first_three(runner):
    with pytest.raises(exceptions.MappedFailed) as caught:
        runner.map(end_as, ["fail"] * 5).results(timeout=PATIENCE)
    assert str(caught.value) == (
        "5 have no result: end_as[0]: ValueError: no; end_as[1]: ValueError: no; "
        "end_as[2]: ValueError: no and 2 more"
    )


@pytest.mark.parametrize("missing", ["skip", None, True])
def test_an_unknown_word_for_what_is_missing_is_refused(runner, missing):
    with pytest.raises(exceptions.OptionError, match="missing must be one of 'raise', 'keep', 'd"):
        runner.map(give, [1]).results(missing)


def test_results_have_one_time_limit_for_all(runner):
    gate = Gate("one limit")
    futures = TaskRunFutures([runner.submit(give, 1), runner.submit(gate.pass_through)])
    with pytest.raises(TimeoutError):
        futures.results(timeout=0.02)
    gate.open()
    assert futures.results(timeout=PATIENCE) == [1, None]


def test_a_large_result_that_cannot_be_opened_is_named(runner):
    def locks(n):
        return threading.Lock() if n == 1 else LARGE

    futures = runner.map(locks, range(3))
    with pytest.raises(exceptions.ResultNotSerializable, match=r"locks\[1\]"):
        futures.results(timeout=PATIENCE)


def test_counts_and_repr_say_what_failed_first(runner):
    gate = Gate("counts")
    futures = runner.map(end_as, ["ok", "fail", "skip", "ok"])
    futures.results("keep", PATIENCE)
    futures = TaskRunFutures([*futures, runner.submit(give, runner.submit(gate.pass_through))], "x")
    assert futures.counts == {"Success": 2, "Failed": 1, "Skipped": 1, "Pending": 1}
    assert repr(futures) == (
        "<TaskRunFutures x[5]\n  1 Failed\n  2 Success\n  1 Skipped\n  1 Pending>"
    )
    gate.open()


def test_all_are_cancelled_together(runner):
    gate = Gate("together")
    first = runner.submit(gate.pass_through)
    futures = runner.map(give, [1, 2], upstream_tasks=[first])
    gate.wait()
    futures.cancel()
    wait(futures, PATIENCE)
    assert futures.counts == {"Cancelled": 2}
    gate.open()
    assert first.result(PATIENCE) is None


def test_all_are_released_together_and_their_states_are_known(runner):
    futures = runner.map(give, [LARGE] * 3)
    futures.results(timeout=PATIENCE)
    futures.release()
    assert eventually(lambda: not runner.records)
    assert futures.counts == {"Success": 3}
    with pytest.raises(exceptions.ResultReleased):
        futures.results()


def test_futures_of_two_runners_have_their_results_together(make_runner):
    one, two = make_runner(), make_runner()
    mixed = TaskRunFutures(
        [*one.map(give, [LARGE, LARGE + "b"]), *two.map(give, [LARGE + "c", LARGE + "d"])][::-1]
    )
    assert mixed.results(timeout=PATIENCE) == [LARGE + s for s in ("d", "c", "b", "")]


# --- callbacks -----------------------------------------------------------------------------------


def test_callbacks_come_one_after_the_other_in_a_thread_kept_for_them(runner):
    seen, threads, gate = [], set(), Gate("callbacks")

    def note(future):
        threads.add(threading.current_thread().name)
        seen.append((future.slug, future.done()))

    def fails(future):
        seen.append("fails")
        raise RuntimeError("a callback's own")

    future = runner.submit(gate.pass_through)
    for callback in (note, fails, note):
        future.add_done_callback(callback)
    gate.open()
    told = ("pass_through", True)
    assert eventually(lambda: seen == [told, "fails", told])
    # Also what is added after the end.
    future.add_done_callback(note)
    assert eventually(lambda: len(seen) == 4)
    assert threads == {f"dask-taskrunner-callbacks-{runner.session.run_id}"}


def test_an_error_in_a_callback_is_logged(runner, caplog):
    def fails(future):
        raise RuntimeError("a callback's own")

    future = runner.submit(give)
    future.add_done_callback(fails)
    assert eventually(lambda: "RuntimeError: a callback's own" in caplog.text)


def test_a_callback_may_wait_for_results_and_submit(runner):
    found = []
    future = runner.submit(give, LARGE)
    future.add_done_callback(lambda f: found.append(runner.submit(len, f).result(PATIENCE)))
    assert eventually(lambda: found == [10_000])


def test_a_failed_and_a_cancelled_run_call_back_too(runner):
    seen, gate = [], Gate("call back")
    cancelled = runner.submit(gate.pass_through)
    for future in (failed(runner), cancelled):
        future.add_done_callback(lambda f: seen.append(type(f.state).__name__))
    gate.wait()
    cancelled.cancel()
    gate.open()
    assert eventually(lambda: sorted(seen) == ["Cancelled", "Failed"])


def test_a_future_that_was_dropped_calls_back(runner):
    seen, gate = [], Gate("dropped with a callback")
    runner.submit(gate.pass_through).add_done_callback(lambda f: seen.append(f.slug))
    gate.open()
    assert eventually(lambda: seen == ["pass_through"])


# --- cancel --------------------------------------------------------------------------------------


def test_what_waits_is_cancelled_and_what_waits_for_it_gets_its_trigger(runner):
    gate = Gate("what waits")
    first = runner.submit(gate.pass_through)
    second = runner.submit(give, first)
    third, last = runner.submit(give, second), runner.submit(look, second)
    assert second.cancel()
    assert second.cancelled()
    assert second.cancel()
    assert isinstance(third.exception(PATIENCE), exceptions.UpstreamFailed)
    assert last.result(PATIENCE) == "Cancelled"
    gate.open()
    assert first.result(PATIENCE) is None
    assert second.attempts == []


def test_what_runs_is_cancelled_and_says_so(runner):
    gate = Gate("what runs")
    future = runner.submit(gate.pass_through)
    gate.wait()
    assert eventually(future.running)
    assert future.cancel()
    assert future.state.message.startswith("asked to stop; its code was running on fake://")
    gate.open()


def test_what_is_done_is_not_cancelled(runner):
    future = runner.submit(give, 1)
    assert future.result(PATIENCE) == 1
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result() == 1


def test_what_waits_for_its_next_try_is_cancelled(runner):
    def fails():
        raise ValueError("no")

    future = runner.submit(fails, task_args={"max_retries": 1, "retry_delay": 1000})
    assert eventually(lambda: future.attempts)
    assert eventually(lambda: future.state.is_retrying())
    assert future.cancel()


# --- wait ----------------------------------------------------------------------------------------


def test_wait_returns_what_is_done_and_what_is_not(runner):
    gate = Gate("done and not")
    done, waits = runner.submit(give), runner.submit(gate.pass_through)
    found = wait([done, waits, done], return_when="FIRST_COMPLETED", timeout=PATIENCE)
    assert found == ({done}, {waits})
    assert (found.done, found.not_done) == found
    assert wait([done, waits], timeout=0.01) == ({done}, {waits})
    gate.open()
    assert wait([done, waits], PATIENCE) == ({done, waits}, set())


def test_wait_returns_at_the_first_that_did_not_succeed(runner):
    gate = Gate("first exception")
    waits, fine = runner.submit(gate.pass_through), runner.submit(give)
    bad = runner.submit(end_as, "fail")
    found = wait([waits, fine, bad], PATIENCE, "FIRST_EXCEPTION")
    assert bad in found.done
    assert found.not_done == {waits}
    gate.open()
    skipped = runner.submit(end_as, "skip")
    assert wait([skipped, fine, waits], PATIENCE, "FIRST_EXCEPTION").not_done == set()


def test_wait_takes_what_map_returned_and_nothing_at_all(runner):
    assert len(wait(runner.map(give, range(3)), PATIENCE).done) == 3
    for return_when in ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"):
        assert wait([], return_when=return_when) == (set(), set())


def test_waiting_in_vain_leaves_nothing_behind(runner):
    gate = Gate("in vain")
    future = runner.submit(gate.pass_through)
    for _ in range(10):
        wait([future], timeout=0)
        with pytest.raises(TimeoutError):
            next(as_completed([future], timeout=0))
    assert not runner.driver._ends._waiters._waiters
    gate.open()


@pytest.mark.parametrize("return_when", ["ALL", None, "all_completed"])
def test_wait_refuses_an_unknown_word(runner, return_when):
    with pytest.raises(exceptions.OptionError, match="return_when must be one of 'ALL_COMPLETED'"):
        wait([runner.submit(give)], return_when=return_when)


@pytest.mark.parametrize("function", [wait, as_completed])
def test_what_are_no_futures_is_refused(runner, function):
    name = function.__name__
    with pytest.raises(exceptions.OptionError, match=rf"write {name}\(\[future\]\)"):
        function(runner.submit(give))
    for wrong in ([5], "ab", [runner.submit(give).task_run], 5, None):
        with pytest.raises(exceptions.OptionError, match=f"{name} takes futures that a runner"):
            function(wrong)


# --- as_completed --------------------------------------------------------------------------------


def test_as_completed_gives_each_once_as_they_end(runner):
    gate = Gate("as they end")
    last, first = runner.submit(gate.pass_through), runner.submit(give)
    order = as_completed([last, first, last, failed(runner)], timeout=PATIENCE)
    assert len(order) == 3
    assert {next(order).slug, next(order).slug} == {"give", "end_as"}
    assert len(order) == 1
    gate.open()
    assert list(order) == [last]
    assert list(order) == []
    assert list(as_completed([])) == []


def test_as_completed_with_results_never_raises_for_a_failure(runner):
    gate = Gate("with results")
    cancelled = runner.submit(gate.pass_through)
    gate.wait()
    cancelled.cancel()
    gate.open()
    lock = runner.submit(lambda: threading.Lock())
    behind = runner.submit(give, failed(runner))
    paused = runner.submit(_pause)
    futures = [*runner.map(end_as, ["ok", "fail", "skip with"]), cancelled, lock, behind, paused]
    found = {f.slug: r for f, r in as_completed(futures, PATIENCE, with_results=True)}
    assert found["end_as-2[0]"] == "ok"
    assert found["end_as-2[2]"] == 5
    kinds = {slug: type(r).__name__ for slug, r in found.items() if isinstance(r, Exception)}
    assert kinds == {
        "end_as-2[1]": "ValueError",
        "pass_through": "TaskCancelled",
        "<lambda>": "ResultNotSerializable",
        "give": "UpstreamFailed",
        "_pause": "NotFinished",
    }


def _pause():
    raise signals.PAUSE("ask somebody")


def test_as_completed_has_a_time_limit_from_its_beginning(runner):
    gate = Gate("time limit")
    order = as_completed([runner.submit(gate.pass_through), runner.submit(give)], timeout=0.05)
    assert next(order).slug == "give"
    with pytest.raises(TimeoutError, match=r"1 futures have not ended after 0\.05 s"):
        next(order)
    gate.open()


def test_as_completed_keeps_nothing_alive_that_it_has_given(runner):
    order = as_completed(runner.map(give, [LARGE] * 3))
    for _ in range(3):
        next(order)
    assert eventually(lambda: not runner.records)
