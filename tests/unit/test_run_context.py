from __future__ import annotations

import contextvars
import pickle
import threading

import cloudpickle
import pytest

from dask_taskrunner.run_context import context, no_entries


def test_entries_are_attributes_for_the_length_of_a_block():
    with context(region="eu", color="red"):
        assert context.region == "eu"
        assert context.to_dict() == {"region": "eu", "color": "red"}
    assert context.to_dict() == {}


def test_an_inner_block_covers_the_outer_one_and_gives_it_back():
    with context(region="eu", color="red"):
        with context(region="us"):
            assert context.to_dict() == {"region": "us", "color": "red"}
        assert context.region == "eu"


def test_a_block_ends_by_an_exception_as_well():
    with pytest.raises(ValueError, match="x"), context(region="eu"):
        raise ValueError("x")
    assert context.get("region") is None


def test_entries_can_be_hidden_for_the_length_of_a_block():
    with context(region="eu"):
        with no_entries():
            assert context.to_dict() == {}
            with context(color="red"):
                assert context.to_dict() == {"color": "red"}
        assert context.to_dict() == {"region": "eu"}


def test_what_is_not_there_has_a_default_or_an_error_that_says_what_is():
    with context(region="eu", color="red"):
        assert context.get("size") is None
        assert context.get("size", 5) == 5
        assert context.get("region", 5) == "eu"
        with pytest.raises(AttributeError, match="no 'size' here; it has: color, logger, region"):
            _ = context.size


def test_the_dict_of_a_block_may_be_filled_by_whoever_opened_it():
    with context(region="eu") as entries:
        entries["color"] = "red"
        assert context.color == "red"
    assert context.get("color") is None


def test_a_copy_of_the_entries_changes_nothing():
    with context(region="eu"):
        context.to_dict()["region"] = "us"
        assert context.region == "eu"


@pytest.mark.parametrize(
    ("entries", "name"),
    [({}, "dask_taskrunner"), ({"task_name": "clean"}, "dask_taskrunner.clean")],
)
def test_there_is_always_a_logger_named_after_the_task(entries, name):
    with context(**entries):
        assert context.logger.name == name
        assert context.get("logger").name == name


def test_a_logger_of_ones_own_takes_its_place():
    with context(logger="mine"):
        assert context.logger == "mine"


def test_a_thread_sees_the_entries_only_of_a_context_that_it_was_given():
    seen = []
    with context(region="eu"):
        copied = contextvars.copy_context()
        for run in (lambda f: f(), copied.run):
            thread = threading.Thread(target=run, args=(lambda: seen.append(context.to_dict()),))
            thread.start()
            thread.join()
    assert seen == [{}, {"region": "eu"}]


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_the_context_travels_by_its_name_and_without_entries(pickler):
    with context(region="eu"):
        data = pickler.dumps(context)
    assert pickler.loads(data) is context
    assert b"region" not in data
