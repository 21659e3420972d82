from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field

import pytest

from dask_taskrunner.exceptions import ArgumentError
from dask_taskrunner.graph.arguments import find, replace


class Mark:
    """What is looked for."""


@dataclass
class Plain:
    a: object
    b: object = field(init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: object


class Tagged(list):
    """A list with an attribute."""


Point = namedtuple("Point", "x y")
mark, other = Mark(), Mark()

HOLDERS = {
    "itself": mark,
    "list": [1, mark],
    "tuple": (mark, 2),
    "named tuple": Point(1, mark),
    "set": {1, mark},
    "frozenset": frozenset({mark}),
    "dict value": {"a": mark},
    "dict key": {mark: 1},
    "ordered dict": OrderedDict(a=1, b=mark),
    "slice": slice(None, mark),
    "dataclass": Plain(mark),
    "frozen dataclass": Frozen(mark),
    "deep": [{"a": (1, Point(Frozen([mark]), 2))}],
}


@pytest.mark.parametrize("value", HOLDERS.values(), ids=HOLDERS.keys())
def test_it_finds_what_is_looked_for_at_any_depth(value):
    assert find(value, Mark) == [mark]


@pytest.mark.parametrize("value", HOLDERS.values(), ids=HOLDERS.keys())
def test_it_replaces_what_is_looked_for_and_keeps_the_types_around_it(value):
    new = replace(value, Mark, lambda found: "new")
    assert find(new, Mark) == []
    assert find(value, Mark) == [mark]
    if value is not mark:
        assert type(new) is type(value)
        assert "'new'" in repr(new)


@pytest.mark.parametrize(
    "value",
    [
        7,
        "text",
        None,
        b"",
        [],
        [1, [2, "x"]],
        {"a": (1, 2)},
        Frozen(3),
        Frozen,
        deque([mark]),
        object(),
    ],
)
def test_what_holds_nothing_of_the_kind_stays_the_same_object(value):
    assert find(value, Mark) == []
    assert replace(value, Mark, lambda found: "new") is value


def test_each_object_is_found_once_in_the_order_of_their_places():
    assert find([mark, (other, mark)], Mark) == [mark, other]


def test_several_types_may_be_looked_for_at_once():
    assert find([mark, 1, "x"], (Mark, str)) == [mark, "x"]


def test_a_container_may_contain_itself():
    value: list[object] = [mark]
    value.append(value)
    assert find(value, Mark) == [mark]


def test_what_a_container_knows_beside_its_items_is_kept():
    counts = defaultdict(list, a=[mark])
    tagged = Tagged([mark])
    tagged.tag = "kept"
    assert replace(counts, Mark, id)["not there"] == []
    assert replace(tagged, Mark, id).tag == "kept"


def test_a_dataclass_is_not_made_anew_by_its_init():
    plain = Plain(mark)
    plain.b = 5
    new = replace(plain, Mark, lambda found: "new")
    assert (new.a, new.b, plain.a) == ("new", 5, mark)


def test_a_list_of_a_million_numbers_is_not_walked_one_by_one(monkeypatch):
    asked = []

    def count(*args):
        asked.append(args)
        return isinstance(*args)

    monkeypatch.setattr("dask_taskrunner.graph.arguments.isinstance", count, raising=False)
    numbers = list(range(1_000_000))
    assert find(numbers, Mark) == []
    assert replace(numbers, Mark, repr) is numbers
    assert len(asked) < 20


def around_itself(*inside):
    value: list[object] = [*inside, *range(10_000)]
    value.append({"again": (value,)})
    return value


def test_what_contains_itself_and_nothing_of_the_kind_stays_the_same_object():
    value = around_itself()
    assert replace(value, Mark, repr) is value


def test_what_contains_itself_and_what_is_looked_for_is_refused():
    with pytest.raises(ArgumentError, match="contains itself"):
        replace(around_itself(mark), Mark, repr)


def test_what_is_nested_too_deeply_is_refused_where_something_is_to_be_replaced():
    value: list[object] = [1]
    for _ in range(5000):
        value = [value]
    assert replace(value, Mark, repr) is value
    with pytest.raises(ArgumentError, match="nested hundreds of levels deep"):
        replace([value, mark], Mark, repr)


def test_large_containers_that_hold_nothing_are_remembered():
    plain: dict[int, object] = {}
    rows = [(n,) for n in range(2000)]
    small = [(1,)]
    value = [rows, small, mark]
    assert replace(value, Mark, lambda found: "new", plain) == [rows, small, "new"]
    assert plain == {id(rows): rows}
    assert replace([mark, rows], Mark, lambda found: "new", plain)[1] is rows
