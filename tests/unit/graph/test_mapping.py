"""`task.map`: what is mapped over, what is passed whole, and what cannot be."""

import numpy as np
import pandas as pd
import pytest

from dask_taskrunner import Flow, Parameter, exceptions, task, unmapped
from dask_taskrunner.graph.mapping import Each, element_of, sequence_of


@task
def load():
    return [1, 2, 3]


@task
def add(x, y=1, *more, **named):
    return x + y


@task
def total(xs):
    return sum(xs)


def test_a_mapped_task_marks_what_each_child_gets_an_element_of():
    with Flow("f") as flow:
        xs, ys = load(), load()
        added = add.map(xs, unmapped(ys), [1, 2], unmapped(7), z=xs, w=unmapped("w"))
    assert added.is_mapped
    assert not xs.is_mapped
    assert added.arguments == {
        "x": Each(xs),
        "y": ys,
        "more": (Each([1, 2]), 7),
        "named": {"z": Each(xs), "w": "w"},
    }
    assert [(e.upstream_task, e.key, e.mapped) for e in flow.edges] == [
        (xs, "x", True),
        (ys, "y", False),
        (xs, "z", True),
    ]
    assert repr(flow.edges[0]) == "<Edge load -> add as 'x', mapped>"


def test_what_is_left_at_its_default_is_not_mapped():
    with Flow("f"):
        added = add.map([1, 2])
    assert added.arguments == {"x": Each([1, 2])}


def test_a_parameter_can_be_mapped_over_and_a_list_of_tasks():
    with Flow("f") as flow:
        days = Parameter("days")
        one, two = load(), load()
        by_day = add.map(days)
        by_task = add.map([one, two])
    assert by_day.arguments == {"x": Each(days)}
    assert by_task.arguments == {"x": Each([one, two])}
    assert set(flow.upstream_tasks(by_task)) == {one, two}
    assert not any(edge.mapped for edge in flow.edges if edge.downstream_task is by_task)


def test_upstream_tasks_of_a_map_are_edges_without_data():
    with Flow("f") as flow:
        first = load()
        add.map([1, 2], upstream_tasks=[first])
    assert [(e.key, e.mapped) for e in flow.edges] == [(None, False)]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("fast", "Write x=unmapped('fast') to pass the same to each"),
        (b"fast", "Write x=unmapped(b'fast') to pass the same to each"),
        ({"a": 1}, "Write x=unmapped(...) to pass the whole, or list(...) to map over it"),
        ({1, 2}, "Write x=unmapped(...) to pass the whole, or list(...) to map over it"),
        (None, "Write x=unmapped(None) to pass the same to each"),
        (5, "Write x=unmapped(5) to pass the same to each"),
        (pd.DataFrame({"k": [1]}), "df.to_dict('records') for its rows"),
        (np.array(5), "Write x=unmapped(array(5)) to pass the same to each"),
        (load, "to map over its result, call it: load(...)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_never_mapped_over_shows_the_right_line_and_adds_nothing(value, line):
    with Flow("f") as flow, pytest.raises(exceptions.ArgumentError) as caught:
        add.map(value, [1, 2])
    assert line in str(caught.value)
    assert flow.tasks == ()


def test_unequal_lengths_that_are_known_are_an_error_in_the_users_line():
    with Flow("f") as flow:
        with pytest.raises(exceptions.ArgumentError, match="x has 2, y has 3"):
            add.map([1, 2], [1, 2, 3])
        assert flow.tasks == ()
        shortest = add.map([1, 2], [1, 2, 3], task_args={"zip_shortest": True})
    assert shortest.is_mapped


def test_a_map_needs_something_to_map_over():
    with Flow("f"), pytest.raises(exceptions.ArgumentError, match="no argument to map over"):
        add.map(unmapped(1))


def test_a_map_needs_a_flow():
    with pytest.raises(exceptions.OutsideFlow, match=r"runner.map\(add, ...\) needs no flow"):
        add.map([1])


def test_a_mapped_task_cannot_be_unpacked():
    @task(nout=2)
    def two(x):
        return x, x

    with Flow("f"), pytest.raises(exceptions.NotAValue):
        _a, _b = two.map([1, 2])


def test_copies_of_a_flow_have_the_same_mapped_tasks():
    with Flow("f") as flow:
        total(add.map(load()))
    copy = flow.copy()
    assert [getattr(node, "is_mapped", None) for node in copy.tasks] == [False, True, False]
    assert [edge.mapped for edge in copy.edges] == [True, False]
    assert copy.tasks[1].arguments == {"x": Each(copy.tasks[0])}


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2), range(2), np.arange(2), pd.Series([1, 2], index=[7, 8])], ids=str
)
def test_sequences_stay_what_they_are_and_are_indexed_by_position(value):
    assert sequence_of(value) is value
    assert element_of(value, 1) in (1, 2)


def test_what_can_be_iterated_over_becomes_a_list():
    assert sequence_of(x for x in "ab") == ["a", "b"]
    assert sequence_of({"a": 1}.items()) == [("a", 1)]
