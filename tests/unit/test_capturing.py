"""What is taken of a body's lines, and that nobody else notices."""

from __future__ import annotations

import contextlib
import enum
import io
import logging
import os
import sys
import threading
from contextvars import copy_context

import pytest
from fakes.gates import eventually

from dask_taskrunner.worker.capturing import HOOKS, Capture
from dask_taskrunner.worker.reports import START_REPORTS


@pytest.fixture
def hooks():
    # Bodies that other tests ran in this process have had theirs for a second.
    assert eventually(lambda: START_REPORTS._thread is None)
    before = vars(logging.Logger)["isEnabledFor"], vars(logging.Logger)["callHandlers"]
    streams = sys.stdout, sys.stderr
    HOOKS.install()
    yield HOOKS
    HOOKS.uninstall()
    assert (vars(logging.Logger)["isEnabledFor"], vars(logging.Logger)["callHandlers"]) == before
    assert (sys.stdout, sys.stderr) == streams


class Taken(list):
    """Lines, as a capture hands them over."""

    def __call__(self, at, level, text):
        assert at > 1e9
        self.append((logging.getLevelName(level), text))


@pytest.fixture
def taken(hooks):
    return Taken()


@pytest.fixture
def logger():
    """A logger that nobody has configured: what is logged at INFO goes nowhere."""
    logger = logging.getLogger("some_library.part")
    assert logging.getLogger().level == logging.WARNING
    yield logger
    for name in ("some_library", "some_library.part"):
        one = logging.getLogger(name)
        one.handlers.clear()
        one.filters.clear()
        one.setLevel(logging.NOTSET)
        one.propagate, one.disabled = True, False


@pytest.fixture
def seen():
    """What the process's own handler on the root logger gets."""
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    handler = Handler()
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


# --- loggers -------------------------------------------------------------------------------------


def test_a_logger_that_nobody_has_configured_gives_its_info_lines(taken, logger):
    with Capture("INFO", taken):
        logger.debug("no")
        logger.info("%d rows", 3)
        logger.warning("few")
    assert taken == [("INFO", "3 rows"), ("WARNING", "few")]


def test_the_level_of_the_capture_decides(taken, logger):
    with Capture("debug", taken):
        logger.debug("d")
    with Capture(logging.ERROR, taken):
        logger.warning("w")
        logger.error("e")
    assert taken == [("DEBUG", "d"), ("ERROR", "e")]


def test_what_only_the_capture_wants_goes_to_no_handler(taken, logger, seen):
    with Capture("INFO", taken):
        logger.info("quiet")
        logger.warning("loud")
    assert taken == [("INFO", "quiet"), ("WARNING", "loud")]
    assert seen == ["loud"]


def test_what_a_handler_wants_and_the_capture_does_not_is_the_handlers(taken, logger, seen):
    logger.setLevel(logging.DEBUG)
    with Capture("INFO", taken):
        logger.debug("d")
    assert (taken, seen) == ([], ["d"])


def test_a_level_that_somebody_has_set_holds(taken, logger):
    logging.getLogger("some_library").setLevel(logging.ERROR)
    with Capture("INFO", taken):
        logger.warning("no")
        logger.error("yes")
    assert taken == [("ERROR", "yes")]


def test_what_is_switched_off_stays_off(taken, logger):
    with Capture("INFO", taken):
        logging.disable(logging.INFO)
        logger.info("no")
        logging.disable(logging.NOTSET)
        logger.addFilter(lambda record: "secret" not in record.getMessage())
        logger.info("a secret")
        logger.disabled = True
        logger.error("no")
    assert taken == []


def test_a_logger_that_does_not_propagate_is_heard(taken, logger):
    logger.propagate = False
    with Capture("INFO", taken):
        logger.info("yes")
    assert taken == [("INFO", "yes")]


def test_other_threads_are_not_heard_and_those_of_the_context_are(taken, logger, seen):
    with Capture("INFO", taken):
        in_thread(lambda: logger.info("another's"))
        in_thread(lambda: logger.warning("another's"))
        context = copy_context()
        in_thread(lambda: context.run(logger.info, "mine"))
    assert taken == [("INFO", "mine")]
    assert seen == ["another's"]


def test_two_captures_do_not_mix(hooks, logger):
    both = [Taken(), Taken()]
    at_once = threading.Barrier(2)

    def body(n):
        with Capture("INFO", both[n], prints=True):
            for i in range(100):
                at_once.wait(10)
                logger.info("%d %d", n, i)
                print(n, i)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, taken in enumerate(both):
        assert taken == [("INFO", f"{n} {i}") for i in range(100) for _ in range(2)]


def test_after_its_end_a_capture_takes_nothing_though_a_thread_goes_on(taken, logger):
    with Capture("INFO", taken, prints=True):
        context = copy_context()
    context.run(logger.info, "late")
    context.run(print, "late")
    assert taken == []


def test_in_a_fork_nothing_is_taken(taken, logger, seen, monkeypatch):
    with Capture("INFO", taken, prints=True):
        monkeypatch.setattr(os, "getpid", lambda: 0)
        logger.info("quiet")
        logger.warning("as ever")
        print("x")
        monkeypatch.undo()
    assert (taken, seen) == ([], ["as ever"])


def test_an_exception_brings_its_traceback(taken, logger):
    with Capture("INFO", taken):
        try:
            raise KeyError("x")
        except KeyError:
            logger.exception("it failed")
    ((level, text),) = taken
    assert level == "ERROR"
    assert text.startswith("it failed\nTraceback (most recent call last):\n")
    assert text.endswith("KeyError: 'x'")


def test_a_line_that_cannot_be_formatted_says_so_and_ends_nothing(taken, logger):
    class Bad:
        def __str__(self):
            raise RuntimeError("no")

    with Capture("INFO", taken):
        logger.info("%d rows", "three")
        logger.info(Bad())
    assert [text for _, text in taken] == [
        "%d rows (its arguments do not fit it: TypeError)",
        "a Bad (its arguments do not fit it: RuntimeError)",
    ]


def test_what_the_taker_logs_is_not_taken(hooks, logger):
    taken = []

    def take(at, level, text):
        taken.append(text)
        logger.info("I have taken %s", text)
        print("I have taken", text)

    with Capture("INFO", take, prints=True):
        logger.info("one")
        print("two")
    assert taken == ["one", "two"]


def test_a_body_may_configure_logging_as_anywhere(taken, logger):
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers.clear()
    try:
        with Capture("INFO", taken):
            # It does nothing where the root logger has a handler already.
            logging.basicConfig(stream=io.StringIO(), level=logging.INFO)
            logger.info("both")
            assert root.handlers[0].stream.getvalue() == "INFO:some_library.part:both\n"
    finally:
        root.handlers[:] = handlers
        root.setLevel(logging.WARNING)
    assert taken == [("INFO", "both")]


def test_levels_and_handlers_are_as_they_were_all_the_time(taken, logger, seen):
    root = logging.getLogger()
    before = root.level, root.handlers[:], logger.level, logger.handlers[:]
    with Capture("DEBUG", taken, prints=True):
        logger.info("x")
        assert (root.level, root.handlers[:], logger.level, logger.handlers[:]) == before
        assert logger.getEffectiveLevel() == logging.WARNING


def test_without_the_hooks_nothing_of_a_logger_is_taken(hooks, logger):
    hooks.uninstall()
    taken = Taken()
    with Capture("INFO", taken):
        logger.error("x")
    assert taken == []


def test_a_method_that_somebody_put_around_ours_stays(hooks, logger):
    hooks.uninstall()
    before = logging.Logger.callHandlers
    hooks.install()
    ours, calls = logging.Logger.callHandlers, []

    def theirs(self, record):
        calls.append(record.getMessage())
        ours(self, record)

    logging.Logger.callHandlers = theirs
    try:
        hooks.uninstall()
        assert logging.Logger.callHandlers is theirs
        hooks.install()
        taken = Taken()
        with Capture("INFO", taken):
            logger.warning("once")
        assert (taken, calls) == ([("WARNING", "once")], ["once"])
        hooks.uninstall()
        assert logging.Logger.callHandlers is theirs
    finally:
        logging.Logger.callHandlers = before


def test_to_install_twice_is_once(hooks):
    ours = logging.Logger.callHandlers
    hooks.install()
    assert logging.Logger.callHandlers is ours


# --- prints --------------------------------------------------------------------------------------


def test_what_is_printed_is_taken_line_by_line_and_goes_where_it_went(taken, capsys):
    with Capture("INFO", taken, prints=True):
        print("a", "b", sep="-")
        print("no end", end="")
        print(" yet\nand more")
        print("to the other", file=sys.stderr)
        sys.stdout.writelines(["x\n", "y\n"])
        print("the last words", end="")
    texts = ["a-b", "no end yet", "and more", "to the other", "x", "y", "the last words"]
    assert taken == [("INFO", text) for text in texts]
    out, err = capsys.readouterr()
    assert out == "a-b\nno end yet\nand more\nx\ny\nthe last words"
    assert err == "to the other\n"


def test_prints_are_taken_whatever_the_level(taken):
    with Capture("ERROR", taken, prints=True):
        print("x")
    assert taken == [("INFO", "x")]


def test_without_log_prints_nothing_stands_before_a_stream(taken, capsys):
    stream = sys.stdout
    with Capture("INFO", taken):
        assert sys.stdout is stream
        print("x")
    assert taken == []


def test_another_threads_prints_are_not_taken(taken, capsys):
    with Capture("INFO", taken, prints=True):
        in_thread(lambda: print("another's"))
    assert taken == []
    assert capsys.readouterr().out == "another's\n"


def test_of_a_progress_bar_the_last_picture_is_taken(taken):
    with Capture("INFO", taken, prints=True):
        for n in range(3):
            print(f"\r{n} of 2", end="")
        print()
        print("with a carriage return\r")
    assert [text for _, text in taken] == ["2 of 2", "with a carriage return"]


def test_a_line_without_an_end_is_no_longer_than_can_be_kept(taken):
    with Capture("INFO", taken, prints=True):
        for _ in range(100):
            sys.stdout.write("x" * 1000)
    assert sum(len(text) for _, text in taken) == 100_000
    assert max(len(text) for _, text in taken) < 20_000


def test_the_end_of_a_long_line_is_no_line(taken):
    with Capture("INFO", taken, prints=True):
        print("x" * 20_000)
        print("short")
    assert [text for _, text in taken] == ["x" * 20_000, "short"]


def test_a_record_that_python_prints_for_want_of_a_handler_is_taken_once(taken, logger):
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers.clear()
    try:
        with Capture("INFO", taken, prints=True):
            logger.warning("once")
    finally:
        root.handlers[:] = handlers
    assert taken == [("WARNING", "once")]


def test_a_stand_in_has_all_that_its_stream_has(taken):
    stream = sys.stdout
    with Capture("INFO", taken, prints=True):
        assert sys.stdout.encoding == stream.encoding
        assert sys.stdout.isatty() == stream.isatty()
        sys.stdout.flush()
        assert sys.stdout.write("four") == 4
        with pytest.raises(TypeError):
            sys.stdout.write(4)


def test_a_body_may_redirect_its_prints(taken, capsys):
    mine = io.StringIO()
    with Capture("INFO", taken, prints=True):
        with contextlib.redirect_stdout(mine):
            print("mine")
        print("yours")
    assert mine.getvalue() == "mine\n"
    assert taken == [("INFO", "yours")]


def test_a_stand_in_that_somebody_put_back_late_goes_with_the_next_capture(taken):
    stream = sys.stdout
    with Capture("INFO", taken, prints=True):
        stand_in = sys.stdout
        sys.stdout = io.StringIO()
    sys.stdout = stand_in
    print("passes through")
    with Capture("INFO", taken, prints=True):
        print("taken")
    assert sys.stdout is stream
    assert taken == [("INFO", "taken")]


def test_a_process_without_streams_prints_nowhere(taken, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with Capture("INFO", taken, prints=True):
        print("x")
        assert sys.stdout is None
    assert taken == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_what_is_taken_is_not_written_across_a_terminal(taken, logger, monkeypatch):
    terminal = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    # As in a worker, where no handler is on the root.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with Capture("ERROR", taken, prints=True):
        print("shown elsewhere")
        logger.error("shown elsewhere, too")
        logger.warning("shown nowhere else")
    print("of nobody")
    assert taken == [("INFO", "shown elsewhere"), ("ERROR", "shown elsewhere, too")]
    assert terminal.getvalue() == "shown nowhere else\nof nobody\n"


def test_levels_of_a_users_own_kind_are_levels(taken, logger):
    class Level(enum.IntEnum):
        NOTICE = 25

    with Capture("INFO", taken):
        logger.log(Level.NOTICE, "x")
    assert taken == [("Level 25", "x")]
