"""Tasks, and tasks that return graphs of them: for whatever is to be seen of growing flows."""

from __future__ import annotations

from dask_taskrunner import Flow, Parameter, expand, task
from dask_taskrunner.graph.mapping import unmapped

LARGE = "x" * 10_000


@task
def one():
    return 1


@task
def inc(x, by=1):
    return x + by


@task
def add(x, y):
    return x + y


@task
def many(n):
    return list(range(n))


@task
def total(xs):
    return sum(xs)


@task
def large(x=0):
    return LARGE


@task
def length(text):
    return len(text)


@task
def show(x):
    return x


@task
def fails(x=0):
    raise ValueError("negative price")


def sums():
    """Return a flow with a mapped task in it."""
    with Flow("sums") as flow:
        n = Parameter("n", type=int)
        by = Parameter("by", default=1)
        total(inc.map(many(n), unmapped(by)))
    return flow


@task
def train(n):
    return expand(sums(), n=n, by=10)


def returning(make):
    """Return a task that expands to what a function builds, in a flow's block."""

    @task
    def grow(x=0):
        with Flow("inner") as flow:
            result = make(x)
        return expand(flow if result is None else result)

    return grow


def states_of(run):
    return {slug: type(state).__name__ for slug, state in run.states.items()}
