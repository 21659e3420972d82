"""The live block, rendered at a fixed width, and when it stays away."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console
from story import Story

from dask_taskrunner.states import COLORS
from dask_taskrunner.view import terminal
from dask_taskrunner.view.tally import Tally
from dask_taskrunner.view.terminal import Title, choose, draw, shares, watching

TITLE = Title("etl", "nightly", "LocalCluster, 2 workers")


def rendered(told, now, **options):
    console = Console(width=100, record=True, file=io.StringIO(), color_system=None)
    console.print(draw(told.tally, TITLE, 1000.0 + now, **options))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.fixture
def midway():
    told = Story("f" + "c" * 8 + "rs").flow(0, "Running").task(0, 0, "Success")
    for n in (1, 2, 3, 4):
        told.task(1, n, "Running").task(1 + n, n, "Success")
    told.task(5, 5, "Failed").task(5, 6, "Running")
    return told.task(5, 9, "Retrying", delay=4.0)


def test_the_block_has_a_line_per_task_name(midway):
    assert rendered(midway, 7, width=64) == [
        "etl 'nightly' on LocalCluster, 2 workers",
        "  f  ━━━━━━━━━━━━━━━━  1/1",
        "  c  ━━━━━━━━━━━━────  5/8  6.0 s  1 Failed, 1 Running, 0.8/s",
        "  r  ━━━━━━━━━━━━━━━━  0/1  2.0 s  1 Retrying, due in 2.0 s",
        "  s  ────────────────  0/1",
        "6 of 11 finished, 7.0 s",
    ]


def test_what_is_said_first_of_a_run_stands_in_the_first_line(midway):
    title = TITLE._replace(told="reuses 213 task runs, runs 4")
    console = Console(width=100, record=True, file=io.StringIO(), color_system=None)
    console.print(draw(midway.tally, title, 1007.0))
    first, second, *_ = console.export_text().splitlines()
    assert first == "etl 'nightly' on LocalCluster, 2 workers: reuses 213 task runs, runs 4"
    assert second.split()[0] == "f"


def test_what_was_tried_again_is_told_to_the_end():
    told = Story("ab").flow(0, "Running")
    for n, retries in ((0, 1), (1, 3)):
        for _ in range(retries):
            told.task(1, n, "Retrying", delay=1.0).task(2, n, "Pending")
        told.task(3, n, "Success")
    lines = rendered(told, 4)
    assert lines[1].endswith("1/1  2.0 s  1 retry")
    assert lines[2].endswith("1/1  2.0 s  3 retries")


def test_where_there_is_no_room_the_rest_is_counted(midway):
    lines = rendered(midway, 7, most_groups=2)
    assert [line.split()[0] for line in lines[1:3]] == ["c", "r"]
    assert lines[3] == "  and 2 more"


def test_failed_and_active_groups_come_before_others_in_the_order_of_the_plan():
    told = Story("abcde").task(0, 0, "Success").task(0, 2, "Running").task(0, 3, "Failed")
    groups = list(told.tally.groups.values())
    chosen = ["".join(group.name for group in choose(groups, most)) for most in range(1, 6)]
    assert chosen == ["d", "cd", "bcd", "bcde", "abcde"]


def test_a_long_name_is_cut():
    told = Story("a")
    told.tally = Tally({(0, -1): "x" * 200})
    assert rendered(told, 0)[1].startswith("  " + "x" * 25 + "…  ─")


def test_a_name_is_not_taken_for_markup():
    told = Story("a")
    told.tally = Tally({(0, -1): "[red]x[/red]"})
    assert rendered(told, 0)[1].startswith("  [red]x[/red]  ─")


@pytest.mark.parametrize(
    ("counts", "cells", "expected"),
    [
        ({"Pending": 3}, 8, [("Pending", 8)]),
        ({"Success": 1, "Pending": 1}, 9, [("Success", 5), ("Pending", 4)]),
        ({"Success": 9999, "Failed": 1}, 8, [("Success", 7), ("Failed", 1)]),
        ({"Failed": 1, "Pending": 99}, 8, [("Failed", 1), ("Pending", 7)]),
    ],
)
def test_a_bar_is_shared_by_proportion_and_one_failure_is_seen(counts, cells, expected):
    assert shares(counts, cells) == expected


def test_a_bar_is_as_wide_as_it_should_be_and_no_share_is_negative():
    for counts in itertools.product((0, 1, 3, 1000), repeat=4):
        if any(counts):
            states = ("Success", "Failed", "Running", "Pending")
            divided = shares(dict(zip(states, counts, strict=True)), 8)
            assert sum(share for _, share in divided) == 8
            assert all(share > 0 for _, share in divided)


def test_the_last_line_says_how_the_run_ended(midway):
    midway.flow(9, "Failed", "1 of 11 task runs failed: c-5")
    assert rendered(midway, 20)[-1] == "Failed after 9.0 s: 1 of 11 task runs failed: c-5"


def test_a_success_that_holds_failures_is_not_all_green():
    told = Story("ab").flow(0, "Running").task(1, 0, "Failed").task(1, 1, "Success")
    told.flow(2, "Success", "reference tasks succeeded; 1 of 2 task runs failed: a")
    line = terminal.last_line(told.tally, 1002.0)
    assert line.style == COLORS["Success"]
    assert [span.style for span in line.spans] == [COLORS["Failed"]]
    clean = Story("a").flow(0, "Running").task(1, 0, "Success").flow(2, "Success", "all well")
    spans = terminal.last_line(clean.tally, 1002.0).spans
    assert COLORS["Failed"] not in [span.style for span in spans]


def a_console(*, is_terminal=True):
    return Console(
        width=80, height=20, file=io.StringIO(), force_terminal=is_terminal, color_system=None
    )


def test_a_terminal_shows_what_happened_while_it_was_watched():
    told = Story("a")
    console = a_console()
    with watching(told.history, Tally(told.names), TITLE, console=console):
        told.flow(0, "Running").task(1, 0, "Success").flow(2, "Success")
    assert "Succeeded after 2.0 s" in console.file.getvalue()


def test_what_is_no_terminal_shows_nothing():
    told = Story("a").flow(0, "Running")
    console = a_console(is_terminal=False)
    with watching(told.history, Tally(told.names), TITLE, console=console):
        pass
    assert console.file.getvalue() == ""


def test_what_is_no_terminal_shows_the_last_picture_where_it_was_asked_for():
    told = Story("a").flow(0, "Running")
    console = a_console(is_terminal=False)
    with watching(told.history, Tally(told.names), TITLE, progress=True, console=console):
        told.task(1, 0, "Success").flow(2, "Success")
    assert console.file.getvalue().splitlines()[-1] == "Succeeded after 2.0 s"


def test_a_view_that_is_off_shows_nothing_on_a_terminal_either(capsys):
    told = Story("a").flow(0, "Running")
    console = a_console()
    with watching(told.history, Tally(told.names), TITLE, progress=False, console=console):
        pass
    with watching(told.history, Tally(told.names), TITLE):  # what pytest captures is no terminal
        pass
    assert console.file.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_a_second_block_leaves_the_terminal_to_the_first_and_the_next_one_has_it_again():
    told = Story("a").flow(0, "Running")
    first, second, third = a_console(), a_console(), a_console()
    with (
        watching(told.history, Tally(told.names), TITLE, console=first),
        watching(told.history, Tally(told.names), TITLE, console=second),
    ):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        watching(told.history, Tally(told.names), TITLE, console=third),
    ):
        raise ZeroDivisionError
    assert first.file.getvalue()
    assert second.file.getvalue() == ""
    assert third.file.getvalue()
    assert not terminal._terminal.locked()


def test_no_more_than_four_updates_a_second_are_asked_for():
    assert terminal.UPDATES_PER_SECOND == 4
