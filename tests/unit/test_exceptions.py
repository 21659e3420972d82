from __future__ import annotations

import concurrent.futures
import pickle
import re

import pytest

from dask_taskrunner import exceptions
from dask_taskrunner.exceptions import (
    CycleError,
    FlowRunFailed,
    InternalError,
    LargeArgument,
    MissingResult,
    RemoteTaskError,
    TaskCancelled,
    TaskRunnerError,
    TaskRunnerWarning,
    UnknownTask,
    UnpicklableArgument,
    UpstreamFailed,
    describe,
)
from dask_taskrunner.states import Failed, Skipped

CLASSES = [
    value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, (TaskRunnerError, TaskRunnerWarning))
]

EXAMPLES = [
    *(cls("what happened") for cls in CLASSES if cls.__init__ is Exception.__init__),
    CycleError(["extract", "clean", "extract"]),
    FlowRunFailed("etl failed", failures=["clean[17]"]),
    InternalError("error in dask_taskrunner", events=["RunStarted"]),
    LargeArgument("clean: rows", task="clean", argument="rows"),
    UnpicklableArgument("clean: rows", task="clean", argument="rows"),
    UpstreamFailed("all_successful: ...", root_cause=("fit", "ValueError: x")),
    RemoteTaskError("PriceError", "negative price", "Traceback ..."),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_pickles_with_its_text_and_its_attributes(error):
    survivor = pickle.loads(pickle.dumps(error))
    assert type(survivor) is type(error)
    assert str(survivor) == str(error)
    assert vars(survivor) == vars(error)


def test_the_failures_of_a_flow_run_travel_as_text_for_their_records_stay():
    failure = lambda: "a task run that does not pickle"  # noqa: E731
    error = FlowRunFailed("etl failed", failures=["clean", failure])
    error.add_note("inside of a task")
    survivor = pickle.loads(pickle.dumps(error))
    assert survivor.failures == ["clean", repr(failure)]
    assert survivor.__notes__ == ["inside of a task"]
    assert error.failures[1] is failure


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"[─ ]([A-Z]\w+)(?=\s|$)", exceptions.__doc__.split("Every one")[0]))
    assert drawn >= {cls.__name__ for cls in CLASSES if not cls.__name__.startswith("_")}


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UnknownTask", KeyError),
        ("ArgumentError", TypeError),
        ("OptionError", TypeError),
        ("NotAValue", TypeError),
        ("TaskCancelled", concurrent.futures.CancelledError),
        ("TaskRunnerWarning", UserWarning),
        ("LargeArgumentWarning", exceptions.TaskRunnerWarning),
    ],
)
def test_an_error_is_also_what_callers_expect_by_habit(name, builtin):
    assert issubclass(getattr(exceptions, name), builtin)


def test_a_cycle_is_shown_with_the_way_out():
    error = CycleError(["extract", "clean", "extract"])
    assert error.cycle == ("extract", "clean", "extract")
    assert str(error) == (
        "extract -> clean -> extract. A task cannot wait for itself; drop one of these edges."
    )


def test_an_unknown_task_reads_like_a_sentence_though_it_is_a_key_error():
    assert str(UnknownTask("flow 'etl' has no 'load'")) == "flow 'etl' has no 'load'"
    assert str(UnknownTask()) == ""


def test_a_missing_result_is_falsy_and_knows_why():
    error = ValueError("negative price")
    missing = MissingResult("clean[17]", Failed(exception=error))
    assert not missing
    assert missing.exception is error
    assert str(missing) == 'clean[17] has no result: Failed("ValueError: negative price")'


def test_a_missing_result_pickles_with_the_state():
    survivor = pickle.loads(pickle.dumps(MissingResult("clean", Failed(exception=KeyError("a")))))
    assert survivor.slug == "clean"
    assert survivor.state.message == "KeyError: 'a'"
    assert repr(survivor.exception) == "KeyError('a')"


def test_a_missing_result_has_no_exception_after_a_skip():
    assert MissingResult("clean", Skipped()).exception is None


class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit("no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("negative price"), "ValueError: negative price"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyError("a"), "KeyError: 'a'"),
        (TaskCancelled("by the user"), "TaskCancelled: by the user"),
        (RemoteTaskError("PriceError", "negative"), "PriceError: negative"),
        (RemoteTaskError("PriceError"), "PriceError"),
        (Unspeakable(), "Unspeakable: (its text could not be made: SystemExit)"),
    ],
)
def test_any_exception_can_be_described(error, text):
    assert describe(error) == text
