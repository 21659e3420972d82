"""What a worker keeps of a result with ``cache_for``, and hands on to another one."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from dask_taskrunner.headers import NOTHING_MORE, Header, describe
from dask_taskrunner.states import CachedState, Success
from dask_taskrunner.worker.envelope import Envelope, Received

BIG = list(range(1000))


def envelope(result: Any, inputs: Any = None, *, started: float | None = 5.0) -> Envelope:
    cached = CachedState(
        cached_result=result,
        cached_inputs=inputs,
        cached_parameters={"day": 1},
        cached_result_expiration=5000.0,
    )
    state = Success(result, cached=cached)
    small = pickle.dumps(result) if result != BIG else None
    header = Header(
        0, -1, 1, 9, "Success", None, "tcp://w", 1, started, 0.1, 1000.0, type(result).__name__,
        100, small, describe(state),
    )  # fmt: skip
    return Envelope(header, "clean", state)


def sent(value: Envelope, protocol: int = 5) -> Any:
    """Return what another worker gets."""
    return pickle.loads(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("result", [5, BIG], ids=["small", "big"])
def test_another_worker_finds_result_inputs_parameters_and_expiration(result, protocol):
    wire = sent(envelope(result, {"rows": [1]}), protocol)
    cached = Received(wire).open_cached()
    assert cached == envelope(result, {"rows": [1]}).state.cached
    assert cached.cached_result_expiration.timestamp() == 5000.0
    # And hands it on as it came, opened as it is.
    assert Received(sent(wire)).open_cached() == cached


def test_in_its_own_process_it_is_the_very_object():
    made = envelope(BIG, {"rows": [1]})
    assert Received(made).open_cached() is made.state.cached


def test_whoever_reads_the_result_need_not_open_the_inputs():
    wire = sent(envelope(BIG, {"rows": Refuses()}))
    received = Received(wire)
    received.open()
    assert received.state.result == BIG
    with pytest.raises(ZeroDivisionError):
        received.open_cached()


def test_inputs_that_do_not_pickle_are_no_reason_to_lose_the_result():
    wire = sent(envelope(BIG, {"rows": threading.Lock()}))
    received = Received(wire)
    assert received.open_cached() is None
    assert received.state.result == BIG


def test_a_result_that_was_taken_over_is_not_handed_on_again():
    assert envelope(BIG, started=None).cached is None
    assert len(sent(envelope(BIG, started=None))) == 3


def test_an_envelope_without_a_cached_state_is_as_it_was():
    state = Success(BIG)
    header = envelope(BIG).header._replace(more=NOTHING_MORE)
    made = Envelope(header, "clean", state)
    assert len(sent(made)) == 3
    assert Received(sent(made)).open_cached() is None
    assert made.__sizeof__() == 300


def test_the_inputs_count_where_the_worker_counts_its_memory():
    assert envelope(BIG, {"rows": b"x" * 100_000}).__sizeof__() > 100_000


def refuse():
    raise ZeroDivisionError


class Refuses:
    def __reduce__(self):
        return refuse, ()
