"""What can be wrong with a run is found without a cluster."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dask_taskrunner import Flow, OptionError, Parameter, ParameterError, UnpicklableArgument, task
from dask_taskrunner.launching import merge_parameters, prepare
from dask_taskrunner.packing import Packer
from dask_taskrunner.run_context import RESERVED


@task
def work(*args):
    return args


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        work(Parameter("date", default="monday"), Parameter("n", default=7))
    return flow


def prepared(flow: Flow, **options: Any) -> tuple[dict[str, Any], Any, str]:
    given: dict[str, Any] = {
        "parameters": {},
        "run_name": None,
        "context": {},
        "return_tasks": None,
        "keep": "reference",
        "task_defaults": {},
        "packer": Packer(),
    }
    return prepare(flow, **(given | options))


# --- the run's name --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, ""),
        ("", ""),
        ("nightly", "nightly"),
        ("etl {date}", "etl tuesday"),
        ("{date!r:>10}/{n:03d} {{x}}", " 'tuesday'/007 {x}".strip()),
    ],
)
def test_a_run_name_is_a_template_over_the_parameters(flow, template, name):
    assert prepared(flow, run_name=template, parameters={"date": "tuesday"})[2] == name


def test_a_wrong_field_of_a_run_name_is_named_and_so_are_the_parameters(flow):
    with pytest.raises(OptionError) as caught:
        prepared(flow, run_name="etl {day} {n}")
    assert str(caught.value) == (
        "run_name 'etl {day} {n}': flow 'etl' has no parameter 'day'; it has 'date', 'n'"
    )


def test_a_flow_without_parameters_says_so():
    with Flow("plain") as plain:
        work()
    with pytest.raises(OptionError, match="flow 'plain' has no parameter 'day'; it has none"):
        prepared(plain, run_name="{day}")


@pytest.mark.parametrize(
    ("run_name", "text"),
    [
        (5, "run_name must be a text, not 5"),
        ("etl {", "run_name 'etl {' is no template: "),
        ("etl {}", "run_name 'etl {}' is no template: a field needs a name, as in '{date}'"),
        ("{date:d}", "run_name '{date:d}': ValueError: Unknown format code 'd'"),
        ("{date.year}", "run_name '{date.year}': AttributeError: "),
    ],
)
def test_a_run_name_that_cannot_be_made_is_an_error(flow, run_name, text):
    with pytest.raises(OptionError) as caught:
        prepared(flow, run_name=run_name)
    assert str(caught.value).startswith(text)


# --- parameters ------------------------------------------------------------------------------


def test_parameters_may_be_given_in_both_ways():
    assert merge_parameters({"date": 1}, {"n": 2}) == {"date": 1, "n": 2}
    assert merge_parameters(None, {"n": 2}) == {"n": 2}
    assert merge_parameters({}, {}) == {}


class NotEqual:
    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_a_parameter_that_is_given_twice_is_an_error_whatever_its_values():
    with pytest.raises(ParameterError) as caught:
        merge_parameters({"date": NotEqual()}, {"date": NotEqual()})
    assert str(caught.value) == (
        "parameter 'date' has two values: one in parameters=, and one as date=; leave one out"
    )


@pytest.mark.parametrize("given", [5, "date", [("date", 1)]])
def test_parameters_are_a_mapping(given):
    with pytest.raises(OptionError, match="parameters must be a dict of values by name, not "):
        merge_parameters(given, {})


# --- entries of the context ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RESERVED - {"parameters"}))
def test_an_entry_that_each_task_run_has_of_its_own_is_refused(flow, name):
    with pytest.raises(OptionError) as caught:
        prepared(flow, context={"region": "eu", name: 1})
    assert str(caught.value) == (
        f"context: {name!r} is an entry of each task run's own; call yours otherwise"
    )


def test_parameters_in_a_context_are_shown_their_place(flow):
    with pytest.raises(OptionError, match="the flow's parameters are given as parameters="):
        prepared(flow, context={"parameters": {"n": 1}})


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (["region"], "context must be a dict of entries by name"),
        ({1: 2}, "context: an entry has a text for a name, not 1"),
    ],
)
def test_entries_are_a_mapping_of_names(flow, context: Mapping[str, Any], text):
    with pytest.raises(OptionError, match=text):
        prepared(flow, context=context)


def test_an_entry_that_cannot_be_sent_is_found_at_once(flow):
    with pytest.raises(UnpicklableArgument, match="the context's 'lock' cannot be pickled"):
        prepared(flow, context={"lock": threading.Lock()})


def test_what_a_task_finds_in_its_context_is_what_is_reserved(flow):
    from dask_taskrunner import TaskRunner, context

    @task
    def look():
        return set(context.to_dict())

    assert TaskRunner(look).run().result <= RESERVED
