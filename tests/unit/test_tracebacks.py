from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from dataclasses import dataclass

import dask
import pytest

from dask_taskrunner.tracebacks import forget_frames, loads, user_traceback
from dask_taskrunner.user_code import outcome_of


def clean(price):
    raise ValueError(f"negative price {price}")


async def clean_later(price):
    clean(price)


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("body", "first"),
    [(lambda: clean(5), "<lambda>"), (lambda: asyncio.run(clean_later(5)), "<lambda>")],
)
def test_a_traceback_begins_at_the_users_first_frame(body, first):
    lines = outcome_of(body).traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(f"in {first}")
    assert lines[-1] == "ValueError: negative price 5"


def test_the_machinery_of_a_coroutine_is_above_the_users_first_frame():
    lines = outcome_of(asyncio.run, clean_later(5)).traceback.splitlines()
    assert lines[1].endswith("in clean_later")


def test_what_the_machinery_does_below_the_users_first_frame_is_shown():
    text = outcome_of(
        lambda: outcome_of(clean, 5) and dask.compute(dask.delayed(clean)(5))
    ).traceback
    assert "dask/" in text


def test_where_no_frame_is_the_users_the_packages_that_was_called_is_shown():
    text = outcome_of(dask.config.get, "no-such-key-of-ours").traceback
    assert "config.py" in text
    assert "user_code.py" not in text


def test_an_exception_that_was_never_raised_is_its_text():
    assert user_traceback(ValueError("x")) == "ValueError: x\n"


def test_the_example_that_ships_is_a_users_code():
    namespace = {"__name__": "dask_taskrunner.examples.census"}
    exec("def parse():\n    raise ValueError('planted')", namespace)
    assert "in parse" in outcome_of(namespace["parse"]).traceback


def test_the_exceptions_that_an_exception_came_from_are_told():
    def body():
        try:
            clean(5)
        except ValueError as error:
            raise KeyError("day") from error

    text = outcome_of(body).traceback
    assert text.index("ValueError: negative price 5") < text.index("KeyError: 'day'")


class Table:
    """Stands for something large that a task had in a variable."""


def test_an_exception_that_is_kept_does_not_keep_what_the_task_had():
    kept = []

    def body():
        table = Table()
        kept.append(weakref.ref(table))
        try:
            clean(5)
        except ValueError as cause:
            raise ExceptionGroup("several", [KeyError("a"), raised(clean, 6)]) from cause

    gc.disable()
    try:
        outcome = outcome_of(body)
        assert isinstance(outcome.error, ExceptionGroup)
        assert kept[0]() is None
    finally:
        gc.enable()


def test_frames_of_an_exception_that_refuses_assignments_are_forgotten():
    @dataclass(frozen=True)
    class PriceError(Exception):
        price: int

    def body():
        raise PriceError(5)

    outcome = outcome_of(body)
    assert outcome.error.__traceback__ is None
    assert "in body" in outcome.traceback


def test_frames_are_forgotten_along_a_chain_that_bites_its_own_tail():
    one, other = raised(clean, 1), raised(clean, 2)
    one.__cause__, other.__cause__ = other, one
    forget_frames(one)
    assert one.__traceback__ is other.__traceback__ is None


def test_a_frame_without_a_module_is_a_users():
    namespace = {}
    exec("def body():\n    raise ValueError('x')", namespace)
    assert "in body" in outcome_of(namespace["body"]).traceback


class Asker:
    def ask(self, data):
        return loads(data)


def test_an_exception_that_is_unpickled_with_its_traceback_leads_to_nobody():
    from tblib import pickling_support

    pickling_support.install(ValueError)
    data = pickle.dumps(raised(clean, 5))
    gc.disable()
    try:
        asker = Asker()
        gone = weakref.ref(asker)
        error = asker.ask(data)
        del asker
        assert gone() is None
    finally:
        gc.enable()
    assert error.__traceback__ is not None
    assert error.args == ("negative price 5",)
