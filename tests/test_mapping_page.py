"""The page on maps and branches is run from its first block to its last, and its table is true."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pages import check_page

from dask_taskrunner import Flow, signals, states, task, triggers
from dask_taskrunner.exceptions import TaskRunnerError
from dask_taskrunner.testing import InProcessRunner, fail

PAGE = (Path(__file__).parents[1] / "docs" / "mapping.md").read_text(encoding="utf-8")


@pytest.mark.cluster
def test_the_cells_show_what_the_page_shows(client):
    namespace = {"__name__": "__main__"}
    with client.as_current():
        check_page(PAGE, namespace)
        namespace["runner"].close()


# --- the table of what is mapped over -------------------------------------------------------------


@task
def give(value=None):
    if isinstance(value, signals.Signal):
        raise value
    return value


@task
def each(x, y=None):
    return x


@task(trigger=triggers.all_failed)
def reduce(xs):
    return xs


def after(value, *faults, **options):
    """Map over what a task gives, reduce that, and return the run."""
    with Flow("maps") as flow:
        reduce(each.map(give(value), task_args=options))
    return InProcessRunner(*faults).run(flow)


def test_the_rows_are_these():
    _, _, table = PAGE.partition("| mapped over | the mapped task |\n|---|---|\n")
    told = [line.strip("| ").split(" | ")[0] for line in table.partition("\n\n")[0].splitlines()]
    assert told == [
        "n elements",
        "what failed, crashed or was cancelled",
        "what was skipped",
        "a str, bytes, dict, set, DataFrame, number, None",
        "unequal lengths",
    ]


def test_of_no_elements_a_reduce_gets_an_empty_list_and_its_trigger_sees_nothing():
    run = after([1, 2, 3])
    assert type(run["each"].state) is states.Mapped
    assert len(run["each"].children) == 3
    assert run["reduce"].state.is_failed()
    run = after([])
    assert type(run["each"].state) is states.Mapped
    assert run["reduce"].result() == []


@pytest.mark.parametrize("value", [1, signals.CANCELLED("enough")])
def test_over_what_failed_the_trigger_decides_and_one_that_passes_has_nothing_to_map_over(value):
    faults = [fail("give")] if value == 1 else []
    assert type(after(value, *faults)["each"].state) is states.TriggerFailed
    state = after(value, *faults, trigger=triggers.all_finished)["each"].state
    assert type(state) is states.Failed
    assert state.message.startswith("nothing to map over: ")


def test_over_what_was_skipped_a_map_is_skipped_or_has_failed():
    skip = signals.SKIP("no news")
    assert after(skip)["each"].state.is_skipped()
    assert type(after(skip, skip_on_upstream_skip=False)["each"].state) is states.Failed


@pytest.mark.parametrize("value", ["abc", b"abc", {"a": 1}, {1}, pd.DataFrame({"a": [1]}), 3, None])
def test_what_is_seldom_meant_is_an_error_where_it_is_known(value):
    assert type(after(value)["each"].state) is states.Failed
    with Flow("built"), pytest.raises(TaskRunnerError):
        each.map(value)


def test_unequal_lengths_are_told_with_both_tasks_and_may_be_allowed():
    def over_two(**options):
        with Flow("two") as flow:
            other = task(give.run, name="other")([1, 2, 3])
            each.map(give([1, 2]), other, task_args=options)
        return InProcessRunner().run(flow)["each"]

    failed = over_two().state
    assert type(failed) is states.Failed
    assert all(word in failed.message for word in ("give", "2", "other", "3"))
    assert len(over_two(zip_shortest=True).children) == 2
