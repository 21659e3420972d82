"""When and how large lists are cut for children, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from dask_taskrunner.backend import Code, RunSpec
from dask_taskrunner.dask_backend.held import HeldFutures, Sent
from dask_taskrunner.dask_backend.pieces import Pieces
from dask_taskrunner.machine.commands import Submission

LIST, OTHER = (0, -1), (1, -1)


class FakeFuture:
    def __init__(self, key: Any) -> None:
        self.key = key
        self.status = "pending"
        self.released = False

    def release(self) -> None:
        self.released = True


class FakeClient:
    """Answers as a cluster of two workers does, one of two threads; it may be silent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.futures: list[FakeFuture] = []
        self.answer: Any = ({"tcp://a": 2, "tcp://b": 1}, ("tcp://b",))

    def sync(self, ask: Any, key: Any, callback_timeout: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def submit(self, function: Any, start: int, stop: int, source: Any, **options: Any) -> Any:
        self.sent.append({"start": start, "stop": stop, "source": source.key, **options})
        self.futures.append(FakeFuture(options["key"]))
        return self.futures[-1]


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def held(client):
    held = HeldFutures(client)
    held.put(LIST, Sent(FakeFuture("list"), 1))
    held.put(OTHER, Sent(FakeFuture("other"), 1))
    return held


@pytest.fixture
def pieces(client, held):
    return Pieces(client, "ab12cd34", held, object())


def child(index, *, submission=1, nbytes=100, length=24, **changes):
    run = Submission(
        (2, index), 1, 1, 1, (LIST,), (submission,), promised={0: length}, sizes={0: nbytes}
    )
    return run._replace(**changes)


def spec(**changes):
    return RunSpec("child", "child", Code(()), 0, b"", ("list",), splits={0: 50})._replace(
        **changes
    )


def test_a_list_is_cut_once_into_four_pieces_for_each_thread(client, pieces):
    places = [pieces.place(child(i), spec()) for i in range(24)]
    assert [(sent["start"], sent["stop"]) for sent in client.sent] == [
        (start, start + 2) for start in range(0, 24, 2)
    ]
    assert {sent["source"] for sent in client.sent} == {"list"}
    # Where the list lies; but that worker may go.
    assert all(sent["workers"] == ["tcp://b"] for sent in client.sent)
    assert all(sent["allow_other_workers"] for sent in client.sent)
    assert len({sent["key"] for sent in client.sent}) == 12
    assert [place.keys[LIST] for place in places] == [
        key for sent in client.sent for key in [sent["key"]] * 2
    ]
    turn = ["tcp://a", "tcp://b", "tcp://a"] * 4
    assert [place.worker for place in places] == [worker for worker in turn for _ in range(2)]


def test_of_few_elements_each_is_a_piece(client, pieces):
    pieces.place(child(0, length=3), spec())
    assert [sent["start"] for sent in client.sent] == [0, 1, 2]


@pytest.mark.parametrize(
    ("run", "own"),
    [
        (child(0, nbytes=50), spec()),
        (child(0), spec(splits={})),
        (child(0, expands=True), spec()),
        (child(0, submission=2), spec()),
        (child(0, upstream=("a state by value",)), spec()),
    ],
    ids=["small", "whole", "expands", "another send", "by value"],
)
def test_what_need_not_or_cannot_be_cut_is_not(client, pieces, run, own):
    place = pieces.place(run, own)
    assert (place.keys, place.worker) == ({}, None)
    assert not client.sent


@pytest.mark.parametrize("options", [{"workers": ("tcp://c",)}, {"resources": {"GPU": 1}}])
def test_a_users_own_word_on_where_a_child_runs_is_the_only_one(pieces, options):
    place = pieces.place(child(0), spec(**options))
    assert place.worker is None
    assert place.keys


@pytest.mark.parametrize("error", [TimeoutError(), OSError()])
def test_where_the_scheduler_does_not_answer_dask_places_what_it_gets(client, pieces, error):
    client.answer = error
    assert pieces.place(child(0), spec()).worker is None
    assert [sent["workers"] for sent in client.sent] == [None] * 4


def test_behind_a_list_of_children_the_place_is_another(pieces):
    run = child(0)._replace(
        upstream_ids=((5, 0), (5, 1), (5, 2), LIST, OTHER),
        upstream=(1, 1, 1, 1, 1),
        widths={0: 3},
        promised={1: 24, 2: 24},
        sizes={1: 100, 2: 10},
    )
    assert list(pieces.place(run, spec(splits={1: 50, 2: 50})).keys) == [LIST]


def test_pieces_that_ended_badly_are_cut_again_and_those_behind_them_are_known(client, pieces):
    first = [pieces.place(child(i), spec()) for i in range(4)]
    client.futures[1].status = "error"
    assert dict(pieces.users_of_bad()) == {(2, 2): client.futures[1], (2, 3): client.futures[1]}
    # Nobody is told of the others.
    assert pieces.place(child(0), spec()).keys == first[0].keys
    again = pieces.place(child(2), spec())
    assert again.keys[LIST] not in {place.keys[LIST] for place in first}
    assert all(future.released for future in client.futures[:12])
    assert not dict(pieces.users_of_bad())


def test_a_list_that_is_sent_again_is_cut_again(client, held, pieces):
    pieces.place(child(0), spec())
    held.put(LIST, Sent(FakeFuture("again"), 2))
    pieces.place(child(0, submission=2), spec())
    assert {sent["source"] for sent in client.sent[12:]} == {"again"}
    assert all(future.released for future in client.futures[:12])


def test_pieces_go_with_their_list(client, pieces):
    pieces.place(child(0), spec())
    pieces.release([OTHER])
    assert not any(future.released for future in client.futures)
    pieces.release([LIST])
    assert all(future.released for future in client.futures)
    pieces.place(child(0), spec())
    pieces.release_all()
    assert all(future.released for future in client.futures)
