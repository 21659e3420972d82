"""Names for people, made on worker processes; and what is wrong with them, before there are any."""

from __future__ import annotations

import os
import threading

import pandas as pd
import pytest

from dask_taskrunner import (
    DaskTaskRunner,
    Flow,
    OptionError,
    Parameter,
    ParameterError,
    context,
    task,
)
from dask_taskrunner.exceptions import ResultNotSerializable

pytestmark = pytest.mark.cluster


@task
def extract():
    return pd.DataFrame({"price": [1, 2]})


@task(task_run_name=lambda values: f"{len(values['rows'])} rows of {values['day']}, {os.getpid()}")
def clean(rows, other=None):
    return context.task_run_name, os.getpid()


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        Parameter("day", default="monday")
        rows = extract()
        clean(rows, other=rows)
        clean(rows, task_args={"task_run_name": "{rows.shape}"})
        clean(rows, task_args={"task_run_name": "{row}"})
    return flow


def test_a_run_is_named_on_its_worker_by_inputs_and_parameters(runner, flow):
    run = runner.run(flow, day="friday", run_name="etl of {day}")
    assert run.run_name == "etl of friday"
    name, pid = run["clean"].result()
    assert run["clean"].name == name == f"2 rows of friday, {pid}"
    assert pid != os.getpid()
    assert run["clean-2"].name == run["clean-2"].result()[0] == "(2, 1)"
    assert run["clean-3"].state.message == "task_run_name of task clean-3: KeyError: 'row'"
    assert run["clean-3"].name == "clean-3"


def test_where_inputs_cannot_be_opened_that_is_the_failure_and_not_the_name(runner, client):
    @task
    def make():
        return threading.Lock()

    first, second = sorted(client.nthreads())
    with Flow("elsewhere") as flow:
        made = make(task_args={"workers": first})
        clean(made, task_args={"workers": second, "task_run_name": "{rows}"})
    state = runner.run(flow)["clean"].state
    assert isinstance(state.exception, ResultNotSerializable)
    assert state.message.startswith("ResultNotSerializable: the result of make, a lock")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"run_name": "etl of {dya}"}, OptionError, "has no parameter 'dya'; it has 'day'"),
        ({"context": {"slug": "x"}}, OptionError, "'slug' is an entry of each task run's own"),
        ({"parameters": {"day": 1}, "day": 2}, ParameterError, "parameter 'day' has two values"),
    ],
)
def test_what_is_wrong_with_a_run_starts_no_cluster(
    runner, flow, monkeypatch, options, error, text
):
    from dask_taskrunner.dask_backend import connecting

    with pytest.raises(error, match=text):
        runner.run(flow, **options)
    assert runner.last_run is None
    monkeypatch.setattr(connecting, "LocalCluster", None)
    with pytest.raises(error, match=text):
        flow.run(**options)


def test_the_defaults_of_a_runner_are_the_furthest(client):
    @task
    def look():
        return context.task_run_name

    with Flow("etl") as flow:
        look()
        look(task_args={"task_run_name": "nearer"})
    with DaskTaskRunner(client=client, task_defaults={"task_run_name": "by the runner"}) as runner:
        run = runner.run(flow)
    assert run.result() == {"look": "by the runner", "look-2": "nearer"}
