import enum
import pickle
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import cloudpickle
import pytest

from dask_taskrunner import Flow, OptionError, OutsideFlow, Parameter, ParameterError
from dask_taskrunner.graph.parameters import NO_DEFAULT


class Color(enum.Enum):
    RED = 1


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        yield flow


def test_a_parameter_belongs_to_the_flow_of_its_block(flow):
    url = Parameter("url", default="x", help="where from")
    assert flow.parameters() == {"url": url}
    assert flow.tasks == (url,)
    assert (url.name, url.slug, url.flow, url.help) == ("url", "url", flow, "where from")
    assert repr(url) == "<Parameter 'url'>"


def test_a_parameter_outside_of_a_flow_is_an_error():
    with pytest.raises(OutsideFlow, match=r"Parameter\('url'\) was made outside a flow"):
        Parameter("url")


def test_a_flow_has_a_parameter_once(flow):
    Parameter("url")
    with pytest.raises(ParameterError, match="flow 'etl' has a parameter 'url' already"):
        Parameter("url")


@pytest.mark.parametrize("name", ["", 5, None, "a/b"])
def test_the_name_is_checked(flow, name):
    with pytest.raises(OptionError, match="Parameter: name must be a text"):
        Parameter(name)


@pytest.mark.parametrize("type", ["int", list[int], int | None])
def test_the_type_must_be_a_class(flow, type):
    with pytest.raises(OptionError, match="Parameter 'n': type must be a class"):
        Parameter("n", type=type)


def test_a_default_of_another_type_is_refused(flow):
    with pytest.raises(ParameterError, match=r"parameter 'n' takes int, not 'x' \(str\)"):
        Parameter("n", default="x", type=int)
    assert flow.parameters() == {}


# --- values ------------------------------------------------------------------------------------


def test_a_run_gets_what_it_is_given_and_else_the_defaults(flow):
    Parameter("a")
    Parameter("b", default=2)
    Parameter("c", required=False)
    assert flow.resolve_parameters({"a": 1}) == {"a": 1, "b": 2, "c": None}
    assert flow.resolve_parameters({"a": 1, "b": 3, "c": 4}) == {"a": 1, "b": 3, "c": 4}


def test_missing_parameters_are_named(flow):
    Parameter("a")
    with pytest.raises(ParameterError, match=r"given no value for its parameter 'a'$"):
        flow.resolve_parameters({})
    Parameter("b", default=2, required=True)
    with pytest.raises(ParameterError, match=r"given no value for its parameters 'a', 'b'$"):
        flow.resolve_parameters({})


def test_an_unknown_parameter_is_named_with_the_nearest_right_one(flow):
    with pytest.raises(ParameterError, match="flow 'etl' has no parameter 'ulr'; there are none"):
        flow.resolve_parameters({"ulr": 1})
    Parameter("url")
    with pytest.raises(ParameterError, match=r"no parameter 'ulr'; did you mean 'url'\?"):
        flow.resolve_parameters({"ulr": 1})


def test_another_type_is_refused_only_where_a_type_was_given(flow):
    Parameter("free", default=1)
    Parameter("n", default=1, type=int)
    assert flow.resolve_parameters({"free": "x"})["free"] == "x"
    with pytest.raises(ParameterError, match=r"parameter 'n' takes int, not 'x' \(str\)"):
        flow.resolve_parameters({"n": "x"})


def test_an_int_is_a_float(flow):
    Parameter("ratio", type=float)
    assert flow.resolve_parameters({"ratio": 1}) == {"ratio": 1}


def test_nothing_is_a_value_of_what_is_not_required(flow):
    Parameter("limit", default=None, type=int)
    Parameter("n", type=int)
    assert flow.resolve_parameters({"limit": None, "n": 1})["limit"] is None
    with pytest.raises(ParameterError, match="parameter 'n' takes int, not None"):
        flow.resolve_parameters({"n": None})


# --- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text", "value"),
    [
        ({}, "5", "5"),
        ({"default": None}, "5", "5"),
        ({"default": 1}, "5", 5),
        ({"type": int}, "5", 5),
        ({"default": 1, "type": float}, "5", 5.0),
        ({"default": 1.5}, "1e3", 1000.0),
        ({"default": False}, "Yes", True),
        ({"type": bool}, "0", False),
        ({"default": []}, "[1, 'x']", [1, "x"]),
        ({"default": ()}, "1, 2", (1, 2)),
        ({"type": set}, "[1, 1]", {1}),
        ({"type": dict}, "{'a': 1}", {"a": 1}),
        ({"type": date}, "2026-01-31", date(2026, 1, 31)),
        ({"default": datetime(2026, 1, 1)}, "2026-01-31T12:00", datetime(2026, 1, 31, 12)),
        ({"default": Path()}, "a/b", Path("a/b")),
        ({"type": Decimal}, "1.10", Decimal("1.10")),
        ({"type": Color}, "RED", Color.RED),
    ],
)
def test_text_is_read_as_the_type_or_as_the_defaults(flow, options, text, value):
    parsed = Parameter("p", **options).parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (int, "x"),
        (bool, "maybe"),
        (list, "5"),
        (list, "'abc'"),
        (dict, "{"),
        (date, "tomorrow"),
        (Decimal, "x"),
        (Color, "BLUE"),
        (type(None), "x"),
    ],
)
def test_text_that_cannot_be_read_is_an_error(flow, type, text):
    with pytest.raises(ParameterError) as caught:
        Parameter("p", type=type).parse(text)
    assert str(caught.value) == (
        f"parameter 'p' takes {type.__name__}; {text!r} cannot be read as one"
    )


# --- pickles -----------------------------------------------------------------------------------


def test_a_parameter_without_default_has_none_after_a_pickle(flow):
    url = pickle.loads(cloudpickle.dumps(Parameter("url")))
    assert url.default is NO_DEFAULT
    assert repr(url.default) == "<no default>"
