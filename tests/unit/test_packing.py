"""What is sent once, what is refused or warned of, and that nothing is asked of a user's value."""

from __future__ import annotations

import functools
import pickle
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from dask_taskrunner import packing
from dask_taskrunner.exceptions import LargeArgument, UnpicklableArgument
from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.graph.tasks import FunctionTask
from dask_taskrunner.packing import LARGE, Packer
from dask_taskrunner.worker.placeholders import ConstantPlaceholder, Placeholder

LONG = "x" * (LARGE + 1)


@dataclass(frozen=True)
class Settings:
    name: str
    table: object


class Pair(NamedTuple):
    left: object
    right: object


def packed(packer: Packer, slug: str = "f", **arguments: Any) -> tuple[bytes, tuple[Any, ...]]:
    return packer.pack(slug, arguments)


def opened(data: bytes, constants: tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments as a worker does."""
    values = [pickle.loads(constant.data) for constant in constants]
    arguments: dict[str, Any] = pickle.loads(data)
    return {
        name: replace(value, ConstantPlaceholder, lambda found: values[found.position])
        for name, value in arguments.items()
    }


def test_what_is_small_goes_along():
    data, constants = packed(Packer(), x=1, y=["a", {"b": 2}])
    assert constants == ()
    assert pickle.loads(data) == {"x": 1, "y": ["a", {"b": 2}]}


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        LONG.encode(),
        "é" * (LARGE // 2 + 1),
        list(range(200_000)),
        np.arange(100_000),
        [LONG, 1],
        {"a": LONG, "b": "c"},
        {LONG: 1},
        {LONG, 1},
        (1, (2, [LONG])),
        Pair(LONG, 1),
        Settings("a", LONG),
        [(i, str(i)) for i in range(50_000)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_large_stays_behind_wherever_it_is_and_comes_back_the_same(value):
    packer = Packer()
    data, constants = packed(packer, x=value, y=7)
    assert len(constants) == 1
    assert len(data) < 1000
    again = opened(data, constants)
    assert again["y"] == 7
    assert type(again["x"]) is type(value)
    # A set is rebuilt in another order, and has another pickle for it.
    if isinstance(value, set):
        assert again["x"] == value
    else:
        assert pickle.dumps(again["x"]) == pickle.dumps(value)


@pytest.mark.parametrize(
    "around",
    [
        lambda large, n: large,
        lambda large, n: [large, n],
        lambda large, n: {"a": large, "n": str(n)},
        lambda large, n: [n, {"deep": (Settings(str(n), large),)}],
    ],
)
@pytest.mark.parametrize("large", [LONG, LONG.encode(), np.arange(100_000)], ids=type)
def test_what_many_runs_share_is_one_constant(around, large):
    packer = Packer()
    runs = [packed(packer, x=around(large, n)) for n in range(20)]
    assert len({constant for _, constants in runs for constant in constants}) == 1
    assert all(len(data) < 1000 for data, _ in runs)


def test_an_object_that_comes_twice_in_a_run_is_one_constant():
    packer = Packer()
    data, constants = packed(packer, x=LONG, y=LONG, z=[LONG])
    assert len(constants) == 1
    assert opened(data, constants) == {"x": LONG, "y": LONG, "z": [LONG]}


def test_several_large_items_of_many_small_ones_are_found():
    arrays = {place: np.full(50_000, place) for place in (3, 7777, 19_999)}
    value = [arrays.get(place, (place, str(place))) for place in range(20_000)]
    data, constants = packed(Packer(), x=[Placeholder(0), *value])
    assert len(constants) == 3
    again = opened(data, constants)["x"][1:]
    assert all((again[place] == array).all() for place, array in arrays.items())
    assert again[5] == (5, "5")


def test_many_small_items_are_not_pickled_one_by_one(monkeypatch):
    calls = []
    dumps = packing.dumps
    monkeypatch.setattr(packing, "dumps", lambda value: calls.append(1) or dumps(value))
    packed(Packer(), x=[(i, i) for i in range(100_000)])
    assert len(calls) < 50


def test_what_is_upstream_is_never_inside_a_constant():
    data, constants = packed(Packer(), x=[Placeholder(3), LONG, list(range(200_000))])
    assert len(constants) == 2
    held = pickle.loads(data)["x"]
    assert isinstance(held[0], Placeholder)
    assert [type(item) for item in held[1:]] == [ConstantPlaceholder] * 2


def test_the_object_may_be_changed_afterwards():
    array, numbers = np.zeros(100_000), list(range(200_000))
    data, constants = packed(Packer(), x=array, y=numbers)
    array[:] = 1
    numbers.clear()
    again = opened(data, constants)
    assert not again["x"].any()
    assert len(again["y"]) == 200_000


def test_what_came_back_from_a_buffer_may_be_changed_if_it_could_before():
    fixed = np.arange(100_000)
    fixed.flags.writeable = False
    data, constants = packed(Packer(), x=np.arange(100_000), y=fixed)
    again = opened(data, constants)
    assert again["x"].flags.writeable
    assert not again["y"].flags.writeable


# --- for all runs --------------------------------------------------------------------------------


def test_large_parameters_stand_at_the_same_place_from_the_end_in_every_run():
    packer, other = Packer(), list(range(200_000))
    assert packer.add_for_all("parameter 'small'", 5) is None
    first = packer.add_for_all("parameter 'first'", LONG)
    second = packer.add_for_all("parameter 'second'", other)
    array = np.arange(100_000)
    for arguments in ({}, {"x": array}, {"x": other, "y": array, "z": LONG}):
        data, constants = packer.pack("f", arguments)
        assert pickle.loads(constants[first.position].data) == LONG
        assert pickle.loads(constants[second.position].data) == other
        again = opened(data, constants)
        assert again.keys() == arguments.keys()
        assert all(again[name] is not None for name in again)
        if "z" in again:
            assert (again["x"], again["z"]) == (other, LONG)
            assert len(constants) == 3


# --- what is wrong -------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_with_its_name_and_the_way_out():
    with pytest.raises(LargeArgument) as caught:
        packed(Packer(max_constant_bytes=300_000), "load", rows=list(range(200_000)))
    assert (caught.value.task, caught.value.argument) == ("load", "rows")
    assert str(caught.value).startswith("argument 'rows' of 'load', a list of ")
    assert "max_constant_bytes=300000. Load it inside a task" in str(caught.value)


def test_many_parts_are_too_large_together():
    with pytest.raises(LargeArgument, match="argument 'x' of 'f', a list of"):
        packed(Packer(max_constant_bytes=1_000_000), x=[np.zeros(50_000) + n for n in range(5)])


def test_a_parameter_that_is_too_large_is_named():
    with pytest.raises(LargeArgument, match=r"^parameter 'p', a str of 256 kB, is larger than"):
        Packer(max_constant_bytes=1000).add_for_all("parameter 'p'", LONG)


def test_there_is_one_warning_for_each_very_large_argument(monkeypatch):
    monkeypatch.setattr(packing, "VERY_LARGE", 500_000)
    packer, large = Packer(), np.zeros(100_000)
    for n in range(5):
        packed(packer, f"f-{n}", x=large, y=[large, n], z=np.zeros(40_000) + n)
    packed(packer, "g", many=[np.zeros(40_000), np.ones(40_000)])
    texts = [text.split(", is sent")[0] for text in packer.warnings]
    assert texts == [
        "argument 'x' of 'f-0', a ndarray of 800 kB",
        "argument 'y' of 'f-0', a list of 800 kB",
        "argument 'many' of 'g', a list of 640 kB",
    ]


def test_a_very_large_definition_is_warned_of_with_the_tasks_name(monkeypatch):
    monkeypatch.setattr(packing, "VERY_LARGE", 1000)
    packer = Packer()
    packer.pack_definition(FunctionTask(len, "small"))
    carries = functools.partial(max, bytes(2_000_000))
    data = packer.pack_definition(FunctionTask(carries, "fit"))
    assert len(data) > 2_000_000
    (text,) = packer.warnings
    assert text.startswith("the definition of task 'fit', of 2.0 MB, is sent to the cluster")


def test_what_is_large_and_cannot_be_pickled_is_named():
    with pytest.raises(UnpicklableArgument) as caught:
        packed(Packer(), "f", a=1, x=[LONG, threading.Lock()])
    assert (caught.value.task, caught.value.argument) == ("f", "x")


def test_a_buffer_that_is_not_of_one_piece_is_an_argument_that_cannot_be_sent():
    class Torn:
        def __reduce__(self):
            return bytes, (pickle.PickleBuffer(memoryview(bytes(100))[::2]),)

    with pytest.raises(UnpicklableArgument, match="argument 'x' of 'f' cannot be pickled"):
        packed(Packer(), x=Torn())


@pytest.mark.parametrize("around", [lambda found: found, lambda found: [1, {"a": (found,)}]])
def test_a_coroutine_that_nobody_awaited_is_said_to_be_one_and_once_only(around):
    async def fetch():
        return 1

    # A warning of Python's own, that it was never awaited, would be an error here.
    with pytest.raises(UnpicklableArgument, match=r"Nobody has awaited \S*fetch: write `await`"):
        packed(Packer(), x=around(fetch()))


def test_a_coroutine_that_is_under_way_is_left_alone():
    class Pause:
        def __await__(self):
            yield

    async def goes_on():
        await Pause()
        return 5

    coroutine = goes_on()
    coroutine.send(None)
    with pytest.raises(UnpicklableArgument, match="goes_on"):
        packed(Packer(), x=coroutine)
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == 5


# --- exotic values -------------------------------------------------------------------------------


class Hostile:
    """Answers no question."""

    def __init__(self, size: int = 0) -> None:
        self.content = "x" * size

    def _refuse(self, *args: object) -> Any:
        raise AssertionError("asked")

    __eq__ = __ne__ = __bool__ = __len__ = __iter__ = __contains__ = __lt__ = _refuse
    __hash__ = _refuse  # type: ignore[assignment]


class Inventive:
    """Has any attribute that is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class Unsendable(Inventive):
    def __reduce__(self) -> Any:
        raise TypeError("not me")


@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("around", [lambda value: value, lambda value: [value, {"a": value}]])
def test_nothing_is_asked_of_a_value(size, around):
    packer, value = Packer(), Hostile(size)
    for _ in range(2):
        data, constants = packed(packer, x=around(value))
        assert len(constants) == bool(size)
        opened(data, constants)


def test_an_object_that_invents_attributes_is_no_coroutine():
    with pytest.raises(UnpicklableArgument, match=r"not me\. Make it inside the task"):
        packed(Packer(), x=Unsendable())
    data, constants = packed(Packer(), x=Inventive())
    assert type(opened(data, constants)["x"]) is Inventive


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_list_that_contains_itself_goes_as_a_whole(size):
    value: list[Any] = [0] * size
    value.append(value)
    packer = Packer()
    packed(packer, other=LONG)  # so that known constants are looked for
    data, constants = packed(packer, x=value)
    again = opened(data, constants)["x"]
    assert again[-1] is again
    assert len(again) == size + 1


def test_what_contains_itself_and_something_large_goes_as_a_whole():
    value: dict[str, Any] = {"large": LONG}
    value["self"] = [value]
    data, constants = packed(Packer(), x=value)
    assert len(constants) == 1
    again = opened(data, constants)["x"]
    assert again["self"][0] is again


FRAMES = {
    "frame": pd.DataFrame({"a": np.arange(50_000), "b": ["x"] * 50_000}),
    "series": pd.Series(np.arange(100_000)),
    "index": pd.Index(np.arange(100_000)),
    "array": np.arange(100_000),
    "0-d": np.array(5),
    "objects": np.array([None, {"a": 1}, "x"] * 50_000, dtype=object),
    "not contiguous": np.arange(400_000).reshape(400, 1000)[::2, ::3],
    "fortran": np.asfortranarray(np.arange(100_000).reshape(100, 1000)),
    "masked": np.ma.masked_greater(np.arange(100_000), 5),
    "structured": np.zeros(50_000, dtype=[("a", "i4"), ("b", "f8")]),
    "times": np.arange(100_000).astype("datetime64[s]"),
    "scalar": np.float64(3),
    "NA": pd.NA,
}


@pytest.mark.parametrize("value", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize(
    "around",
    [lambda v: v, lambda v: [v, 1, v], lambda v: {"a": (v,)}, lambda v: Settings("s", v)],
)
def test_frames_and_arrays_may_be_anywhere(value, around):
    packer = Packer()
    for _ in range(2):
        data, constants = packed(packer, x=around(value), y=value)
        again = opened(data, constants)
        assert type(again["y"]) is type(value)
        assert repr(again["y"]) == repr(value)
        assert repr(again["x"]) == repr(around(value))
