import inspect
from datetime import timedelta

import pytest

from dask_taskrunner import OptionError, exponential, task, triggers
from dask_taskrunner.graph.options import DEFAULTS, OPTIONS, TaskOptions, check_options


def handler(task, old, new): ...


class HasHash: ...


RIGHT = [
    ("max_retries", 0),
    ("max_retries", 3),
    ("retry_delay", timedelta(seconds=1)),
    ("retry_delay", 0),
    ("retry_delay", 1.5),
    ("retry_delay", (1, timedelta(2))),
    ("retry_delay", exponential(base=2)),
    ("retry_jitter", 0.5),
    ("retry_jitter", 1),
    ("retry_on", ValueError),
    ("retry_on", KeyboardInterrupt),
    ("retry_on", (ValueError, OSError)),
    ("retry_on", lambda error: True),
    ("max_crash_retries", 1),
    ("trigger", triggers.all_finished),
    ("trigger", triggers.some_failed(at_least=1)),
    ("skip_on_upstream_skip", False),
    ("cache_for", None),
    ("cache_for", timedelta(hours=1)),
    ("cache_validator", lambda state, inputs, parameters: True),
    ("state_handlers", (handler,)),
    ("nout", 2),
    ("nout", None),
    ("tags", ("a", "b")),
    ("record_inputs", False),
    ("task_run_name", None),
    ("task_run_name", "clean {region} {map_index:03d}"),
    ("task_run_name", lambda inputs: inputs["region"]),
    ("resources", {"GPU": 1, "MEM": 4e9}),
    ("resources", lambda attempt: {"MEM": 4e9 * attempt}),
    ("priority", -1.5),
    ("workers", "tcp://127.0.0.1:4711"),
    ("workers", ("alice", "bob")),
]

WRONG = [
    ("max_retries", -1),
    ("max_retries", "3"),
    ("max_retries", True),
    ("max_retries", 1.5),
    ("max_retries", None),
    ("retry_delay", -1),
    ("retry_delay", timedelta(seconds=-1)),
    ("retry_delay", float("nan")),
    ("retry_delay", "10 s"),
    ("retry_delay", []),
    ("retry_delay", [1, "2"]),
    ("retry_jitter", 1.5),
    ("retry_jitter", "much"),
    ("retry_on", int),
    ("retry_on", "ValueError"),
    ("retry_on", ()),
    ("retry_on", (ValueError, int)),
    ("trigger", "all_finished"),
    ("skip_on_upstream_skip", 1),
    ("cache_for", 3600),
    ("cache_for", timedelta(0)),
    ("cache_validator", None),
    ("state_handlers", handler),
    ("state_handlers", ["handler"]),
    ("nout", 0),
    ("nout", "2"),
    ("tags", "nightly"),
    ("tags", [1]),
    ("record_inputs", None),
    ("task_run_name", ""),
    ("task_run_name", 5),
    ("task_run_name", "clean {}"),
    ("task_run_name", "clean {region"),
    ("resources", "GPU"),
    ("resources", {"GPU": "one"}),
    ("resources", {"GPU": -1}),
    ("priority", "high"),
    ("workers", 4711),
    ("workers", []),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_value_that_fits_is_taken_as_it_is(name, value):
    assert check_options({name: value}, "f") == {name: value}


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_that_does_not_fit_is_named_with_what_would(name, value):
    with pytest.raises(OptionError) as caught:
        check_options({name: value}, "clean")
    assert str(caught.value) == f"clean: {name} must be {OPTIONS[name].wants}, not {value!r}"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_of_an_option_fits(name):
    assert check_options(DEFAULTS, "f")[name] is DEFAULTS[name]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1, 2], (1, 2)),
        ((1, 2), (1, 2)),
    ],
)
def test_lists_are_frozen(given, kept):
    assert check_options({"retry_delay": given}, "f") == {"retry_delay": kept}


def test_sets_are_frozen_in_the_same_order_every_time():
    assert check_options({"tags": {"b", "a"}}, "f") == {"tags": ("a", "b")}


def test_a_mapping_is_copied():
    resources = {"GPU": 1}
    checked = check_options({"resources": resources}, "f")
    resources["GPU"] = 2
    assert checked == {"resources": {"GPU": 1}}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_retry", "max_retries"),
        ("retries", "max_retries"),
        ("retry_delay_seconds", "retry_delay"),
        ("triggers", "trigger"),
    ],
)
def test_the_nearest_right_option_is_named(wrong, right):
    with pytest.raises(OptionError, match=f"there is no option {wrong!r}; did you mean {right!r}?"):
        check_options({wrong: 1}, "f")


def test_all_options_are_named_where_none_is_near():
    with pytest.raises(OptionError, match="there are 'cache_for', 'cache_validator', "):
        check_options({"xyz": 1}, "f")


def test_the_type_checker_knows_the_same_options():
    assert TaskOptions.__annotations__.keys() == OPTIONS.keys()


def test_each_option_is_documented():
    # Python 3.13 takes the indentation away by itself.
    lines = inspect.cleandoc(TaskOptions.__doc__).splitlines()
    for name in OPTIONS:
        assert any(line.startswith(f"{name} : ") for line in lines), name


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        ({"timeout": 0}, "timeout must be a timedelta or a number of seconds, more than zero"),
        ({"timeout": timedelta(0)}, "timeout must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"isolate": "thread"}, "isolate must be 'process'"),
        ({"memory_limit": "4 bananas"}, "memory_limit must be a number of bytes"),
        ({"memory_limit": 0}, "memory_limit must be a number of bytes"),
    ],
)
def test_limits_that_limit_nothing_are_refused(options, wants):
    with pytest.raises(OptionError, match=wants):
        check_options(options, "f")


def test_a_limit_of_memory_needs_a_process_of_the_bodys_own():
    limited = task(len, name="count", memory_limit="1 GiB")
    with pytest.raises(OptionError, match="count: memory_limit bounds a process"):
        limited.with_defaults({}, {})
    assert limited.with_defaults({"isolate": "process"}, {}).isolate == "process"


def test_what_must_not_run_twice_has_no_crash_budget_unless_it_is_given_one():
    once = task(len, name="count", rerun_on_loss=False)
    assert once.with_defaults({}, {}).max_crash_retries == 0
    assert once.with_defaults({"max_crash_retries": 3}, {}).max_crash_retries == 3
    assert once.with_options(max_crash_retries=1).with_defaults({}, {}).max_crash_retries == 1
    assert (
        task(len, name="count").with_defaults({"rerun_on_loss": False}, {}).max_crash_retries == 0
    )
