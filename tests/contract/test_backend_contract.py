"""What every backend promises: the fake, on which flow runs are tested, and Dask.

See :mod:`dask_taskrunner.backend`. A test here knows neither of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from fakes.bare_run import BareRun
from fakes.gates import eventually

from dask_taskrunner import Flow, context, exceptions, signals, task, triggers
from dask_taskrunner.backend import Backend
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import (
    Event,
    TaskRunEnded,
    TaskRunLost,
    ValueLost,
)
from dask_taskrunner.states import Success
from dask_taskrunner.worker.envelope import Envelope

#: What takes longer has failed.
PATIENCE = 20.0
LARGE = "x" * 10_000
#: Sent apart from the task runs.
HUGE = "y" * 300_000


@task
def give(value):
    return value


@task
def add(x, y):
    return x + y


@task
def fails(x=0):
    raise KeyError("no")


@task(max_retries=1, retry_delay=3)
def retries():
    if context.task_run_number == 1:
        raise ValueError("not yet")
    return context.attempt


@task(trigger=triggers.all_finished)
def look(x):
    return repr(x)


@task
def pauses():
    raise signals.PAUSE("wait")


@task
def runs_for(seconds):
    time.sleep(seconds)  # of a body that is to be reported as running


@task
def look_at_context():
    return [context.region, context.slug, context.attempt, context.task_run_number]


OpenRun = Callable[[Flow], BareRun]
Cancel = Callable[[BareRun, str], None]


class TestBackend:
    """One class for all backends."""

    # -- submit ---------------------------------------------------------------------------

    def test_each_run_stands_behind_its_upstream_runs_and_is_heard_of(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give(1), give(2))
        run = open_run(flow)
        run.send("give", "give-2", "add")
        header = run.hear("add")
        assert (header.state, header.submission, header.run_number) == ("Success", 1, 1)
        assert header.worker
        assert header.started is not None
        assert header.seconds is not None
        assert run.fetch("add") == 3

    def test_what_is_sent_later_finds_what_was_sent_before(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give(LARGE), "y")
        run = open_run(flow)
        run.send("give")
        run.hear("give")
        run.send("add")
        run.hear("add")
        assert run.fetch("add") == LARGE + "y"

    def test_a_large_result_stays_and_its_header_says_what_it_is(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
        run = open_run(flow)
        run.send("give")
        header = run.hear("give")
        assert (header.kind, header.small) == ("str", None)
        assert header.nbytes > 10_000
        assert run.fetch("give") == LARGE

    def test_a_failure_is_a_state_that_readers_see(self, open_run: OpenRun):
        with Flow("etl") as flow:
            failed = fails()
            look(failed)
            add(failed, 1)
        run = open_run(flow)
        run.send("fails", "look", "add")
        assert run.hear("fails").state == "Failed"
        assert run.hear("add").state == "TriggerFailed"
        assert run.hear("look").state == "Success"
        assert isinstance(run.fetch("fails"), KeyError)
        assert run.fetch("look").startswith("MissingResult('fails'")

    def test_what_stands_behind_an_unfinished_run_says_so_and_runs_nothing(self, open_run: OpenRun):
        with Flow("etl") as flow:
            look(retries())
            look(pauses())
        run = open_run(flow)
        run.send("retries", "look", "pauses", "look-2")
        retrying = run.hear("retries")
        assert (retrying.state, retrying.more["delay"]) == ("Retrying", 3.0)
        for slug, source in (("look", "retries"), ("look-2", "pauses")):
            header = run.hear(slug)
            assert (header.state, header.started) == ("Pending", None)
            assert tuple(header.more["waits_for"]) == run.id(source)
        assert run.hear("pauses").state == "Paused"

    def test_a_run_is_sent_again_under_a_new_number(self, open_run: OpenRun):
        with Flow("etl") as flow:
            look(retries())
        run = open_run(flow)
        run.send("retries", "look")
        run.hear("look")
        run.channel.release([run.id("retries"), run.id("look")])
        again = run.submission("retries", 2, run_number=2)
        run.channel.submit([again, run.submission("look", 2, retries=2)])
        header = run.hear("retries", 2)
        assert (header.state, header.submission, header.run_number) == ("Success", 2, 2)
        run.hear("look", 2)
        assert run.fetch("look") == "2"

    def test_a_state_may_come_by_value(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give("left out"), give(LARGE))
            look(fails())
        run = open_run(flow)
        # The client's own word, and one that came with a header.
        made = Header(
            *run.id("fails"), 1, 0, "Crashed", "its worker died", "", 1, None, None, 0.0, "", 0,
            None, {},
        )  # fmt: skip
        run.send("give-2")
        run.channel.submit([run.submission("look", fails=made)])
        run.hear("look")
        assert 'Crashed("its worker died")' in run.fetch("look")
        run.send("give")
        small = run.hear("give")
        run.channel.release([run.id("give")])
        run.channel.submit([run.submission("add", give=small)])
        run.hear("add")
        assert run.fetch("add") == "left out" + LARGE

    def test_the_context_is_there(self, open_run: OpenRun):
        with Flow("etl") as flow:
            look_at_context()
        run = open_run(flow)
        run.channel.submit([run.submission("look_at_context", 3, run_number=2)])
        run.hear("look_at_context", 3)
        assert run.fetch("look_at_context") == ["eu", "look_at_context", 3, 2]

    def test_a_body_that_runs_for_a_while_is_reported(self, open_run: OpenRun):
        with Flow("etl") as flow:
            runs_for(0.5)
        run = open_run(flow)
        run.send("runs_for")
        header = run.hear("runs_for")
        (report,) = run.began
        (body,) = report.bodies
        assert report.worker == header.worker
        assert (body.id, body.submission) == (run.id("runs_for"), 1)
        assert body.execution == header.execution
        assert body.started == header.started

    # -- what is shared, given, and somebody else's ----------------------------------------

    def test_a_large_argument_and_a_small_one_arrive(self, open_run: OpenRun):
        with Flow("etl") as flow:
            for n in range(3):
                add(HUGE, str(n), upstream_tasks=[give(n)])
        run = open_run(flow)
        (constant,) = run.plan.specs[run.id("add")].constants
        assert run.plan.specs[run.id("add-3")].constants == (constant,)
        run.send("give", "give-2", "give-3", "add", "add-2", "add-3")
        for n, slug in enumerate(("add", "add-2", "add-3")):
            run.hear(slug)
            assert run.fetch(slug) == HUGE + str(n)

    def test_a_large_argument_is_there_for_a_run_that_is_sent_again(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(HUGE, "a")
            add(HUGE, "b")
        run = open_run(flow)
        run.send("add")
        run.hear("add")
        run.channel.settle([run.id("add")])
        run.channel.release([run.id("add")])
        run.channel.submit([run.submission("add-2"), run.submission("add", 2, run_number=2)])
        run.hear("add", 2)
        run.hear("add-2")
        assert run.fetch("add") == HUGE + "a"
        assert run.fetch("add-2") == HUGE + "b"

    def test_many_references_arrive_in_their_order(self, open_run: OpenRun):
        with Flow("etl") as flow:
            sources = [give(n) for n in range(5)]
            look([*sources, HUGE, HUGE.encode()])
        run = open_run(flow)
        run.send(*(f"give-{n}" if n > 1 else "give" for n in range(1, 6)), "look")
        run.hear("look")
        assert run.fetch("look") == repr([0, 1, 2, 3, 4, HUGE, HUGE.encode()])

    def test_settling_what_was_never_sent_or_twice_is_nothing(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(HUGE, "a")
        run = open_run(flow)
        run.channel.settle([run.id("add")])
        run.send("add")
        run.hear("add")
        run.channel.settle([run.id("add"), run.id("add")])
        assert run.fetch("add") == HUGE + "a"

    def test_runs_may_come_later_and_go_before_the_end(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give(LARGE), HUGE)
        run = open_run(flow)
        run.send("give")
        run.hear("give")
        n, spec = len(run.plan.specs), run.plan.specs[run.id("add")]
        run.channel.add({(n, -1): spec._replace(slug="later")})
        run.channel.submit([Submission((n, -1), 1, 1, 1, (run.id("give"),), (1,))])
        while True:
            event = run.news.get(timeout=PATIENCE)
            if isinstance(event, TaskRunEnded) and event.id == (n, -1):
                break
        assert run.channel.fetch((n, -1), PATIENCE) == LARGE + HUGE
        run.channel.release([(n, -1)])
        run.channel.settle([(n, -1)])
        run.channel.forget([(n, -1)])
        assert run.fetch("give") == LARGE

    def test_a_state_can_be_shared_with_another_run_which_then_holds_it(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give(LARGE), "y")
        one, other = open_run(flow), open_run(flow)
        assert one.channel.share(one.id("give")) is None
        one.send("give")
        header = one.hear("give")
        assert header.small is None
        other.channel.hold(other.id("give"), one.channel.share(one.id("give")))
        one.channel.release([one.id("give")])
        assert one.channel.share(one.id("give")) is None
        assert other.channel.holds(other.id("give"))
        other.send("add")
        other.hear("add")
        assert other.fetch("add") == LARGE + "y"
        assert other.fetch("give") == LARGE

    def test_a_state_that_is_held_elsewhere_comes_with_the_spec(self, open_run: OpenRun):
        with Flow("etl") as flow:
            look(give(LARGE))
        one, other = open_run(flow), open_run(flow)
        one.send("give")
        one.hear("give")
        spec = other.plan.specs[other.id("give")]
        other.channel.add({other.id("give"): spec._replace(held=one.channel.share(one.id("give")))})
        other.send("look")
        other.hear("look")
        assert other.fetch("look") == repr(LARGE)

    def test_a_state_can_be_given_with_its_value(self, open_run: OpenRun):
        with Flow("etl") as flow:
            add(give("left out"), "y")
        run = open_run(flow)
        made = Header(
            *run.id("give"), 1, 0, "Success", None, "", 1, None, None, 0.0, "str", 10_000, None, {}
        )
        wire = Envelope(made, "give", Success(LARGE)).to_wire()
        run.channel.add({run.id("give"): run.plan.specs[run.id("give")]._replace(wire=wire)})
        run.send("add")
        run.hear("add")
        assert run.fetch("add") == LARGE + "y"
        assert run.fetch("give") == LARGE

    def test_the_plain_value_of_a_state_is_there_for_others(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
            look(fails())
        run = open_run(flow)
        run.send("give")
        header = run.hear("give")
        future = run.channel.value_future(run.id("give"), header)
        run.channel.release([run.id("give")])
        with pytest.raises(exceptions.ResultReleased):
            run.channel.value_future(run.id("give"), header)
        # It is of the cluster's own kind, and so may be an argument.
        spec = run.plan.specs[run.id("give")]
        n = len(run.plan.specs)
        run.channel.add({(n, -1): spec._replace(slug="theirs", foreign=future)})
        run.channel.submit([Submission((n, -1), 1, 1, 1, (), ())])
        while True:
            event = run.news.get(timeout=PATIENCE)
            if isinstance(event, TaskRunEnded) and event.id == (n, -1):
                break
        assert run.channel.fetch((n, -1), PATIENCE) == LARGE

    # -- release, holds -------------------------------------------------------------------

    def test_what_was_sent_is_held_until_it_is_released(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
            give(2)
        run = open_run(flow)
        assert not run.channel.holds(run.id("give"))
        run.send("give", "give-2")
        assert run.channel.holds(run.id("give"))
        run.hear("give")
        assert run.channel.holds(run.id("give"))
        run.channel.release([run.id("give")])
        assert not run.channel.holds(run.id("give"))
        assert run.channel.holds(run.id("give-2"))
        with pytest.raises(exceptions.ResultReleased, match=r"return_tasks=\['give'\]"):
            run.fetch("give")

    def test_releasing_what_is_not_held_is_nothing(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(1)
        run = open_run(flow)
        run.channel.release([run.id("give")])
        run.send("give")
        run.channel.release([run.id("give"), run.id("give")])

    def test_a_released_input_is_there_for_what_was_sent_behind_it(self, open_run: OpenRun):
        with Flow("etl") as flow:
            slow = runs_for(0.2)
            add(give(LARGE), "y", upstream_tasks=[slow])
        run = open_run(flow)
        run.send("runs_for", "give", "add")
        run.hear("give")
        run.channel.release([run.id("give")])
        run.hear("add")
        assert run.fetch("add") == LARGE + "y"

    def test_what_has_not_begun_and_is_released_never_begins(self, open_run: OpenRun):
        with Flow("etl") as flow:
            slow = runs_for(0.3)
            look(slow)
            give(1, upstream_tasks=[slow])
        run = open_run(flow)
        run.send("runs_for", "look", "give")
        run.channel.release([run.id("look")])
        run.hear("give")
        run.channel.submit([run.submission("look", 2)])
        run.hear("look", 2)
        assert ("look", 1) not in run.headers

    # -- fetch ----------------------------------------------------------------------------

    def test_a_value_that_does_not_come_in_time_is_a_timeout(self, open_run: OpenRun):
        with Flow("etl") as flow:
            runs_for(0.3)
        run = open_run(flow)
        run.send("runs_for")
        with pytest.raises(TimeoutError):
            run.fetch("runs_for", 0.01)
        assert run.fetch("runs_for") is None

    def test_a_value_that_cannot_be_sent_says_so(self, open_run: OpenRun):
        @task
        def makes_a_lock():
            import threading

            return threading.Lock()

        with Flow("etl") as flow:
            makes_a_lock()
        run = open_run(flow)
        run.send("makes_a_lock")
        assert run.hear("makes_a_lock").state == "Success"
        with pytest.raises(exceptions.ResultNotSerializable, match="makes_a_lock, a lock"):
            run.fetch("makes_a_lock")

    # -- fetch_header, sweep --------------------------------------------------------------

    def test_a_header_can_be_asked_for_and_is_the_same(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
        run = open_run(flow)
        run.send("give")
        first = run.hear("give")
        del run.headers["give", 1]
        run.channel.fetch_header(run.id("give"), 1)
        assert run.hear("give") == first

    def test_a_header_of_what_is_not_held_so_is_not_fetched(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(1)
            give(2)
        run = open_run(flow)
        run.channel.fetch_header(run.id("give"), 1)
        run.send("give", "give-2")
        run.hear("give")
        run.hear("give-2")
        run.headers.clear()
        run.channel.fetch_header(run.id("give"), 7)
        run.channel.fetch_header(run.id("give-2"), 1)
        run.hear("give-2")
        assert ("give", 1) not in run.headers

    def test_a_sweep_finds_nothing_where_all_is_well(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
            runs_for(0.2)
        run = open_run(flow)
        assert run.channel.sweep(lambda _: True) == []
        run.send("give", "runs_for")
        run.hear("give")
        assert run.channel.sweep(lambda awaited: awaited != run.id("give")) == []
        run.hear("runs_for")

    def test_a_sweep_finds_what_has_finished_without_a_word(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(1)
            give(2)
        run = open_run(flow)
        run.send("give", "give-2")
        run.hear("give")
        run.hear("give-2")
        # The machine that asks has not heard of the first one.
        found = eventually(lambda: run.channel.sweep(lambda awaited: awaited == run.id("give")))
        (event,) = found
        assert isinstance(event, TaskRunEnded)
        assert (event.id, event.submission, event.header) == (run.id("give"), 1, None)

    # -- losses ---------------------------------------------------------------------------

    def test_what_another_cancelled_is_told_with_what_stands_behind_it(
        self, open_run: OpenRun, cancel: Cancel
    ):
        with Flow("etl") as flow:
            look(runs_for(0.5))
            give(LARGE)
        run = open_run(flow)
        run.send("runs_for", "look", "give")
        run.hear("give")
        cancel(run, "runs_for")
        lost: dict[TaskRunId, Event] = {}

        def sweep() -> bool:
            awaited = (run.id("runs_for"), run.id("look"))
            lost.update({event.id: event for event in run.channel.sweep(awaited.__contains__)})
            return len(lost) == 2

        assert eventually(sweep)
        at_fault, behind = lost[run.id("runs_for")], lost[run.id("look")]
        assert isinstance(at_fault, TaskRunLost)
        assert at_fault.submission == 1
        assert at_fault.error.kind == "cancelled"
        assert isinstance(behind, TaskRunLost)
        assert (behind.error.kind, behind.error.culprit) == ("upstream", run.id("runs_for"))
        with pytest.raises(exceptions.ResultLost, match="runs_for"):
            run.fetch("runs_for")
        assert run.fetch("give") == LARGE

    def test_the_value_of_a_run_that_is_not_awaited_is_lost_as_such(
        self, open_run: OpenRun, cancel: Cancel
    ):
        with Flow("etl") as flow:
            give(LARGE)
        run = open_run(flow)
        run.send("give")
        run.hear("give")
        cancel(run, "give")
        (event,) = eventually(lambda: run.channel.sweep(lambda _: False))
        assert isinstance(event, ValueLost)
        assert (event.id, event.submission) == (run.id("give"), 1)

    # -- the end --------------------------------------------------------------------------

    def test_after_the_end_what_is_held_stays_held(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
        run = open_run(flow)
        run.send("give")
        run.hear("give")
        run.channel.finish()
        assert run.fetch("give") == LARGE

    def test_closing_lets_go_of_everything_and_twice_is_once(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(LARGE)
        run = open_run(flow)
        run.send("give")
        run.hear("give")
        run.channel.close()
        run.channel.close()
        assert not run.channel.holds(run.id("give"))
        with pytest.raises(exceptions.ResultReleased):
            run.fetch("give")

    def test_a_backend_closes_twice_as_once(self, backend: Backend):
        backend.close()
        backend.close()

    def test_two_runs_of_one_flow_do_not_hear_of_each_other(self, open_run: OpenRun):
        with Flow("etl") as flow:
            give(1)
        one, other = open_run(flow), open_run(flow)
        one.send("give")
        one.hear("give")
        other.send("give")
        other.hear("give")
        assert one.news.empty()
        assert one.headers["give", 1].execution != other.headers["give", 1].execution
