"""A piece of a large list: what it has of the list's state, and what its reader makes of it."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pandas as pd
import pytest

from dask_taskrunner import states
from dask_taskrunner.headers import Header, describe, state_name
from dask_taskrunner.worker.bootstrap import make_bootstraps
from dask_taskrunner.worker.envelope import Envelope, Received
from dask_taskrunner.worker.piece import cut_piece


def envelope(state, **more):
    result = getattr(state, "result", None)
    header = Header(
        0, -1, 1, 77, state_name(state), state.message, "tcp://a", 1, 1.0, 0.1, state.at,
        type(result).__name__, 4_000, None, {**describe(state), **more},
    )  # fmt: skip
    return Envelope(header, "made", state)


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3, 4],
        (1, 2, 3, 4),
        range(1, 5),
        np.array([1, 2, 3, 4]),
        pd.Series([1, 2, 3, 4], index=[9, 8, 7, 6]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_a_piece_has_the_lists_state_and_some_of_its_elements(values, wire):
    source = envelope(states.Success(values, "done"), length=4)
    if wire:
        source = pickle.loads(pickle.dumps(source, protocol=5))
    piece = Received(pickle.loads(pickle.dumps(cut_piece(source, 1, 3), protocol=5)))
    piece.open()
    assert piece.slug == "made"
    assert piece.state.message == "done"
    assert type(piece.state.result) is type(values)
    assert list(piece.state.result) == [2, 3]
    assert piece.header.more["length"] == 4
    assert piece.header.more["offset"] == 1
    assert piece.header.nbytes < 4_000
    assert piece.header.execution == 77


def test_the_last_piece_may_be_shorter_or_empty():
    source = envelope(states.Success([1, 2, 3]), length=3)
    assert cut_piece(source, 2, 4).state.result == [3]
    # The list was made again, and is shorter now: whoever reads an element finds that out.
    assert cut_piece(source, 4, 6).state.result == []


def test_a_piece_holds_nothing_that_a_later_run_is_compared_with():
    cached = states.CachedState(cached_result=[1, 2], cached_inputs={"x": 1})
    source = envelope(states.Success([1, 2], cached=cached), length=2, cached_until=1e12)
    assert source.cached is not None
    assert cut_piece(source, 0, 1).cached is None


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (states.Failed("this time it failed"), {}),
        (states.Retrying(), {}),
        (states.Success("a text this time"), {"no_length": "Write ..."}),
    ],
)
def test_what_has_no_elements_this_time_is_passed_on_as_it_is(state, more):
    source = envelope(state, **more)
    assert cut_piece(source, 0, 2) is source


class Closed:
    def __reduce__(self):
        return _open, ()


def _open():
    raise OSError("not here")


def test_what_cannot_be_opened_here_is_passed_on_for_its_reader_to_say_so():
    source = envelope(states.Success([Closed()]), length=1)
    wire = pickle.loads(pickle.dumps(source, protocol=5))
    assert cut_piece(wire, 0, 1) is wire


def test_where_this_package_is_missing_the_whole_is_passed_on(monkeypatch):
    source = envelope(states.Success([1, 2, 3]), length=3)
    bootstrap = make_bootstraps().cut_piece
    assert bootstrap(0, 2, source=source).state.result == [1, 2]
    monkeypatch.setitem(sys.modules, "dask_taskrunner.worker.piece", None)
    assert bootstrap(0, 2, source=source) is source
