from __future__ import annotations

from decimal import Decimal

import pytest

from dask_taskrunner.input_lines import input_lines, line_of


class Array:
    shape = dtype = None

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype

    def __repr__(self):
        return "Array()"


class DataFrame:
    @property
    def shape(self):
        return (2, 9)


class Unspeakable:
    def __repr__(self):
        raise SystemExit("no")


class MakesUpAttributes:
    def __getattr__(self, name):
        return (1, 2)

    def __repr__(self):
        return "MakesUpAttributes()"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (5, "5"),
        ("fast", "'fast'"),
        ([1, 2], "[1, 2]"),
        ({"a": Decimal("1.5")}, "{'a': Decimal('1.5')}"),
        ("two\nlines", r"'two\nlines'"),
        (Array((2, 3), "int64"), "Array(2, 3) int64"),
        ([Array((5,), "float64")], "[Array(5,) float64]"),
        (Array((), "float64"), "Array()"),
        (Array(None, "float64"), "Array()"),
        (Array, repr(Array)),
        (DataFrame(), "DataFrame(2, 9)"),
        (b"short", "b'short'"),
        (b"x" * 1_000_000, f"b'{'x' * 40}'... (1000000 bytes)"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, ...]"),
    ],
)
def test_a_value_is_told_in_one_line(value, line):
    assert line_of(value) == line


def test_the_real_arrays_and_tables_are_told_by_type_shape_and_dtype():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert line_of(frame) == "DataFrame(2, 2)"
    assert line_of(frame["a"]) == "Series(2,) float64"
    assert line_of(frame.to_numpy()) == "ndarray(2, 2) float64"
    assert "1.0" in line_of(frame.to_numpy()[0, 0])


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (MakesUpAttributes, "MakesUpAttributes()"),
        (Unspeakable, "<Unspeakable whose repr raised SystemExit>"),
    ],
)
def test_a_value_without_manners_is_told_all_the_same(kind, line):
    assert line_of(kind()) == line


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        [["x" * 50] * 50] * 50,
        {str(n): "y" * 99 for n in range(99)},
    ],
)
def test_no_line_is_longer_than_200_characters(value):
    line = line_of(value)
    assert len(line) <= 200
    assert "\n" not in line


def test_all_lines_have_2000_characters_together_and_say_what_was_left_out():
    lines = input_lines({f"argument_{n}": "x" * 1000 for n in range(40)})
    left_out = lines.pop("...")
    assert sum(len(name) + len(line) for name, line in lines.items()) <= 2000
    assert left_out == f"{40 - len(lines)} more"


def test_inputs_for_which_there_is_room_have_their_names():
    assert input_lines({"chunk": [1], "mode": "fast"}) == {"chunk": "[1]", "mode": "'fast'"}
