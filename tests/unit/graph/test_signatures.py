import inspect
import typing

import pytest

from dask_taskrunner.exceptions import ArgumentError, OptionError
from dask_taskrunner.graph import signatures


def plain(rows, threshold=5): ...
def keywords_only(rows, *, threshold): ...
def positional_only(rows, threshold=5, /, mode="fast"): ...
def starred(first, second=2, /, third=3, *rest, mode="fast", **more): ...
def rest_only(a=1, b=2, *rest): ...


CALLS = [
    (plain, (1,), {}),
    (plain, (1, 2), {}),
    (plain, (), {"threshold": 2, "rows": 1}),
    (keywords_only, (1,), {"threshold": 2}),
    (positional_only, (1,), {}),
    (positional_only, (1, 2), {"mode": "slow"}),
    (starred, (1,), {}),
    (starred, (1,), {"third": 4}),
    (starred, (1, 2, 3, 4, 5), {"mode": "slow", "x": 1}),
    (starred, (1,), {"first": 7, "mode": "slow"}),
    (rest_only, (), {"b": 3}),
    (rest_only, (1, 2, 3), {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_a_call_that_is_bound_and_split_again_is_the_same_call(function, args, kwargs):
    signature = signatures.read_signature(function, "f")
    inputs = signatures.bind(signature, "f", args, kwargs)
    shape = signatures.read_shape(signature)
    again = ((), inputs) if shape is None else shape.split(inputs)
    bound, rebound = signature.bind(*args, **kwargs), signature.bind(*again[0], **again[1])
    bound.apply_defaults()
    rebound.apply_defaults()
    assert rebound.arguments == bound.arguments


@pytest.mark.parametrize("function", [plain, keywords_only])
def test_a_plain_signature_has_no_shape(function):
    assert signatures.read_shape(inspect.signature(function)) is None


def test_splitting_leaves_the_inputs_alone():
    shape = signatures.read_shape(inspect.signature(starred))
    inputs = {"first": 1, "more": {"x": 1}}
    shape.split(inputs)
    assert inputs == {"first": 1, "more": {"x": 1}}


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "clean(rows, threshold=...): missing a required argument: 'rows'"),
        ((1, 2, 3), {}, "clean(rows, threshold=...): too many positional arguments"),
        ((1,), {"rows": 2}, "clean(rows, threshold=...): multiple values for argument 'rows'"),
        (
            (1,),
            {"thresold": 2},
            (
                "clean(rows, threshold=...): there is no parameter 'thresold'; "
                "did you mean 'threshold'?"
            ),
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(args, kwargs, text):
    with pytest.raises(ArgumentError) as caught:
        signatures.bind(inspect.signature(plain), "clean", args, kwargs)
    assert str(caught.value) == text


def test_stars_are_shown_in_an_error():
    with pytest.raises(ArgumentError, match=r"f\(first, second=\.\.\., third=\.\.\., \*rest, mode"):
        signatures.bind(inspect.signature(starred), "f", (), {})


def test_an_argument_can_be_added_by_its_name():
    signature = inspect.signature(starred)
    given = signatures.bind_more(signature, "f", {"first": 1}, "mode", "slow")
    given = signatures.bind_more(signature, "f", given, "x", 1)
    given = signatures.bind_more(signature, "f", given, "y", 2)
    assert given == {"first": 1, "mode": "slow", "more": {"x": 1, "y": 2}}


@pytest.mark.parametrize("key", ["mode", "x"])
def test_an_argument_is_not_given_twice(key):
    signature = inspect.signature(starred)
    given = signatures.bind_more(signature, "f", {}, key, 1)
    with pytest.raises(ArgumentError, match=f"{key!r} has its argument already"):
        signatures.bind_more(signature, "f", given, key, 2)


def test_an_argument_that_does_not_exist_cannot_be_added():
    with pytest.raises(ArgumentError, match="no parameter 'row'; did you mean 'rows'"):
        signatures.bind_more(inspect.signature(plain), "f", {}, "row", 1)


def test_only_parameters_without_default_can_be_missing():
    assert signatures.find_missing(inspect.signature(starred), {}) == ["first"]
    assert signatures.find_missing(inspect.signature(starred), {"first": 1}) == []


@pytest.mark.parametrize("builtin", [dict, max, int])
def test_a_builtin_that_does_not_tell_its_signature_takes_anything(builtin):
    signature = signatures.read_signature(builtin, "f")
    assert signatures.bind(signature, "f", (1,), {"key": 2}) == {"args": (1,), "kwargs": {"key": 2}}


@pytest.mark.parametrize("name", ["upstream_tasks", "task_args"])
def test_names_that_calls_take_cannot_be_parameters(name):
    namespace: dict = {}
    exec(f"def f(rows, {name}=None): ...", namespace)
    with pytest.raises(OptionError, match=f"f: no parameter of a task may be called '{name}'"):
        signatures.read_signature(namespace["f"], "f")


@pytest.mark.parametrize(
    ("annotation", "count"),
    [
        (tuple[int, str], 2),
        (tuple[int], 1),
        (typing.Tuple[int, str, int], 3),  # noqa: UP006 (users still write it)
        (tuple[int, ...], None),
        (tuple[()], None),
        (tuple, None),
        (int, None),
        (list[int], None),
        ("tuple[Frame, Other]", 2),
        ("tuple[Frame]", 1),
        ("Tuple[Frame, dict[str, int]]", 2),
        ("typing.Tuple[int, int]", 2),
        ("tuple[int, ...]", None),
        ("tuple[()]", None),
        ("dict[str, int]", None),
        ("tuple", None),
        ("not a type", None),
    ],
)
def test_the_number_of_outputs_is_read_from_the_annotation(annotation, count):
    def function(): ...

    function.__annotations__["return"] = annotation
    assert signatures.count_outputs(inspect.signature(function)) == count
