"""The graph of a run, while it goes on and when it has ended."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest
from fakes.gates import PATIENCE, Gate, eventually

from dask_taskrunner import Flow, expand, task
from dask_taskrunner.states import COLORS


@task
def numbers():
    return list(range(8))


@task
def double(x):
    return 2 * x


@task
def total(xs):
    return sum(xs)


@pytest.fixture
def gate():
    gate = Gate("graph")
    yield gate
    gate.open()


@pytest.fixture
def mapped():
    with Flow("etl") as flow:
        total(double.map(numbers()))
    return flow


def boxes(svg):
    """The state that each node shows, and those that bars do."""
    found, bars = {}, []
    for box in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect"):
        if box.get("data-slug"):
            found[box.get("data-slug")] = box.get("data-state")
        elif box.get("data-state"):
            bars.append(box.get("data-state"))
    return {**found, "bars": bars} if bars else found


def svg_of(run):
    graph = run._graph()
    graph.feed(run.history)
    return graph.svg(time.time())


def test_a_mapped_task_is_one_node_with_a_bar_of_its_children(finish, mapped):
    run = finish(mapped)
    svg = svg_of(run)
    assert boxes(svg) == {
        "numbers": "Success", "double": "Mapped", "total": "Success", "bars": ["Success"],
    }  # fmt: skip
    assert ">8/8<" in svg
    assert "double: Mapped" in svg
    assert svg.count("<path") == 2


def test_children_that_have_not_begun_are_in_the_bar(start, gate):
    @task
    def wait(n):
        if n:
            gate.pass_through()

    with Flow("etl") as flow:
        wait.map(range(3))
    run = start(flow)
    assert eventually(lambda: ">1/3<" in svg_of(run))
    assert boxes(svg_of(run))["bars"] != ["Success"]


def test_a_retry_counts_down(start):
    @task(max_retries=1, retry_delay=60)
    def fail():
        raise ValueError("no")

    with Flow("etl") as flow:
        fail()
    run = start(flow)
    graph = run._graph()
    assert eventually(lambda: run["fail"].state.is_retrying())
    graph.feed(run.history)
    now = time.time()
    assert "due in 60" in graph.svg(now).replace("59.9", "60") or "due in 1 min" in graph.svg(now)
    assert "due in 20" in graph.svg(now + 39.5)
    assert boxes(graph.svg(now)) == {"fail": "Retrying"}
    assert COLORS["Retrying"] in graph.svg(now)


def test_what_a_task_has_grown_joins(finish):
    @task
    def grow():
        with Flow("inner") as inner:
            total([double(1), double(2)])
        return expand(inner)

    with Flow("etl") as flow:
        double(grow())
    run = finish(flow)
    assert list(boxes(svg_of(run))) == [
        "grow",
        "double",
        *[s for s in run if s.startswith("grow/")],
    ]


def test_a_node_tells_when_where_and_what_came_of_it(finish):
    with Flow("etl") as flow:
        numbers()
    (title,) = ElementTree.fromstring(svg_of(finish(flow))).iter(
        "{http://www.w3.org/2000/svg}title"
    )
    lines = title.text.splitlines()
    assert lines[0] == "numbers: Success"
    assert lines[1].startswith("began ")
    assert ", took " in lines[1]
    assert lines[2] == "on fake://1"
    assert lines[3].startswith("result: list, ")


def test_a_run_is_drawn_as_text_too(finish, mapped):
    drawn = finish(mapped).visualize()
    assert str(drawn).splitlines()[1].split() == ["numbers", "Success", "(Success", "0", "ms)"]
    assert "8 Success" in str(drawn)
    assert "classDef Success fill:#2e9e4f" in drawn.mermaid


def test_a_picture_of_many_children_is_small(finish):
    with Flow("etl") as flow:
        first = [double(n) for n in range(150)]
        double.map(range(2000))
        total(first)
    svg = svg_of(finish(flow))
    assert len(svg) < 10_000
    assert {slug for slug in boxes(svg) if "x 150" in slug} == {"double x 150"}


def test_a_picture_of_three_hundred_different_tasks_is_small_and_soon_there(start):
    with Flow("etl") as flow:
        made = [task(double.body, name=f"task_number_{n}")(n) for n in range(10)]
        for n in range(290):
            made.append(task(double.body, name=f"task_number_{n + 10}")(made[n // 2]))
    run = start(flow)
    run.wait(PATIENCE)
    began = time.perf_counter()
    svg = svg_of(run)
    assert time.perf_counter() - began < 1
    assert len(svg) < 100_000
