from __future__ import annotations

import pickle
import threading
import time

import cloudpickle
import pytest

from dask_taskrunner.cache_validators import (
    all_inputs,
    all_parameters,
    duration_only,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from dask_taskrunner.states import CachedState

STATE = {"cached_inputs": {"a": 1, "b": 2}, "cached_parameters": {"day": 1, "hour": 2}}
SAME = ({"a": 1, "b": 2}, {"day": 1, "hour": 2})
OTHER_B = ({"a": 1, "b": 9}, {"day": 1, "hour": 2})
OTHER_HOUR = ({"a": 1, "b": 2}, {"day": 1, "hour": 9})
MORE = ({"a": 1, "b": 2, "c": 3}, {"day": 1, "hour": 2, "minute": 3})
LESS = ({"a": 1}, {"day": 1})
NOTHING = (None, None)

CASES = {
    never_use: [],
    duration_only: [SAME, OTHER_B, OTHER_HOUR, MORE, LESS, NOTHING],
    all_inputs: [SAME, OTHER_HOUR],
    all_parameters: [SAME, OTHER_B],
    partial_inputs_only(): [SAME, OTHER_B, OTHER_HOUR, MORE, LESS, NOTHING],
    partial_inputs_only(["a"]): [SAME, OTHER_B, OTHER_HOUR, MORE, LESS],
    partial_inputs_only("b"): [SAME, OTHER_HOUR, MORE],
    partial_inputs_only(["c"]): [SAME, OTHER_B, OTHER_HOUR, LESS, NOTHING],
    partial_parameters_only(): [SAME, OTHER_B, OTHER_HOUR, MORE, LESS, NOTHING],
    partial_parameters_only(["day"]): [SAME, OTHER_B, OTHER_HOUR, MORE, LESS],
    partial_parameters_only(("hour",)): [SAME, OTHER_B, MORE],
}
NAMES = [validator.__name__ for validator in CASES]
NOW = [SAME, OTHER_B, OTHER_HOUR, MORE, LESS, NOTHING]


@pytest.mark.parametrize(("validator", "accepted"), CASES.items(), ids=NAMES)
@pytest.mark.parametrize("now", NOW, ids=["same", "b", "hour", "more", "less", "nothing"])
def test_a_validator_accepts_exactly_what_it_is_for(validator, accepted, now):
    for expiration in (None, time.time() + 60):
        state = CachedState(**STATE, cached_result_expiration=expiration)
        assert validator(state, *now) is (now in accepted)


@pytest.mark.parametrize("validator", CASES, ids=NAMES)
def test_no_validator_accepts_what_has_expired(validator):
    state = CachedState(**STATE, cached_result_expiration=time.time() - 1)
    assert validator(state, *SAME) is False


def test_what_had_no_inputs_is_the_same_without_any():
    assert all_inputs(CachedState(), None, None)
    assert all_inputs(CachedState(cached_inputs={}), {}, {})
    assert not all_inputs(CachedState(), {"a": None}, {})


def test_arrays_are_compared_by_their_contents_and_never_by_operators():
    numpy = pytest.importorskip("numpy")
    state = CachedState(cached_inputs={"rows": numpy.arange(3)})
    assert all_inputs(state, {"rows": numpy.arange(3)}, {})
    assert not all_inputs(state, {"rows": numpy.arange(1, 4)}, {})


def test_what_has_no_lasting_token_is_not_the_same():
    state = CachedState(cached_inputs={"lock": threading.Lock()})
    assert not all_inputs(state, {"lock": threading.Lock()}, {})


@pytest.mark.parametrize("validator", CASES, ids=NAMES)
def test_a_validator_pickles_and_is_equal_to_what_comes_out(validator):
    assert pickle.loads(pickle.dumps(validator)) == validator
    assert cloudpickle.loads(cloudpickle.dumps(validator)) == validator


def test_a_validator_with_names_is_shown_with_them():
    assert repr(partial_inputs_only(["a", "b"])) == "partial_inputs_only(['a', 'b'])"
