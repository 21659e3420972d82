import inspect
import math
import operator

import pytest

from dask_taskrunner import (
    BoundTask,
    Flow,
    NotAValue,
    OutsideFlow,
    Parameter,
    TaskRunnerError,
    task,
)

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.matmul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lshift,
    operator.rshift,
    operator.and_,
    operator.or_,
    operator.xor,
    divmod,
]
COMPARISONS = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
}
UNARY = [operator.neg, operator.pos, operator.invert, operator.abs]


@task
def number(): ...


@task
def split(rows) -> tuple[int, str]: ...


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        yield flow


@pytest.fixture
def x(flow):
    return number()


def operands(bound):
    return list(bound.arguments.values())


@pytest.mark.parametrize("function", [*BINARY, *COMPARISONS])
def test_an_operator_makes_a_task(x, function):
    bound = function(x, 5)
    assert isinstance(bound, BoundTask)
    assert bound.name == function.__name__.strip("_")
    assert operands(bound) == [x, 5]
    assert bound.definition.function is function


@pytest.mark.parametrize("function", BINARY)
def test_an_operator_keeps_the_order_of_its_operands(x, function):
    bound = function(5, x)
    assert bound.definition.function is function
    assert operands(bound) == [5, x]


@pytest.mark.parametrize("function", COMPARISONS)
def test_a_comparison_from_the_other_side_is_turned_round(x, function):
    bound = function(5, x)
    assert bound.definition.function is COMPARISONS[function]
    assert operands(bound) == [x, 5]


@pytest.mark.parametrize("function", UNARY)
def test_an_operator_of_one_operand_makes_a_task(x, function):
    assert operands(function(x)) == [x]


def test_two_tasks_are_combined_in_one(flow, x):
    y = number()
    both = x + y
    assert flow.upstream_tasks(both) == (x, y)


def test_indexing_makes_a_task(x):
    y = number()
    bound = x[1:y, "a"]
    assert bound.name == "getitem"
    assert operands(bound) == [x, (slice(1, y), "a")]
    assert bound.flow.upstream_tasks(bound) == (x, y)


def test_operators_work_on_parameters(flow):
    url = Parameter("url", default="https://example.org")
    bound = url + "/data.csv"
    assert flow.upstream_tasks(bound) == (url,)


def test_an_operator_task_computes_what_the_operator_does(x):
    assert (x - 5).definition.call({"a": 7, "b": 5}) == 2
    assert x["a"].definition.call({"a": {"a": 1}, "b": "a"}) == 1


def test_all_uses_of_an_operator_share_one_definition(x):
    assert (x + 1).definition is (x + 2).definition


def test_equality_and_hash_are_identity(flow, x):
    y = number()
    assert x == x
    assert x != y
    assert len({x, y, x}) == 2
    assert x in [y, x]
    assert len(flow.tasks) == 2


def test_equality_of_results_is_a_task_by_name(x):
    assert x.is_equal(5).definition.function is operator.eq
    assert x.not_equal(5).definition.function is operator.ne


def test_an_operator_outside_of_the_block_is_an_error():
    with Flow("etl"):
        x = number()
    with pytest.raises(OutsideFlow, match="task 'add' was called outside a flow"):
        x + 1


def test_a_task_that_promises_several_values_can_be_unpacked(flow):
    rows = split(1)
    first, second = rows
    assert [operands(part) for part in (first, second)] == [[rows, 0], [rows, 1]]
    assert (first.slug, second.slug) == ("getitem", "getitem-2")


MISUSES = {
    "if": (bool, "for `x and y`, `x or y` write `x & y`, `x | y`"),
    "not": (operator.not_, "Decide inside a task"),
    "len": (len, r"Write `task\(len\)\(x\)`"),
    "int": (int, r"Write `task\(int\)\(x\)`"),
    "float": (float, r"Write `task\(float\)\(x\)`"),
    "complex": (complex, r"Write `task\(complex\)\(x\)`"),
    "math": (math.floor, r"Write `task\(float\)\(x\)`"),
    "index": (lambda x: [1, 2][x], r"Write `task\(operator.getitem\)\(values, x\)`"),
    "range": (range, r"`task\(range\)\(x\)`"),
    "for": (lambda x: [y + 1 for y in x], r"with `@task\(nout=2\)` or `-> tuple\[A, B\]`"),
    "list": (list, "nout=2"),
    "in": (lambda x: 5 in x, r"Write `task\(operator.contains\)\(x, y\)`"),
    "attribute": (lambda x: x.columns, r"Write `task\(getattr\)\(x, 'columns'\)`"),
    "method": (lambda x: x.append(1), r"Write `task\(getattr\)\(x, 'append'\)`"),
    "f-string": (lambda x: f"{x}/y", r"Write `x \+ '/y'`"),
    "format": ("{}/y".format, "or format inside a task"),
    "percent": ("%s/y".__mod__, r"Write `x \+ '/y'`"),
    "str": (str, "`repr\\(x\\)` shows the task itself"),
    "print": (print, "`repr\\(x\\)` shows the task itself"),
}


@pytest.mark.parametrize(("misuse", "right"), MISUSES.values(), ids=MISUSES.keys())
def test_a_task_is_not_a_value_and_the_error_shows_the_right_line(x, misuse, right):
    with pytest.raises(NotAValue, match=right) as caught:
        misuse(x)
    assert "of 'number' was asked for: a task is not a value" in str(caught.value)
    assert isinstance(caught.value, TaskRunnerError)


@pytest.mark.parametrize("misuse", [bool, iter, "{}/y".format])
def test_a_parameter_is_not_a_value_either(flow, misuse):
    with pytest.raises(NotAValue, match="of 'url' was asked for"):
        misuse(Parameter("url"))


def test_outside_of_a_block_a_task_can_be_formatted():
    with Flow("etl"):
        x = number()
    assert f"{x}" == str(x) == repr(x) == "<BoundTask 'number'>"
    assert f"{x:>25}" == "     <BoundTask 'number'>"


def test_who_asks_whether_an_attribute_is_there_gets_an_answer(x):
    assert not hasattr(x, "columns")
    assert getattr(x, "_repr_html_", None) is None


def test_every_operator_of_python_is_thought_of():
    names = {name for name in dir(operator) if name.startswith("__")}
    ours = set(dir(BoundTask))
    missing = {name for name in names if name not in ours and not name.startswith("__i")}
    # Item assignment is a statement, not an operator; the rest is the module's own.
    ignored = {"__setitem__", "__delitem__", "__concat__", "__not__", "__inv__", "__call__"}
    module = {name for name in names if not callable(getattr(operator, name))}
    assert missing - ignored - module - {"__loader__", "__spec__"} == set()
    binary = [n for n in ours if f"__r{n[2:]}" in ours and n.startswith("__")]
    assert len(binary) >= len(BINARY)
    assert inspect.isfunction(BoundTask.__rdivmod__)


# --- arrays and frames -------------------------------------------------------------------------


@pytest.mark.parametrize("function", BINARY + list(COMPARISONS))
def test_an_array_and_a_task_make_one_task(flow, x, function):
    numpy = pytest.importorskip("numpy")
    for value in (numpy.arange(3), numpy.array(3), numpy.float64(3)):
        before = len(flow.tasks)
        bound = function(value, x)
        assert isinstance(bound, BoundTask)
        assert any(operand is value for operand in operands(bound))
        assert len(flow.tasks) == before + 1


@pytest.mark.parametrize(
    "function", [f for f in BINARY if f not in (divmod, operator.matmul)] + list(COMPARISONS)
)
def test_a_frame_and_a_task_make_one_task(flow, x, function):
    pandas = pytest.importorskip("pandas")
    for value in (pandas.DataFrame({"a": [1]}), pandas.Series([1]), pandas.Index([1])):
        before = len(flow.tasks)
        bound = function(value, x)
        assert isinstance(bound, BoundTask)
        assert any(operand is value for operand in operands(bound))
        assert len(flow.tasks) == before + 1


def test_an_array_is_not_made_of_a_task(x):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(NotAValue, match=r"Write `task\(np.asarray\)\(x\)`"):
        numpy.asarray(x)
