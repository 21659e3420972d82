"""Runs that grow: what joins, who stands behind it, and what it comes to."""

from __future__ import annotations

import pytest
from fakes.machine_story import Story, hooks, notes, released, sent, settled
from fakes.random_flows import make_runs

from dask_taskrunner.headers import Header
from dask_taskrunner.machine.commands import Grow
from dask_taskrunner.machine.events import GrowthFailed
from dask_taskrunner.machine.plans import MapPlan, Plan, PlannedRun
from dask_taskrunner.machine.sources import record_of_result


def grown(upstream=None, **options) -> Story:
    """Return a story in which 0, which 1 reads, has grown to 5, and 6 behind it; both are sent."""
    story = Story(upstream or {0: (), 1: (0,)}, **options)
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: (5,)}, [6])
    story.wakes()
    return story


def told(story: Story, n: int) -> tuple[str, str | None]:
    header = story.record(n).header
    assert header is not None
    return header.state, header.message


def child_header(story: Story, n: int, i: int, state: str = "Success", **how: object) -> Header:
    """Return the header of a child's execution."""
    record = story.machine.records[n, i]
    header = story.header(n, state, submission=record.submission, **how)  # type: ignore[arg-type]
    return header._replace(map_index=i)


# --- growing -------------------------------------------------------------------------------------


def test_a_graph_is_planned_and_what_was_sent_behind_it_is_taken_back():
    story = Story({0: (), 1: (0,)})
    story.starts()
    commands = story.returns_graph(0)
    assert Grow(story.record(0).plan, 1) in commands
    assert released(commands) == [1]
    assert story.phases() == "gw"
    assert story.states() == ["Running", "Pending"]
    assert story.outcomes(0) == ["success"]


def test_what_joins_begins_and_the_graph_is_let_go():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    commands = story.grows(0, {5: (), 6: (5,)}, [6])
    assert released(commands) == [0]
    assert story.phases() == "ewqq"
    assert sent(story.wakes()) == [(5, 1), (6, 1)]
    entry = story.machine.history[-1]
    assert entry.header is not None
    assert entry.header.message == "grown: 0 of 2 finished"
    assert entry.header.more == {"children": 2, "inner": [5, 6]}
    # The inner runs are counted in its place.
    assert sum(sum(counts.values()) for counts in story.machine.counts.values()) == 3


def test_who_reads_it_stands_behind_the_run_that_has_its_result():
    story = grown()
    story.ends(5)
    commands = story.ends(6, big=True)
    assert told(story, 0) == ("Success", None)
    header = story.record(0).header
    assert header is not None
    assert (header.kind, header.small) == ("DataFrame", None)
    # Not what has the result, which is read.
    assert released(commands) == [5]
    story.wakes()
    assert (story.last_sent(1).upstream_ids, story.last_sent(1).upstream) == (((6, -1),), (1,))
    assert story.last_sent(1).widths == {}
    assert released(story.ends(1)) == [1, 6]
    assert story.final == ("Success", "reference tasks succeeded")


def test_a_small_result_is_in_its_header_too():
    story = grown()
    story.ends(5)
    story.ends(6)
    header = story.record(0).header
    assert header is not None
    assert header.small is not None
    story.wakes()
    # As anywhere, its future is there as long as somebody reads it.
    assert story.last_sent(1).upstream == (1,)


def test_several_results_are_read_in_a_dict():
    story = Story({0: (), 1: (0,), 2: (1,)})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5, 6], names=("a", "b"))
    story.wakes()
    story.ends(5, big=True)
    story.ends(6, big=True)
    header = story.record(0).header
    assert header is not None
    assert (header.kind, header.small) == ("dict", None)
    assert "list(...)" in header.more["no_length"]
    story.wakes()
    send = story.last_sent(1)
    assert send.upstream_ids == ((5, -1), (6, -1))
    assert (send.widths, send.trees) == ({0: 2}, {0: {"a": None, "b": None}})


def test_the_result_need_not_decide():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5], reference=[6])
    story.wakes()
    story.ends(6)
    story.ends(5, "Failed")
    assert story.record(0).shown == "Failed"


def test_an_inner_run_may_grow_as_well():
    story = grown()
    story.ends(5)
    story.returns_graph(6)
    story.grows(6, {7: ()}, [7])
    story.wakes()
    assert story.record(0).phase == "expanded"
    story.ends(7, big=True)
    assert told(story, 0) == told(story, 6) == ("Success", None)
    story.wakes()
    assert story.last_sent(1).upstream_ids == ((7, -1),)


def test_its_own_inputs_are_read_no_more_once_it_has_grown():
    story = Story({0: (), 1: (0,), 2: (1,)}, settles=[1])
    story.starts()
    story.ends(0, big=True)
    assert released(story.returns_graph(1)) == [2]
    assert released(story.grows(1, {5: ()}, [5])) == [0, 1]
    story.wakes()
    assert settled(story.ends(5)) == [1]


def test_nobody_hears_of_a_graph_twice():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    # The future has been finished for a while, and planning takes its time.
    assert story.is_silent(0) == []


def test_handlers_are_told_when_it_has_ended():
    story = Story({0: ()}, handlers=True)
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: ()}, [5])
    story.wakes()
    assert (0, "Running", "Success") in hooks(story.ends(5))


# --- what is lost --------------------------------------------------------------------------------


def test_a_graph_that_is_lost_is_made_again():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.begins(0)
    story.returns_graph(0)
    story.loses(0, "lost")
    assert sent(story.wakes())[0] == (0, 2)
    # The plan of the first one comes too late.
    assert story.grows(0, {5: ()}, [5], submission=1) == []
    story.returns_graph(0)
    story.grows(0, {5: ()}, [5])
    assert story.record(0).phase == "expanded"


def test_a_body_that_dask_has_begun_again_is_not_needed():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    story.begins(0, "w2")
    story.grows(0, {5: ()}, [5])
    assert story.record(0).left_running is not None
    story.removes("w2")
    assert story.outcomes(0) == ["success", "worker-lost"]


def test_a_result_that_is_lost_is_made_again_before_it_is_read():
    story = grown()
    story.ends(5, big=True)
    story.ends(6, big=True)
    story.wakes()
    commands = story.loses_value(6)
    assert released(commands) == [1, 6]
    assert story.record(1).phase == "waiting"
    # Its inputs are gone as well.
    assert sent(story.wakes()) == [(5, 2), (6, 2)]
    story.ends(5, big=True)
    assert story.record(1).phase == "waiting"
    story.ends(6, big=True)
    assert sent(story.wakes()) == [(1, 3)]
    assert story.last_sent(1).upstream == (2,)


def test_who_came_behind_something_lost_waits_for_the_other_as_well():
    story = Story({0: (), 1: (), 2: (0, 1)})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: ()}, [5])
    story.wakes()
    story.ends(5, big=True)
    story.loses_value(5)
    story.ends(1)
    assert story.record(2).phase == "waiting"
    story.wakes()
    story.ends(5, big=True)
    assert sent(story.wakes()) == [(2, 2)]


def test_a_result_that_nobody_needs_is_not_made_again():
    story = grown(kept={0})
    story.ends(5)
    story.ends(6, big=True)
    story.wakes()
    story.ends(1)
    assert story.held() == {6}
    commands = story.drops(0)
    assert released(commands) == [6]


def test_what_cannot_be_made_again_is_told_by_value():
    story = grown(max_crash_retries=0)
    story.ends(5)
    story.ends(6, big=True)
    story.wakes()
    record = story.record(6)
    record.crashes = record.plan.max_crash_retries
    assert notes(story.loses_value(6)) == ["the result of t6 was lost: lost dependencies"]
    story.wakes()
    (state,) = story.last_sent(1).upstream
    assert isinstance(state, Header)
    assert state.state == "Crashed"


# --- failures ------------------------------------------------------------------------------------


def test_a_failure_inside_is_its_own_with_the_path():
    story = grown()
    story.ends(5, "Failed", type="ValueError", traceback="where")
    story.ends(6, "TriggerFailed", body=False, root_cause=["t5", "ValueError: why"])
    assert told(story, 0) == ("Failed", "t5: ValueError: why")
    header = story.record(0).by_value
    assert header is not None
    assert header.more == {
        "root_cause": ["t5", "ValueError: why"], "type": "ValueError", "traceback": "where",
    }  # fmt: skip
    story.wakes()
    assert story.last_sent(1).upstream == (header,)
    assert story.last_sent(1).upstream_ids == ((0, -1),)
    story.ends(1)
    assert story.final == (
        "Success", "reference tasks succeeded; 2 of 3 task runs failed: t5, t6",
    )  # fmt: skip


def test_a_cause_that_is_nowhere_inside_is_told_all_the_same():
    story = grown()
    story.ends(5)
    story.ends(6, "TriggerFailed", body=False, root_cause=["elsewhere", "why"])
    assert told(story, 0) == ("Failed", "elsewhere: why")


def test_a_graph_that_cannot_be_run_is_its_failure():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    commands = story.cannot_grow(0, type="ValueError")
    assert released(commands) == [0]
    assert told(story, 0) == ("Failed", "ValueError: why")
    assert story.record(0).header.more["type"] == "ValueError"
    assert sent(story.wakes()) == [(1, 2)]


def test_news_of_a_graph_comes_too_late():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    assert story.tell(GrowthFailed(0.0, (7, -1), 1, "why")) == []
    story.is_cancelled()
    assert story.grows(0, {5: ()}, [5]) == []
    assert story.cannot_grow(0) == []
    assert told(story, 0)[0] == "Cancelled"


def test_it_is_skipped_where_its_result_is():
    story = grown()
    story.ends(5)
    story.ends(6, "Skipped")
    assert told(story, 0) == ("Skipped", None)
    story.wakes()
    assert story.last_sent(1).upstream_ids == ((6, -1),)


def test_it_is_skipped_where_all_its_results_are():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5, 6], names=("a", "b"))
    story.wakes()
    story.ends(5, "Skipped")
    story.ends(6, "Skipped")
    header = story.record(0).header
    assert header is not None
    assert (header.state, header.kind) == ("Skipped", "")


def test_it_is_cancelled_where_something_inside_is():
    story = grown()
    story.ends(5)
    story.ends(6, "Cancelled")
    assert told(story, 0) == ("Cancelled", "t6: Cancelled")


def test_a_cancelled_run_cancels_what_has_joined():
    story = grown()
    story.ends(5)
    story.is_cancelled()
    assert [story.record(n).shown for n in (0, 1, 5, 6)] == [
        "Cancelled", "Cancelled", "Success", "Cancelled",
    ]  # fmt: skip
    assert told(story, 0) == ("Cancelled", "t6: cancelled by the user")


def test_a_lost_cluster_leaves_it_as_it_is_known():
    story = grown()
    story.loses_cluster()
    assert set(story.states()) == {"Pending"}


def test_it_pauses_with_all_that_is_left_of_it():
    story = Story({0: ()})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5, 6], names=("a", "b"))
    story.wakes()
    story.ends(5, "Paused")
    assert story.record(0).shown == "Running"
    story.ends(6, "Paused")
    assert story.record(0).shown == "Paused"
    assert story.machine.history[-2].header.message == "t5 and 1 more paused"
    assert story.final is not None
    assert story.final[0] == "Paused"


def test_a_pause_ends_with_the_first_that_goes_on():
    story = grown({0: ()})
    story.ends(5)
    story.ends(6, "Paused")
    assert story.record(0).shown == "Paused"
    story.approves(6)
    assert story.record(0).shown == "Running"
    story.wakes()
    story.ends(6)
    assert told(story, 0) == ("Success", None)


# --- with mapped runs ----------------------------------------------------------------------------


def mapped(n: int, source: int, **how: object) -> PlannedRun:
    (run,) = make_runs({n: (source,)})
    return run._replace(maps=MapPlan(elements={0: "x"}, common=1), **how)


def test_a_mapped_inner_run_is_read_as_a_list():
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    runs = (*make_runs({5: ()}), mapped(6, 5))
    story.grows(0, {5: (), 6: (5,)}, [6], runs=runs)
    story.wakes()
    story.ends(5, big=True, length=2)
    story.wakes()
    story.ends(6, "Running", body=False, expands=True)
    story.wakes()
    for i in range(2):
        story.hears(child_header(story, 6, i, big=True))
    header = story.record(0).header
    assert header is not None
    assert (header.kind, header.more) == ("list", {"length": 2})
    story.wakes()
    send = story.last_sent(1)
    assert send.upstream_ids == ((6, 0), (6, 1))
    # A list is what many states in one place are.
    assert (send.widths, send.trees) == ({0: 2}, {})
    # Of its children one is lost: who reads the list waits for it.
    story.hears(story.header(1, "Pending", body=False, waits_for=[6, 1]))
    assert story.record(1).phase == "waiting"
    story.wakes()
    story.hears(child_header(story, 6, 1, big=True))
    assert sent(story.wakes()) == [(1, 3)]


def test_a_failing_child_inside_has_its_path():
    story = Story({0: ()})
    story.starts()
    story.returns_graph(0)
    runs = (*make_runs({5: ()}), mapped(6, 5))
    story.grows(0, {5: (), 6: (5,)}, [6], runs=runs)
    story.wakes()
    story.ends(5, big=True, length=2)
    story.wakes()
    story.ends(6, "Running", body=False, expands=True)
    story.wakes()
    story.hears(child_header(story, 6, 0))
    story.hears(child_header(story, 6, 1, "Failed"))
    assert told(story, 0)[1].startswith("t6[1]: ")


def over_a_grown_one(**how: object) -> Story:
    """Return a story in which 1 is mapped over 0, which has grown, and 2 reads the list."""
    runs = make_runs({0: ()})
    reduce = make_runs({2: (1,)})[0]._replace(lists=frozenset({0}))
    plan = Plan((*runs, mapped(1, 0), reduce), frozenset({(2, -1)}))
    story = Story(plan)
    story.starts()
    story.returns_graph(0)
    return story


def test_children_take_elements_of_what_has_the_result():
    story = over_a_grown_one()
    story.grows(0, {5: ()}, [5])
    story.wakes()
    story.ends(5, big=True, length=2)
    story.wakes()
    story.ends(1, "Running", body=False, expands=True)
    story.wakes()
    child = next(run for run in story.sent if run.id == (1, 1))
    assert child.upstream_ids == ((5, -1),)
    assert child.promised == {0: 2}
    assert child.sizes == {0: 10_000}


def test_children_stand_behind_the_children_of_a_mapped_result():
    story = over_a_grown_one()
    runs = (*make_runs({5: ()}), mapped(6, 5))
    story.grows(0, {5: (), 6: (5,)}, [6], runs=runs)
    story.wakes()
    story.ends(5, big=True, length=2)
    story.wakes()
    story.ends(6, "Running", body=False, expands=True)
    story.wakes()
    for i in range(2):
        story.hears(child_header(story, 6, i, big=True))
    story.wakes()
    story.ends(1, "Running", body=False, expands=True)
    story.wakes()
    child = next(run for run in story.sent if run.id == (1, 1))
    assert child.upstream_ids == ((6, 1),)
    # It is the element itself, of which there is no list.
    assert (child.promised, child.sizes) == ({0: -1}, {0: 0})


def test_a_result_without_a_length_is_not_mapped_over():
    story = over_a_grown_one()
    story.grows(0, {5: ()}, [5])
    story.wakes()
    story.ends(5, big=True, no_length="Write {argument}=unmapped(...).")
    story.wakes()
    story.ends(1, "Running", body=False, expands=True)
    assert told(story, 1)[1].endswith("of type DataFrame. Write x=unmapped(...).")


def test_a_child_may_grow_and_its_list_has_what_it_grew_to():
    runs = make_runs({0: ()})
    reduce = make_runs({2: (1,)})[0]._replace(lists=frozenset({0}))
    story = Story(Plan((*runs, mapped(1, 0), reduce), frozenset({(2, -1)})))
    story.starts()
    story.ends(0, big=True, length=2)
    story.wakes()
    story.ends(1, "Running", body=False, expands=True)
    story.wakes()
    story.hears(child_header(story, 1, 0, big=True))
    story.hears(child_header(story, 1, 1, "Running", grew=True, outcome="success"))
    story.grows(1, {5: (), 6: ()}, [5, 6], names=("a", "b"), map_index=1)
    story.wakes()
    story.ends(5, big=True)
    story.ends(6, big=True)
    story.wakes()
    send = story.last_sent(2)
    assert send.upstream_ids == ((1, 0), (5, -1), (6, -1))
    assert (send.widths, send.trees) == ({0: 3}, {0: [None, {"a": None, "b": None}]})
    # One of them is lost while the list is read.
    story.loses_value(5)
    assert story.record(2).phase == "waiting"
    story.wakes()
    story.ends(5, big=True)
    assert sent(story.wakes()) == [(2, 2)]


# --- what is checked -----------------------------------------------------------------------------


def test_damage_to_a_grown_run_is_found():
    story = grown()
    story.record(5).outer = None
    assert "t0 has an inner run that does not know whose it is" in story.machine.validate()
    story = Story({0: (), 1: (0,)})
    story.starts()
    story.returns_graph(0)
    story.record(0).future = False
    assert "t0 grows, and the graph was released" in story.machine.validate()
    story = grown()
    story.record(0).unfinished_children = 7
    assert "t0: its counts of children disagree with these" in story.machine.validate()


@pytest.mark.parametrize("keep", [None, {0}])
def test_what_joins_is_kept_where_all_is(keep):
    story = grown(kept=keep)
    story.ends(5, big=True)
    story.ends(6, big=True)
    story.wakes()
    story.ends(1, big=True)
    assert story.held() == ({1, 5, 6} if keep is None else {6})


def test_who_has_the_result_of_a_run_is_one_run_or_nobody():
    story = grown()
    story.ends(5, big=True)
    story.ends(6, big=True)
    records = story.machine.records
    assert record_of_result(records[0, -1], records) is records[6, -1]
    assert record_of_result(records[5, -1], records) is records[5, -1]
    story = Story({0: ()})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5, 6], names=("a", "b"))
    records = story.machine.records
    assert record_of_result(records[0, -1], records) is records[0, -1]


def test_a_failed_run_has_no_result_of_another():
    story = Story({0: (), 1: (0,)}, kept={0})
    story.starts()
    story.returns_graph(0)
    story.grows(0, {5: (), 6: ()}, [5, 6], names=("a", "b"))
    story.wakes()
    story.ends(5, big=True)
    assert story.held() == {5, 6}
    # Nobody asks for half of it.
    assert 5 in released(story.ends(6, "Failed"))
