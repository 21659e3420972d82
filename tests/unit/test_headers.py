"""Headers: what travels of a state, how large it may be, and what is made of it again."""

from __future__ import annotations

import enum
import pickle
import time

import msgpack
import pytest

from dask_taskrunner import exceptions, signals, states
from dask_taskrunner.headers import (
    NOTHING_MORE,
    Header,
    describe,
    open_exception,
    small_result,
    standing_alone,
    state_name,
    to_state,
    type_name,
)
from dask_taskrunner.short_texts import format_bytes, shorten_message, shorten_traceback


def header(state="Success", message=None, *, kind="", small=None, more=NOTHING_MORE, nbytes=0):
    return Header(
        3, -1, 2, 12345, state, message, "tcp://10.0.0.7:4711", 1, 1000.0, 0.5, 1000.5, kind,
        nbytes, small, more,
    )  # fmt: skip


def header_of(state, name=None):
    """Return the header that a worker writes for a failed or pending state."""
    return header(type(state).__name__, shorten_message(state.message), more=describe(state, name))


def sent(header):
    """Return a header after its way through Dask."""
    return Header.from_wire(msgpack.unpackb(msgpack.packb(header.to_wire()), strict_map_key=False))


# --- the wire ------------------------------------------------------------------------------------


def test_a_header_survives_the_wire():
    original = header(
        "Failed",
        "ValueError: no",
        small=b"\x80",
        more={"traceback": "Traceback", "inputs": {"x": "5"}, "root_cause": ["a", "b"]},
    )
    again = sent(original)
    assert again == original
    assert again.id == (3, -1)
    assert again.state_class is states.Failed


def test_the_names_that_many_headers_share_are_shared_again():
    one, other = (sent(header(kind="DataFrame")) for _ in range(2))
    for name in ("state", "worker", "kind"):
        assert getattr(one, name) is getattr(other, name)


@pytest.mark.parametrize("text", ["file \udcff", "naïve ☃", "\ud800"])
def test_text_that_is_no_text_is_escaped_for_it_would_break_the_workers_connection(text):
    more = {"traceback": text, "inputs": {text: text}, "root_cause": [text, text], "error": text}
    again = sent(header("Failed", text, more=more))
    escaped = text.encode(errors="backslashreplace").decode()
    assert again.message == escaped
    assert again.more == {
        "traceback": escaped,
        "inputs": {escaped: escaped},
        "root_cause": [escaped, escaped],
        "error": escaped,
    }


def test_no_failure_makes_a_message_of_more_than_16_kilobytes():
    class Loud(Exception):
        pass

    for character in ("x", "é", "☃", "\udcff", "\U0001f600"):
        noise = character * 100_000
        failed = states.Failed(
            exception=Loud(character * 3_000),
            message=noise,
            traceback=noise,
            inputs={f"x{n}": character * 200 for n in range(2)},
            root_cause=(noise, noise),
        )
        wire = header_of(failed, name=character * 200).to_wire()
        assert len(msgpack.packb(wire)) <= 16_000


def test_an_exception_rides_along_where_there_is_room_for_it():
    short = describe(states.Failed(exception=ValueError("x" * 3_000), traceback="t" * 1_000))
    assert "exception" in short
    long = describe(states.Failed(exception=ValueError("x" * 3_500), traceback="t" * 20_000))
    assert long["has_exception"]
    assert "exception" not in long
    too_large = describe(states.Failed(exception=ValueError("x" * 5_000)))
    assert "exception" not in too_large


class Partial(states.Success):
    pass


class Meagre(Partial):
    pass


def test_a_state_of_a_users_own_is_called_as_what_it_derives_from():
    assert state_name(Meagre()) == "Success"
    assert state_name(states.TriggerFailed()) == "TriggerFailed"


def test_a_name_that_nobody_knows_is_just_a_state():
    assert sent(header("Partial")).state == "State"


# --- small results -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, 10**30, 1.5, float("inf"), 1j, "text", b"bytes", (), [], {},
        (1, [2.0, {"three": b"4", 5: (None,)}]), list(range(150)), [None] * 480, "é" * 240,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_small_and_plain_rides_in_the_header(value):
    data = small_result(value)
    assert data is not None
    assert pickle.loads(data) == value


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [{1, 2}, frozenset(), object(), Colour.RED, Text("x"), range(3), [object()], {"a": {1}}],
)
def test_what_is_not_plain_does_not(value):
    assert small_result(value) is None


def test_512_bytes_are_small_and_513_are_not():
    overhead = len(pickle.dumps("x" * 300, protocol=5)) - 300
    assert len(small_result("x" * (512 - overhead))) == 512
    assert small_result("x" * (513 - overhead)) is None


def test_what_is_large_is_not_pickled_to_find_that_out(monkeypatch):
    monkeypatch.setattr(pickle, "dumps", lambda *args, **kwargs: pytest.fail("it was pickled"))
    for value in ("x" * 10**6, b"x" * 10**6, [None] * 10**6, dict.fromkeys(range(10**5))):
        assert small_result(value) is None


def test_a_container_that_holds_itself_is_not_small():
    value = []
    value.append(value)
    assert small_result(value) is None


# --- what a header says of a state ---------------------------------------------------------------


def test_a_success_has_nothing_more_to_say():
    assert describe(states.Success(5)) is NOTHING_MORE
    assert describe(states.Pending()) is NOTHING_MORE
    assert describe(states.Success(5), "eu") == {"name": "eu"}


def test_a_retry_says_when_it_is_due():
    state = signals.RETRY(delay=5).make_state()
    state.last_run_number = 0
    more = describe(state)
    assert more["delay"] == 5.0
    assert more["last_run_number"] == 0
    assert abs(more["scheduled_time"] - time.time() - 5) < 1


@pytest.mark.parametrize("delay", ["soon", float("nan"), float("inf"), object()])
def test_a_delay_that_is_none_is_left_out(delay):
    # A state handler may return any state that it likes.
    assert "delay" not in describe(states.Retrying(delay=delay))


def test_whatever_a_handler_puts_into_a_failure_can_be_sent():
    failed = states.Failed(message=5, inputs={"x": object, 3: [1, (2.0, None, True)]})
    assert sent(header_of(failed)).more["inputs"] == {
        "x": "<class 'object'>",
        3: [1, [2.0, None, True]],
    }


def test_a_failure_says_what_was_raised_and_why():
    failed = states.Failed(
        exception=ValueError("no"), traceback="Traceback", inputs={"x": "5"}, root_cause=("a", "b")
    )
    more = describe(failed)
    assert more["type"] == "ValueError"
    assert more["inputs"] == {"x": "5"}
    assert more["root_cause"] == ["a", "b"]
    state = to_state(sent(header_of(failed)), "clean")
    assert repr(state.exception) == "ValueError('no')"
    assert state.message == "ValueError: no"
    assert state.root_cause == ("a", "b")
    assert state.traceback == "Traceback"
    assert state.inputs == {"x": "5"}


def test_a_failure_without_an_exception_has_none():
    state = to_state(header_of(states.Failed(message="by a handler")), "clean")
    assert state.exception is None
    assert state.message == "by a handler"


# --- exceptions ----------------------------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Refuses(Exception):
    def __reduce__(self):
        raise SystemExit("not me")


class BecomesAnother(Exception):
    def __reduce__(self):
        return ValueError, ("something else",)


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        import threading

        self.lock = threading.Lock()


@pytest.mark.parametrize(
    "exception",
    [TwoArguments(1, 2), Refuses("no"), BecomesAnother("no"), HoldsALock("no")],
    ids=lambda exception: type(exception).__name__,
)
def test_what_does_not_survive_the_trip_is_told_by_type_and_text(exception):
    failed = states.Failed(exception=exception, traceback="Traceback")
    error = to_state(sent(header_of(failed)), "clean").exception
    assert isinstance(error, exceptions.RemoteTaskError)
    assert error.original_type == type(exception).__name__
    assert str(error) == f"{type(exception).__name__}: {exception}"
    assert error.traceback == "Traceback"


def test_a_class_without_a_module_is_carried_along():
    namespace = {"__name__": "__main__"}
    exec("class OfAScript(Exception): pass", namespace)
    exception = namespace["OfAScript"]("no")
    error = to_state(sent(header_of(states.Failed(exception=exception))), "clean").exception
    # At home it is the very class, so that `except OfAScript` works.
    assert type(error) is type(exception)


def test_what_cannot_be_opened_here_is_told_by_type_and_text():
    more = {"exception": b"no pickle", "type": "KeyError", "has_exception": True}
    error = open_exception(header("Failed", "KeyError: 'x'", more=more))
    assert repr(error) == "RemoteTaskError('KeyError', \"'x'\", '')"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("ValueError: no", "ValueError: no"),
        ("ValueError", "ValueError"),
        ("handler h: ValueError: no", "ValueError: handler h: ValueError: no"),
        (None, "ValueError"),
    ],
)  # fmt: skip
def test_the_types_name_is_said_once(message, text):
    error = open_exception(header("Failed", message, more={"type": "ValueError"}))
    assert str(error) == text


def test_an_exception_that_did_not_survive_keeps_its_own_name():
    assert type_name(exceptions.RemoteTaskError("KeyError", "x")) == "KeyError"
    assert type_name(KeyError("x")) == "KeyError"


# --- what it says by itself ----------------------------------------------------------------------

HAS_EXCEPTION = {"has_exception": True, "type": "ValueError"}


@pytest.mark.parametrize(
    ("header", "complete", "alone"),
    [
        (header(kind="int", small=b"x"), True, True),
        (header(kind="DataFrame"), False, False),
        (header("Skipped"), True, True),
        (header("Failed"), True, True),
        (header("Failed", more=HAS_EXCEPTION), False, True),
        (header("Failed", more={**HAS_EXCEPTION, "exception": b""}), True, True),
        (header("Retrying"), True, True),
    ],
)
def test_a_header_is_complete_where_nothing_is_left_on_the_worker(header, complete, alone):
    assert header.is_complete == complete
    assert header.stands_alone == alone


def test_standing_alone_a_failure_has_an_exception_of_what_is_known():
    lost = header("Failed", "ValueError: no", more={**HAS_EXCEPTION, "traceback": "Traceback"})
    alone = standing_alone(lost)
    assert alone.is_complete
    assert str(to_state(alone, "clean").exception) == "ValueError: no"
    whole = header()
    assert standing_alone(whole) is whole


@pytest.mark.parametrize("name", ["Success", "Skipped", "Failed", "Retrying", "Cancelled"])
def test_a_success_is_one(name):
    assert header(name).is_successful == (name in ("Success", "Skipped"))


# --- back to a state -----------------------------------------------------------------------------


def test_a_small_result_is_there_and_a_large_one_says_where_it_is():
    assert to_state(header(kind="int", small=pickle.dumps(5)), "clean").result == 5
    state = to_state(header(kind="DataFrame", nbytes=41_000_000), "clean[17]")
    text = (
        "the result of clean[17] (DataFrame, 41 MB) is on tcp://10.0.0.7:4711; "
        "run['clean[17]'].result() fetches it"
    )
    with pytest.raises(exceptions.ResultNotHere) as caught:
        _ = state.result
    assert str(caught.value) == text
    assert not state.result_is_here


def test_the_time_is_the_headers():
    assert to_state(header(), "clean").timestamp.timestamp() == 1000.5


@pytest.mark.parametrize("name", [name for name in states.STATE_CLASSES if name != "State"])
def test_every_state_comes_back_as_what_it_was(name):
    state = to_state(header(name, "why"), "clean")
    assert type(state) is states.STATE_CLASSES[name]
    assert state.message == "why"


# --- texts ---------------------------------------------------------------------------------------


def test_a_long_traceback_keeps_its_beginning_and_its_end():
    text = "B" * 4096 + "m" * 10_000 + "E" * 6144
    cut = shorten_traceback(text)
    assert cut == f"{'B' * 4096}\n  [... cut ...]\n{'E' * 6144}"
    assert shorten_traceback("x" * 10_240) == "x" * 10_240


def test_a_traceback_is_cut_between_characters():
    cut = shorten_traceback("☃" * 10_000)
    assert set(cut.replace("\n  [... cut ...]\n", "")) == {"☃"}
    assert len(cut.encode()) <= 10_300


class NoText:
    def __str__(self):
        raise ValueError("none")


@pytest.mark.parametrize(
    ("message", "short"),
    [
        (None, None),
        ("x" * 2000, "x" * 2000),
        ("x" * 2001, "x" * 2000 + "..."),
        ("é" * 2000, "é" * 1000 + "..."),
        (ValueError("no"), "no"),
        (5, "5"),
        (NoText(), "(a NoText)"),
    ],
)
def test_a_message_is_cut_and_is_text_whatever_a_task_gave(message, short):
    assert shorten_message(message) == short


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (41_000_000, "41 MB"), (9.96e9, "10.0 GB"),
        (2e12, "2.0 TB"), (5e15, "5000.0 TB"),
    ],
)  # fmt: skip
def test_a_size_is_written_as_people_read_it(n, text):
    assert format_bytes(n) == text
