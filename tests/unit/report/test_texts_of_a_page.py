"""Text that is somebody else's can be shown on a page, and no more of it than there is room for."""

from __future__ import annotations

import json

import pytest

from dask_taskrunner.report.texts import CUT, Room, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("windows\r\nlines", "windows\nlines"),
        ("nul\x00bell\x07", r"nul\x00bell\x07"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("turned \u202eround", r"turned \u202eround"),
        ("half of one: \ud83d", "half of one: \ufffd"),
        ("a file's name: \udcff", "a file's name: \ufffd"),
        ("Größe 🎈 עברית", "Größe 🎈 עברית"),
    ],
)
def test_what_is_no_text_can_be_seen_and_written_into_a_file(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode()


def test_what_fits_is_kept():
    room = Room(100)
    assert room.take("some text") == "some text"
    assert room.take_end("some more") == "some more"
    assert room.is_left


def test_of_what_does_not_fit_the_beginning_or_the_end_is_kept():
    assert Room(240).take("begin" + "x" * 400) == "begin" + "x" * 15 + "…"
    assert Room(240).take_end("x" * 400 + "end") == CUT + "x" * 17 + "end"


def test_where_no_room_is_left_nothing_is_kept():
    room = Room(12)
    room.take("0123456789")
    assert not room.is_left
    assert room.take("ValueError: negative price") == "…"
    assert room.take_end("whatever") == CUT


@pytest.mark.parametrize("letter", ["x", '"', "ü", "🎈", "\x07", "\\", "<"])
def test_a_text_takes_no_more_room_than_there_is(letter):
    room, told = Room(6_000), []
    while room.is_left:
        told.append(room.take_end(letter * 1_000))
    shown = json.dumps("".join(told), ensure_ascii=False).replace("<", "\\u003c")
    assert len(shown.encode()) < 6_000 + 1_000
