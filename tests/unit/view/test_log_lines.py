"""Log lines as a terminal and a notebook show them."""

from __future__ import annotations

import io
import time

from html_words import words
from rich.console import Console
from story import Story

from dask_taskrunner.view.log_lines import NewLines, ShownLine, in_notebook, print_lines
from dask_taskrunner.view.tally import Tally
from dask_taskrunner.view.terminal import Title, watching

CLOCK = time.strftime("%H:%M:%S", time.localtime(1000.0))


def news(*texts, level=20, total=None):
    lines = [ShownLine(1000.0, "fit[3]", level, text) for text in texts]
    return NewLines(lines, len(lines) if total is None else total)


def printed(news, **options):
    file = io.StringIO()
    console = Console(file=file, width=60, **options)
    print_lines(console, news)
    return file.getvalue()


def test_a_line_says_when_who_and_how_bad():
    assert printed(news("no data", level=30)) == f"{CLOCK} fit[3] WARNING no data\n"


def test_text_is_not_taken_for_markup_and_cannot_move_the_cursor():
    shown = printed(news("[red]x[/red] \x1b[2J\x1b[31mred\x1b[0m"))
    assert shown == f"{CLOCK} fit[3] INFO [red]x[/red] red\n"


def test_a_task_may_color_its_lines():
    shown = printed(news("\x1b[31mred\x1b[0m"), color_system="standard", force_terminal=True)
    assert "\x1b[31mred" in shown


def test_a_failure_is_red():
    shown = printed(news("x", level=40), color_system="standard", force_terminal=True)
    assert shown.startswith(f"\x1b[31m{CLOCK}")


def test_a_long_line_is_not_cut():
    assert printed(news("x" * 200)).count("x") == 200


def test_of_many_the_newest_are_shown_and_the_others_counted():
    shown = printed(news(*map(str, range(150)), total=1500)).splitlines()
    assert shown[0] == "(1,480 more lines)"
    assert shown[1].endswith(" 130")
    assert shown[-1].endswith(" 149")


def test_nothing_is_shown_where_nothing_was_logged():
    assert printed(news()) == ""
    assert in_notebook(news()) == ""


def test_a_notebook_folds_them():
    assert words(in_notebook(news("<b>", total=1))) == ["1 log line", f"{CLOCK} fit[3] INFO <b>"]
    assert words(in_notebook(news("a", "\x1b[1mb\x1b[0m")))[0] == "2 log lines"
    assert "\x1b" not in in_notebook(news("\x1b[1mb\x1b[0m"))
    many = words(in_notebook(news(*map(str, range(150)), total=1500)))
    assert many[0] == "the last 20 of 1,500 log lines"


def test_lines_stand_above_the_live_block_each_once():
    told = Story("a").flow(0, "Running")
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    come = [news("one"), news("two", "three")]
    title = Title("etl", "nightly", "here")

    def read_lines():
        return come.pop(0) if come else news()

    with watching(told.history, Tally(told.names), title, console=console, read_lines=read_lines):
        told.task(1, 0, "Success").flow(2, "Success")
    shown = console.file.getvalue()
    for text in ("one", "two", "three"):
        assert shown.count(f"{CLOCK} fit[3] INFO {text}\n") == 1
    # The block is drawn again under each line.
    assert shown.rindex("three") < shown.rindex("etl 'nightly' on here")


def test_long_lines_are_cut_in_a_notebook():
    shown = in_notebook(news(*["begin" + 10_000 * "x" + "end"] * 150, total=1500))
    assert len(shown) < 40_000
    assert (shown.count("begin"), shown.count("end")) == (20, 20)


def test_what_is_drawn_again_and_again_has_the_last_lines_without_a_fold():
    shown = in_notebook(news("a", "b", "<c>", "d"), is_live=True)
    assert words(shown) == [f"{CLOCK} fit[3] INFO {text}" for text in ("b", "<c>", "d")]
    assert "<details" not in shown
    assert in_notebook(news(), is_live=True) == ""
