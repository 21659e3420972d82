"""``map`` of single calls: what is mapped over, what is the same for all, what is refused."""

from __future__ import annotations

import pytest
from fakes.fake_backend import FakeFuture
from fakes.gates import PATIENCE

from dask_taskrunner import Flow, context, exceptions, task, unmapped


@task
def add(x, y=0):
    return x + y


def collect(first, *rest, **named):
    return first, rest, named


def fail_at(i, at):
    if i == at:
        raise ValueError(f"no {i}")
    return i


# --- what is mapped over -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        iter([1, 2, 3]),
        (n for n in (1, 2, 3)),
        dict.fromkeys([1, 2, 3]).keys(),
    ],
    ids=["list", "tuple", "range", "iterator", "generator", "keys"],
)
def test_anything_with_elements_in_an_order_is_mapped_over(runner, column):
    futures = runner.map(add, column, unmapped(10))
    assert len(futures) == 3
    assert futures.results(timeout=PATIENCE) == [11, 12, 13]


def test_arrays_and_series_are_mapped_over(runner):
    import numpy as np
    import pandas as pd

    assert runner.map(add, np.arange(3), pd.Series([5, 6, 7])).results() == [5, 7, 9]
    rows = runner.map(lambda row: row.sum(), np.ones((2, 3))).results()
    assert rows == [3, 3]


def test_columns_go_side_by_side(runner):
    assert runner.map(add, [1, 2], [10, 20]).results(timeout=PATIENCE) == [11, 22]
    assert runner.map(add, [1, 2], y=[10, 20]).results(timeout=PATIENCE) == [11, 22]
    assert runner.map(add, unmapped(1), y=[10, 20]).results(timeout=PATIENCE) == [11, 21]


def test_the_rest_of_a_signature_is_mapped_over_too(runner):
    futures = runner.map(collect, [1, 2], [3, 4], unmapped("u"), a=[5, 6], b=unmapped("v"))
    assert futures.results(timeout=PATIENCE) == [
        (1, (3, "u"), {"a": 5, "b": "v"}),
        (2, (4, "u"), {"a": 6, "b": "v"}),
    ]


def test_what_is_no_list_is_passed_whole(runner):
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2]})
    futures = runner.map(lambda i, df: int(df["a"].iloc[i]), [0, 1], unmapped(table))
    assert futures.results(timeout=PATIENCE) == [1, 2]


def test_no_elements_are_no_calls(runner):
    futures = runner.map(add, [])
    assert len(futures) == 0
    assert futures.results() == []
    assert futures.counts == {}
    assert repr(futures) == "<TaskRunFutures add[0]>"
    assert runner.submit(sum, futures).result(PATIENCE) == 0


def test_each_child_knows_its_place(runner):
    futures = runner.map(lambda x: (context.slug, context.map_index), ["ab"] * 2)
    assert futures.results(timeout=PATIENCE) == [("<lambda>[0]", 0), ("<lambda>[1]", 1)]


# --- futures among the elements ------------------------------------------------------------------


def test_a_map_of_a_map_goes_element_by_element(runner):
    first = runner.map(add, [1, 2, 3])
    second = runner.map(add, first, first[::-1])
    assert second.results(timeout=PATIENCE) == [4, 4, 4]
    assert runner.submit(sum, second).result(PATIENCE) == 12


def test_a_single_future_is_the_same_for_all(runner):
    ten = runner.submit(add, 10)
    assert runner.map(add, [1, 2], unmapped(ten)).results(timeout=PATIENCE) == [11, 12]
    both = runner.map(add, [1, 2])
    assert runner.map(lambda x, all_: x + sum(all_), [1, 2], unmapped(both)).results() == [4, 5]


def test_the_clusters_own_futures_are_elements(runner):
    # Each is a task run of its own, which must come before those that read it.
    futures = runner.map(add, [FakeFuture(n) for n in range(5)], unmapped(FakeFuture(10)))
    assert futures.results(timeout=PATIENCE) == [10, 11, 12, 13, 14]


def test_upstream_tasks_hold_for_each(runner):
    first = runner.submit(add, 1)
    futures = runner.map(add, [1, 2], upstream_tasks=(future for future in [first]))
    assert futures.results(timeout=PATIENCE) == [1, 2]
    assert [f.task_run.record.plan.upstream for f in futures] == [(first._id,)] * 2


def test_a_failed_element_fails_its_own_child_only(runner):
    first = runner.map(fail_at, range(3), at=unmapped(1))
    second = runner.map(add, first)
    assert second.results("drop", PATIENCE) == [0, 2]
    assert second[1].state.message.startswith("all_successful: 1 of 1 upstream runs were not")


# --- what is refused -----------------------------------------------------------------------------


class DataFrame:
    """Any library's."""

    def __iter__(self):
        return iter(["a"])


async def numbers():
    yield 1


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("abc", "Write x=unmapped('abc') to pass the same to each"),
        (b"abc", "Write x=unmapped(b'abc') to pass the same to each"),
        ({"a": 1}, "Write x=unmapped(...) to pass the whole, or list(...) to map over it"),
        ({1, 2}, "Write x=unmapped(...) to pass the whole, or list(...) to map over it"),
        (DataFrame(), "df.to_dict('records') for its rows"),
        (None, "Write x=unmapped(None) to pass the same to each"),
        (5, "Write x=unmapped(5) to pass the same to each"),
        (numbers(), "Write x=[x async for x in ...]"),
    ],
)
def test_what_is_never_mapped_over_shows_the_right_line(runner, value, line):
    with pytest.raises(exceptions.ArgumentError) as caught:
        runner.map(add, value, [1, 2])
    text = str(caught.value)
    assert text.startswith(f"map: add cannot be mapped over x, of type {type(value).__name__}. ")
    assert line in text


def test_an_array_without_dimensions_says_so(runner):
    import numpy as np

    with pytest.raises(
        exceptions.ArgumentError, match=r"over x, of type ndarray. Write x=unmapped"
    ):
        runner.map(add, np.array(5))


class Collection:
    """A lazy one of many elements, as Dask has them."""

    def __dask_graph__(self):
        return {}


def test_a_lazy_collection_is_refused(runner):
    with pytest.raises(
        exceptions.ArgumentError, match=r"of type Collection. Write unmapped\(...\)"
    ):
        runner.map(add, Collection())


def test_a_bound_task_is_refused(runner):
    with Flow("etl"):
        rows = add(1)
    with pytest.raises(exceptions.ArgumentError, match=r"map over run\['add'\]"):
        runner.map(add, rows)
    with pytest.raises(exceptions.ArgumentError, match=r"Run the flow, and pass run\['add'\]"):
        runner.map(add, [1, 2], unmapped(rows))


def test_a_coroutine_is_refused(runner):
    async def rows():
        return [1]

    with pytest.raises(exceptions.ArgumentError, match=r"write x=await \.\.\."):
        runner.map(add, rows())


def test_unequal_lengths_are_refused_with_all_of_them(runner):
    with pytest.raises(exceptions.ArgumentError) as caught:
        runner.map(add, [1, 2, 3], y=[1])
    assert "the arguments of add are not equally long: x has 3, y has 1." in str(caught.value)
    with pytest.raises(exceptions.ArgumentError, match="argument 1 has 2, a has 3"):
        runner.map(collect, unmapped(0), [1, 2], a=[1, 2, 3])


@pytest.mark.parametrize("kwargs", [{}, {"x": unmapped(1)}])
def test_nothing_to_map_over_is_refused(runner, kwargs):
    with pytest.raises(exceptions.ArgumentError) as caught:
        runner.map(lambda x=1: x, **kwargs)
    assert "has no argument to map over; runner.submit(<lambda>, ...)" in str(caught.value)


def test_nothing_of_a_refused_map_is_sent(runner):
    with pytest.raises(exceptions.UnpicklableArgument, match=r"argument 'x' of 'add\[1\]'"):
        runner.map(add, [1, lambda: runner])
    runner.settled()
    assert {run.id[1] for run in runner.channel.submitted} == {-1}
