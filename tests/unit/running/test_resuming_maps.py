"""Resumed flow runs with mapped tasks: taken over child by child."""

from __future__ import annotations

import pytest
from fakes.gates import PATIENCE, Gate
from fakes.ran import RAN, ran

from dask_taskrunner import (
    Flow,
    MissingResult,
    Parameter,
    context,
    exceptions,
    signals,
    states,
    task,
    triggers,
    unmapped,
)
from dask_taskrunner.view.tally import Tally

#: Too much for a header.
LARGE = "x" * 2_000


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


def large(value):
    return f"{value}" + "x" * 2_000


@task
def rows(values):
    ran("rows")
    return [large(value) for value in values]


@task
def clean(x, bad=()):
    ran(context.slug)
    if x[0] in bad:
        raise ValueError(x[0])
    return x[0] + "c" + x[1:]


@task
def fit(x):
    ran(context.slug)
    return x[0] + "f" + x[1:]


@task
def first_letters(xs):
    ran(context.slug)
    return "".join(x[0] for x in xs)


def etl(bad, values="012"):
    with Flow("etl") as flow:
        first_letters(fit.map(clean.map(rows(values), unmapped(bad))))
    return flow


def told(run):
    return run.notes[0].text


def test_only_the_children_that_failed_run_again_and_what_is_behind_them(finish):
    first = finish(etl("1"))
    assert first["fit"].state.counts == {"Success": 2, "TriggerFailed": 1}
    RAN.clear()
    run = finish(etl(""), resume=first)
    assert RAN == ["clean[1]", "fit[1]", "first_letters"]
    assert run.result() == "012"
    assert told(run) == "reuses 5 task runs, runs 3"
    assert run["clean"].state.counts == {"Success": 3}
    assert [child.slug for child in run["fit"].children] == ["fit[0]", "fit[1]", "fit[2]"]
    assert [len(child.attempts) for child in run["fit"].children] == [0, 1, 0]
    assert run.counts == {"Success": 8}
    assert not run._driver.machine.validate()
    tally = Tally(run.names)
    tally.feed(run.history)
    assert (tally.finished, tally.total) == (8, 8)


def test_children_that_fail_again_fail_again(finish):
    first = finish(etl("1"))
    second = finish(etl("1"), resume=first)
    assert second["clean"].state.counts == {"Success": 2, "Failed": 1}
    assert second["clean"].state.root_cause == ("clean[1]", "ValueError: 1")
    RAN.clear()
    third = finish(etl(""), resume=second)
    assert RAN == ["clean[1]", "fit[1]", "first_letters"]
    assert third.result() == "012"


def test_what_succeeded_as_a_whole_is_taken_over_as_a_whole(finish):
    @task
    def checked(text, good):
        ran(context.slug)
        if not good:
            raise ValueError(text)
        return text

    def flow(good):
        with Flow("etl") as flow:
            checked(first_letters(fit.map(clean.map(rows("01")))), good)
        return flow

    first = finish(flow(False))
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["checked"]
    assert run["fit"].state == first["fit"].state
    assert told(run) == "reuses 6 task runs, runs 1"


def test_children_whose_results_are_gone_are_computed_again_where_they_are_read(finish):
    first = finish(etl(""))
    RAN.clear()
    run = finish(etl(""), resume=first, rerun=["fit[1]"])
    # All letters are read, and of the rest what they are made from.
    assert sorted(RAN) == [
        "clean[0]", "clean[1]", "clean[2]", "first_letters", "fit[0]", "fit[1]", "fit[2]", "rows",
    ]  # fmt: skip
    assert run.result() == "012"
    assert told(run) == (
        "reuses 0 task runs, runs 2, computes 6 again because their results are gone"
    )
    kept = finish(etl(""), return_tasks=["fit"])
    RAN.clear()
    run = finish(etl(""), resume=kept, rerun="fit[1]")
    assert RAN == ["rows", "clean[1]", "fit[1]", "first_letters"]
    assert run.result() == "012"


def test_one_child_needs_one_child(finish):
    first = finish(etl(""), return_tasks=["rows", "fit"])
    RAN.clear()
    run = finish(etl(""), resume=first, rerun=["fit[1]"])
    assert RAN == ["clean[1]", "fit[1]", "first_letters"]
    assert told(run) == ("reuses 5 task runs, runs 2, computes 1 again because its result is gone")
    assert run.notes[1].text == "computed again, for a result is gone: clean[1]"


def test_where_what_is_mapped_over_runs_again_all_children_do(finish):
    first = finish(etl("1"), keep="all")
    RAN.clear()
    run = finish(etl("", "0123"), resume=first, rerun=["rows"])
    assert len(RAN) == 10
    assert run.result() == "0123"
    assert told(run) == "reuses 0 task runs, runs 2 and the children of clean, fit"


def test_where_what_is_mapped_over_is_gone_it_is_made_again_for_the_children_that_run(finish):
    first = finish(etl("1"), return_tasks=["fit"])
    first._driver.channel.release([first._plan.ids["rows"]])
    RAN.clear()
    run = finish(etl(""), resume=first)
    assert RAN == ["rows", "clean[1]", "fit[1]", "first_letters"]
    assert run.result() == "012"


def test_what_is_made_again_with_another_length_is_told_by_the_children_that_read_it(finish):
    first = finish(etl("1"), return_tasks=["fit"])
    first._driver.channel.release([first._plan.ids["rows"]])
    run = finish(etl("", "0123"), resume=first)
    text = "rows had 3 elements when clean[1] was mapped over it, and was made again with 4"
    assert text in run["clean[1]"].state.message
    assert run["clean"].state.counts == {"Success": 2, "Failed": 1}


def test_what_is_made_again_may_fail_and_then_its_readers_are_told(finish):
    @task
    def fickle(good):
        ran(context.slug)
        if not good:
            raise ValueError("not today")
        return [large(0), large(1)]

    @task(trigger=triggers.all_finished)
    def look(xs):
        return [x.slug if isinstance(x, MissingResult) else x[0] for x in xs]

    def flow(bad, *, good=True):
        with Flow("fickle") as flow:
            look(clean.map(fickle(good), unmapped(bad)))
        return flow

    first = finish(flow("1"), return_tasks=["clean"])
    first._driver.channel.release([first._plan.ids["fickle"]])
    run = finish(flow("", good=False), resume=first)
    assert type(run["clean[1]"].state) is states.TriggerFailed
    assert run.result("look") == ["0", "clean[1]"]


def test_a_constant_list_of_another_length_maps_anew(finish):
    def flow(values, bad=""):
        with Flow("constants") as flow:
            first_letters(clean.map([large(value) for value in values], unmapped(bad)))
        return flow

    first = finish(flow("012", "1"))
    RAN.clear()
    assert finish(flow("012"), resume=first).result() == "012"
    assert RAN == ["clean[1]", "first_letters"]
    RAN.clear()
    run = finish(flow("0123"), resume=first)
    assert run.result() == "0123"
    assert len(RAN) == 5
    assert told(run) == "reuses 0 task runs, runs 5"


def test_a_changed_parameter_that_all_children_take_runs_all(finish):
    with Flow("parameters") as flow:
        bad = Parameter("bad", default="1")
        first_letters(fit.map(clean.map(rows("01"), unmapped(bad))))
    first = finish(flow, keep="all")
    RAN.clear()
    run = finish(flow, resume=first, parameters={"bad": ""})
    assert sorted(RAN) == ["clean[0]", "clean[1]", "first_letters", "fit[0]", "fit[1]"]
    assert told(run) == "reuses 1 task run, runs 5"
    assert run.result() == "01"


def test_a_list_with_tasks_in_it_runs_those_children_whose_tasks_run(finish):
    @task
    def make(value, good):
        ran(context.slug)
        if not good:
            raise ValueError(value)
        return large(value)

    def flow(good):
        with Flow("own") as flow:
            first_letters(fit.map([make(0, True), make(1, good), make(2, True)]))
        return flow

    first = finish(flow(False))
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["make-2", "fit[1]", "first_letters"]
    assert run.result() == "012"


def test_a_state_edge_that_runs_again_runs_all_children(finish):
    @task
    def lock(good):
        ran(context.slug)
        if not good:
            raise ValueError("taken")

    def flow(good):
        with Flow("order") as flow:
            after = lock(good)
            fit.map(rows("01"), upstream_tasks=[after])
        return flow

    first = finish(flow(False))
    assert type(first["fit"].state) is states.TriggerFailed
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert sorted(RAN) == ["fit[0]", "fit[1]", "lock"]
    again = finish(flow(True), resume=run, rerun="lock")
    assert told(again) == (
        "reuses 0 task runs, runs 3, computes 1 again because its result is gone"
    )


def test_skips_of_children_and_of_maps_are_taken_over(finish):
    @task
    def even(x):
        ran(context.slug)
        if int(x[0]) % 2:
            raise signals.SKIP("odd")
        return x

    @task
    def nothing():
        raise signals.SKIP("nothing to do")

    @task
    def last(xs, ys, good):
        ran(context.slug)
        if not good:
            raise ValueError("no")
        return xs, ys

    def flow(good):
        with Flow("skips") as flow:
            last(
                even.map(rows("012")),
                fit.map(nothing()),
                good,
                task_args={"skip_on_upstream_skip": False},
            )
        return flow

    first = finish(flow(False))
    assert type(first["fit"].state) is states.Skipped
    RAN.clear()
    run = finish(flow(True), resume=first)
    assert RAN == ["last"]
    assert run["even"].state.counts == {"Success": 2, "Skipped": 1}
    assert type(run["fit"].state) is states.Skipped
    assert isinstance(run.result()[1], MissingResult)


def test_a_map_over_nothing_stays_one(finish):
    first = finish(etl("", ""), keep="all")
    assert first.result() == ""
    RAN.clear()
    run = finish(etl("", ""), resume=first, rerun=["first_letters"])
    assert RAN == ["first_letters"]
    assert run.result() == ""
    assert told(run) == "reuses 1 task run, runs 1"


def test_children_of_a_cancelled_map_that_had_ended_are_taken_over(start, finish):
    gate = Gate("cancelled map")

    @task
    def waits(x):
        ran(context.slug)
        if x[0] == "1":
            gate.pass_through()
        return x

    with Flow("cancelled") as flow:
        first_letters(waits.map(rows("012")))
    first = start(flow)
    gate.wait()
    first._driver.wait_for(lambda: first["waits[2]"].state.is_finished(), PATIENCE)
    first._driver.wait_for(lambda: first["waits[0]"].state.is_finished(), PATIENCE)
    first.cancel()
    first.wait(PATIENCE)
    gate.open()
    assert type(first["waits"].state) in (states.Cancelled, states.Mapped)
    RAN.clear()
    run = finish(flow, resume=first)
    # What had ended was held for the list of all, which never ran.
    assert RAN == ["waits[1]", "first_letters"]
    assert run.result() == "012"


def test_who_reads_the_list_gets_old_and_new_children_in_their_order_and_by_their_names(finish):
    @task(trigger=triggers.all_finished)
    def names(xs):
        return [x.slug if isinstance(x, MissingResult) else x[:2] for x in xs]

    def flow(bad):
        with Flow("names") as flow:
            names(clean.map(rows("0123"), unmapped(bad)))
        return flow

    first = finish(flow("02"))
    assert first.result("names") == ["clean[0]", "1c", "clean[2]", "3c"]
    run = finish(flow("0"), resume=first)
    assert run.result("names") == ["clean[0]", "1c", "2c", "3c"]


def test_state_handlers_of_a_map_hear_of_what_the_rest_comes_to(finish):
    heard = []

    def handler(task, old, new):
        heard.append((type(old).__name__, type(new).__name__))

    def flow(bad):
        with Flow("handled") as flow:
            clean.map(rows("01"), unmapped(bad), task_args={"state_handlers": [handler]})
        return flow

    first = finish(flow("1"))
    heard.clear()
    finish(flow(""), resume=first)
    assert ("Pending", "Running") in heard
    assert ("Running", "Mapped") in heard


def test_child_slugs_to_rerun_must_be_known(start, finish):
    first = finish(etl("1"), keep="all")
    for slug, text in [
        ("clean[3]", "had 3 children in the earlier run, and no"),
        ("clean[x]", "no task"),
        ("cl[1]", "no task"),
    ]:
        with pytest.raises(exceptions.UnknownTask, match=text):
            start(etl(""), resume=first, rerun=[slug])
    RAN.clear()
    finish(etl(""), resume=first, rerun=["clean[0]"])
    assert sorted(RAN) == ["clean[0]", "clean[1]", "first_letters", "fit[0]", "fit[1]"]


def test_a_cancel_while_the_rest_runs_lets_go_of_what_was_taken_over(start, finish):
    gate = Gate("cancelled rest")

    @task
    def waits(x, good):
        if not good:
            raise ValueError(x[0])
        gate.pass_through()
        return x

    def flow(good):
        with Flow("cancelled") as flow:
            first_letters(waits.map([fit(large(0)), fit(large(1))], good=[True, good]))
        return flow

    gate.open()
    first = finish(flow(False))
    gate.opened.clear()
    gate.reached.clear()
    run = start(flow(True), resume=first)
    gate.wait()
    run.cancel()
    run.wait(PATIENCE)
    gate.open()
    assert run["waits[0]"].state.is_successful()
    assert type(run["waits[1]"].state) is states.Cancelled
    again = finish(flow(True), resume=run)
    assert again.result() == "01"
