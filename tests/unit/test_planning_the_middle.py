"""A plan that is started in its middle: who is run, who has a state, and what is missing."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from dask_taskrunner import Flow, Parameter, exceptions, packing, states, task
from dask_taskrunner.backend import Constant
from dask_taskrunner.headers import NOTHING_MORE, Header
from dask_taskrunner.middle import start_in_the_middle
from dask_taskrunner.planning import FlowPlan, plan_flow
from dask_taskrunner.states import CachedState, Elsewhere, Pending, Retrying, Success
from dask_taskrunner.worker.envelope import open_result


@task
def extract():
    pass


@task
def left(x):
    pass


@task
def right(x):
    pass


@task
def join(a, b):
    pass


def diamond() -> Flow:
    with Flow("etl") as flow:
        rows = extract()
        join(left(rows), right(rows))
    return flow


def started(
    flow: Flow,
    start_tasks: Any = None,
    task_states: Any = None,
    share: Any = lambda future: future,
    parameters: Any = None,
    packer: Any = None,
    **options: Any,
) -> FlowPlan:
    packer = packer or packing.Packer()
    given = {"task_defaults": {}, "keep": "reference", "return_tasks": []} | options
    made = plan_flow(flow, parameters or {}, packer=packer, **given)
    return start_in_the_middle(flow, made, start_tasks, task_states, share, packer)


def roles(plan: FlowPlan) -> dict[str, str]:
    return {run.slug: run.role for run in plan.machine.runs}


def run_of(plan: FlowPlan, slug: str) -> Any:
    return plan.machine.runs[plan.ids[slug][0]]


def spec_of(plan: FlowPlan, slug: str) -> Any:
    return plan.specs[plan.ids[slug]]


def reference(plan: FlowPlan) -> set[str]:
    return {plan.specs[id].slug for id in plan.machine.reference}


class Earlier:
    """What an earlier run knows of a result of its own."""

    def __init__(self, future: Any = "future", **fields: Any) -> None:
        header = Header(
            7, -1, 3, 99, "Success", None, "tcp://w", 2, 5.0, 1.5, 1000.0, "DataFrame", 41_000_000,
            None, NOTHING_MORE,
        )  # fmt: skip
        self.header = header._replace(**fields)
        self.future = future
        self.asked = 0

    def share(self) -> Any:
        self.asked += 1
        return self.future

    @property
    def state(self) -> states.State:
        return self.header.state_class(Elsewhere("it is over there", self))


BIG = list(range(10_000))

# --- without start_tasks -------------------------------------------------------------------------


def test_a_task_with_a_final_state_is_not_run_and_all_others_are():
    made = started(diamond(), task_states={"left": Success(5)})
    assert roles(made) == {"extract": "run", "left": "given", "right": "run", "join": "run"}
    header = run_of(made, "left").given
    assert (header.id, header.submission, header.state) == (made.ids["left"], 1, "Success")
    assert pickle.loads(header.small) == 5
    assert (header.kind, header.worker, header.started) == ("int", "", None)
    # It needs nothing of the cluster.
    assert spec_of(made, "left").wire is None
    assert made.given_values == {}
    assert not any(spec.ignores_trigger for spec in made.specs.values())


@pytest.mark.parametrize(
    ("state", "kind", "small"),
    [
        (Success(), "NoneType", True),
        (states.Skipped(), "", False),
        (states.Skipped(5), "int", True),
        (states.Cancelled(), "", False),
        (states.TriggerFailed(message="no"), "", False),
        (states.Crashed(message="it died"), "", False),
    ],
)
def test_a_final_state_of_any_kind_can_be_given(state, kind, small):
    given = run_of(started(diamond(), task_states={"left": state}), "left").given
    assert (given.state, given.message) == (type(state).__name__, state.message)
    assert (given.kind, given.small is not None) == (kind, small)
    assert given.at == state.at
    assert given.stands_alone


def test_a_failure_is_given_with_its_exception():
    made = started(diamond(), task_states={"left": states.Failed(exception=ValueError("no"))})
    given = run_of(made, "left").given
    assert given.message == "ValueError: no"
    assert repr(pickle.loads(given.more["exception"])) == "ValueError('no')"


def test_an_exception_that_does_not_pickle_is_given_in_words():
    error = ValueError("locked", threading.Lock())
    made = started(diamond(), task_states={"left": states.Failed(exception=error)})
    given = run_of(made, "left").given
    assert given.is_complete
    assert isinstance(pickle.loads(given.more["exception"]), exceptions.RemoteTaskError)


def test_a_large_result_is_sent_where_it_is_read_and_stays_here_as_well():
    made = started(diamond(), task_states={"extract": Success(BIG), "join": Success(BIG)})
    wire = spec_of(made, "extract").wire
    assert open_result(wire).state.result == BIG
    assert not run_of(made, "extract").given.stands_alone
    # Nobody on the cluster reads the last one.
    assert spec_of(made, "join").wire is None
    assert {id: value is BIG for id, value in made.given_values.items()} == {
        made.ids["extract"]: True,
        made.ids["join"]: True,
    }


def test_what_is_sent_of_a_large_result_is_what_it_was_at_that_time():
    np = pytest.importorskip("numpy")
    array = np.zeros(100_000)
    wire = spec_of(started(diamond(), task_states={"extract": Success(array)}), "extract").wire
    array[:] = 1
    assert open_result(wire).state.result.sum() == 0


@pytest.mark.parametrize(
    "state", [Pending(), states.Paused(), states.Running(), states.Looped(), states.State()]
)
def test_what_has_not_ended_just_runs(state):
    made = started(diamond(), task_states={"left": state})
    assert roles(made)["left"] == "run"
    assert run_of(made, "left").given.more.get("last_run_number") is None
    assert spec_of(made, "left").initial is None


def test_a_retry_keeps_its_number_and_its_time():
    state = Retrying(message="again", last_run_number=2, scheduled_time=5000.0, delay=60.0)
    run = run_of(started(diamond(), task_states={"left": state}), "left")
    assert (run.role, run.given.state, run.given.message) == ("run", "Retrying", "again")
    # The delay ran from an attempt of another run's.
    assert run.given.more == {"last_run_number": 2, "scheduled_time": 5000.0}


def test_a_cached_state_goes_to_the_first_attempt():
    state = CachedState(cached_result=5, cached_inputs={"x": 1})
    made = started(diamond(), task_states={"left": state})
    assert roles(made)["left"] == "run"
    assert pickle.loads(spec_of(made, "left").initial) == state
    assert spec_of(made, "left").cached is None


def test_a_large_cached_state_is_sent_apart_from_the_run():
    made = started(diamond(), task_states={"left": CachedState(cached_result=b"x" * 300_000)})
    spec = spec_of(made, "left")
    assert spec.initial is None
    assert isinstance(spec.cached, Constant)
    assert len(pickle.loads(spec.cached.data).cached_result) == 300_000
    # And it is let go with the run.
    assert run_of(made, "left").settles


def test_a_cached_state_without_its_result_is_refused():
    state = CachedState(cached_result=Elsewhere("over there"))
    with pytest.raises(exceptions.OptionError, match=r"cached_result=run\['left'\]\.result\(\)"):
        started(diamond(), task_states={"left": state})


# --- what an earlier run has ---------------------------------------------------------------------


def test_an_earlier_runs_header_stands_for_its_result():
    earlier = Earlier()
    made = started(diamond(), task_states={"extract": earlier.state})
    assert spec_of(made, "extract").held == "future"
    given = run_of(made, "extract").given
    assert given == earlier.header._replace(n=made.ids["extract"][0], submission=1)
    # Its state knows another name.
    assert spec_of(made, "left").known_as == {0: "extract"}
    assert spec_of(made, "join").known_as == {}


def test_the_message_that_the_user_gave_it_is_shown():
    state = Earlier().state.copy_with(message="of yesterday")
    assert run_of(started(diamond(), task_states={"extract": state}), "extract").given.message == (
        "of yesterday"
    )


def test_a_result_that_was_released_is_found_before_anything_is_sent():
    with pytest.raises(exceptions.ResultReleased, match=r"return_tasks=\['extract'\]"):
        started(diamond(), task_states={"extract": Earlier(None).state})


def test_a_result_of_another_client_is_no_result_here():
    with pytest.raises(exceptions.ResultReleased, match="another Dask client") as caught:
        started(diamond(), task_states={"extract": Earlier().state}, share=lambda future: None)
    assert "task_states={'extract': Success(result=...)}" in str(caught.value)


def test_a_header_that_was_pickled_has_left_its_result_behind():
    state = pickle.loads(pickle.dumps(Earlier().state))
    with pytest.raises(exceptions.ResultReleased, match="stayed behind"):
        started(diamond(), task_states={"extract": state})


def test_a_result_that_nobody_reads_need_not_be_held():
    gone = Earlier(None).state
    made = started(diamond(), ["join"], {"extract": gone, "left": Success(1), "right": Success(2)})
    assert roles(made)["extract"] == "given"
    assert spec_of(made, "extract").held is None
    pickled = pickle.loads(pickle.dumps(gone))
    made = started(
        diamond(), ["join"], {"extract": pickled, "left": Success(1), "right": Success(2)}
    )
    assert run_of(made, "extract").given.kind == "result"


def test_a_result_that_is_to_be_kept_is_held_where_it_can_be():
    made = started(diamond(), task_states={"join": Earlier().state})
    assert spec_of(made, "join").held == "future"
    made = started(diamond(), task_states={"join": Earlier(None).state})
    assert spec_of(made, "join").held is None
    made = started(diamond(), task_states={"join": Earlier().state}, keep="none")
    assert spec_of(made, "join").held is None


# --- with start_tasks ----------------------------------------------------------------------------


def test_exactly_the_start_tasks_and_all_downstream_are_run():
    made = started(diamond(), ["left"], {"extract": Success(1), "right": Success(2)})
    assert roles(made) == {"extract": "given", "left": "run", "right": "given", "join": "run"}
    # A start task does not ask its trigger; what is downstream does.
    assert spec_of(made, "left").ignores_trigger
    assert not spec_of(made, "join").ignores_trigger


def test_what_is_outside_shows_its_state_or_that_it_is_outside():
    with Flow("etl") as flow:
        rows = extract()
        left(rows)
        right(rows)
        left(right(rows))
    made = started(flow, ["left"], {"extract": Success(1), "right-2": states.Paused(message="no")})
    assert roles(made) == {
        "extract": "given", "left": "run", "right": "outside", "right-2": "outside",
        "left-2": "outside",
    }  # fmt: skip
    given = run_of(made, "right").given
    assert (given.state, given.message) == ("Pending", "not part of this run")
    assert run_of(made, "right-2").given.state == "Paused"
    # What is upstream of it is not held for it.
    assert run_of(made, "right").upstream == ()


def test_what_another_run_is_running_is_not_running_here():
    made = started(diamond(), ["extract"], None)
    assert set(roles(made).values()) == {"run"}
    with Flow("two") as flow:
        extract()
        extract()
    made = started(flow, ["extract"], {"extract-2": states.Running()})
    assert run_of(made, "extract-2").given.state == "Pending"


def test_states_of_what_is_run_from_the_beginning_do_not_count():
    earlier = Earlier(None)
    everything = dict.fromkeys(["left", "join"], earlier.state)
    everything |= {"extract": Success(1), "right": Success(2)}
    made = started(diamond(), ["left"], everything)
    assert run_of(made, "left").given is None
    assert run_of(made, "join").given is None
    assert earlier.asked == 0


@pytest.mark.parametrize("start", ["left", left, ["left"], (left,), {"left"}])
def test_start_tasks_are_named_as_everywhere(start):
    made = started(diamond(), start, {"extract": Success(1), "right": Success(2)})
    assert roles(made)["left"] == "run"
    assert roles(made)["right"] == "given"


def test_a_bound_task_is_a_start_task_and_has_a_state():
    with Flow("etl") as flow:
        rows = extract()
        made_left = left(rows)
    made = started(flow, made_left, {rows: Success(1)})
    assert roles(made) == {"extract": "given", "left": "run"}


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({}, "no state of it is given"),
        ({"extract": Pending()}, r"its state is Pending\(\)"),
    ],
)
def test_an_upstream_without_a_final_state_is_missing(given, known):
    with pytest.raises(exceptions.MissingTaskState, match=known) as caught:
        started(diamond(), ["left", "right"], given)
    text = str(caught.value)
    assert "'left' needs a finished state of 'extract'" in text
    assert "task_states={'extract': run['extract'].state}" in text
    assert "start_tasks=['extract']" in text


def test_all_that_is_missing_is_named():
    with pytest.raises(exceptions.MissingTaskState, match="The same goes for 'right'"):
        started(diamond(), ["join"])


def test_a_state_edge_needs_a_state_as_well():
    with Flow("etl") as flow:
        first = extract()
        extract(upstream_tasks=[first])
    with pytest.raises(exceptions.MissingTaskState):
        started(flow, ["extract-2"])


def test_parameters_need_no_state():
    with Flow("etl") as flow:
        left(right(Parameter("x")))
    assert roles(started(flow, ["right"], parameters={"x": 1})) == {"right": "run", "left": "run"}


def test_only_what_runs_or_is_given_decides_the_state_of_the_run():
    with Flow("etl") as flow:
        rows = extract()
        left(rows)
        right(rows)
        join(rows, rows)
    given = {"extract": Success(1), "right": states.Failed(), "join": states.Paused()}
    assert reference(started(flow, ["left"], given)) == {"left", "right"}
    assert reference(started(flow, None, given)) == {"left", "right", "join"}


def test_somebody_always_decides_and_is_kept():
    with Flow("etl") as flow:
        a = extract()
        b = left(a)
        right(extract())
    flow.set_reference_tasks([b])
    made = started(flow, ["right"], {"extract-2": Success(1)})
    assert reference(made) == {"right"}
    assert made.machine.keeps(made.ids["right"])
    assert not made.machine.keeps(made.ids["extract-2"])


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "given", "error", "match"),
    [
        ("lft", None, exceptions.UnknownTask, "did you mean 'left'"),
        (None, {"lft": Success()}, exceptions.UnknownTask, "did you mean 'left'"),
        ([], None, exceptions.OptionError, "names no task"),
        (3, None, exceptions.UnknownTask, "3 is neither"),
        (None, [("left", Success())], exceptions.OptionError, "must be a dict"),
        (None, {"left": 5}, exceptions.OptionError, r"run\['left'\]\.state of an earlier run"),
        (None, {"left": Success}, exceptions.OptionError, "must be a State"),
        (None, {"left": Success(), left: Success()}, exceptions.OptionError, "two states"),
        (None, {"left": states.Mapped()}, exceptions.OptionError, "is Mapped"),
    ],
)
def test_what_cannot_be_is_said_so(start, given, error, match):
    with pytest.raises(error, match=match):
        started(diamond(), start, given)


@pytest.mark.parametrize("make", [Success, lambda value: CachedState(cached_result=value)])
def test_a_state_that_does_not_pickle_is_refused_by_name(make):
    with pytest.raises(exceptions.UnpicklableArgument, match=r"task_states\['extract'\]") as caught:
        started(diamond(), None, {"extract": make(threading.Lock())})
    assert (caught.value.task, caught.value.argument) == ("extract", "task_states")


@pytest.mark.parametrize("make", [Success, lambda value: CachedState(cached_result=value)])
def test_a_state_that_is_too_large_is_refused_by_name(make):
    packer = packing.Packer(max_constant_bytes=10_000)
    with pytest.raises(exceptions.LargeArgument, match=r"task_states\['extract'\], a"):
        started(diamond(), None, {"extract": make(b"x" * 20_000)}, packer=packer)
