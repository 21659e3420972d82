"""Names for people: what a template may hold, and what becomes of it."""

from __future__ import annotations

from datetime import date

import pytest

from dask_taskrunner.name_templates import field_names, is_template, make_name


class Untouchable:
    """A value like a table: it is neither true nor false, and equal to nothing."""

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]

    def __format__(self, spec):
        return "table"


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("nightly", []),
        ("{{date}}", []),
        ("etl {date}", ["date"]),
        ("{date.year}-{rows[0][x]} {n:03d} {n!r}", ["date", "rows", "n", "n"]),
        ("{n:{width}}", ["n", "width"]),
    ],
)
def test_the_fields_of_a_template_are_known_by_their_first_names(template, names):
    assert field_names(template) == names
    assert is_template(template)


@pytest.mark.parametrize("template", ["{}", "{0}", "{", "}", "{.year}", "{n:{}}", "{n!x"])
def test_what_has_a_field_without_a_name_is_no_template(template):
    assert not is_template(template)
    with pytest.raises(ValueError, match=r"."):
        field_names(template)


@pytest.mark.parametrize("value", [None, 5, "", b"x", ["x"]])
def test_nothing_but_a_text_is_a_template(value):
    assert not is_template(value)


def test_a_template_is_filled_as_python_fills_it():
    values = {"date": date(2026, 1, 31), "n": 7, "rows": Untouchable()}
    assert make_name("{date:%d.%m.} {n:03d} {rows}", values) == "31.01. 007 table"


def test_a_function_gets_all_that_would_fill_a_template():
    values = {"n": 7, "rows": Untouchable()}
    assert make_name(lambda given: f"{given is values} {given['n']}", values) == "True 7"


def test_a_name_is_one_line_of_at_most_200_characters():
    assert make_name("a\n  b\t{n}", {"n": "\n"}) == "a b"
    assert make_name("x" * 200, {}) == "x" * 200
    assert make_name("x" * 201, {}) == "x" * 197 + "..."


@pytest.mark.parametrize(
    ("template", "error", "text"),
    [
        ("{x}", KeyError, "'x'"),
        ("{n:d}", ValueError, "Unknown format code 'd'"),
        ("{n.year}", AttributeError, "year"),
        (lambda values: values["x"], KeyError, "'x'"),
        (lambda values: None, TypeError, "it gave a NoneType, and a name is a text"),
        (lambda values: 5, TypeError, "it gave a int, and a name is a text"),
    ],
)
def test_what_goes_wrong_is_raised(template, error, text):
    with pytest.raises(error, match=text):
        make_name(template, {"n": "seven"})
