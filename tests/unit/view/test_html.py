"""The live block as HTML: what it says, and that it fits every page."""

from __future__ import annotations

import re

import pytest
from html_words import words
from story import Story

from dask_taskrunner.states import COLORS
from dask_taskrunner.view.block import Title
from dask_taskrunner.view.html import (
    badge,
    bar,
    block,
    dot,
    escaped,
    fitted,
    fold,
    last_line,
    pre,
    table,
)
from dask_taskrunner.view.tally import Tally

TITLE = Title("etl", "nightly", "LocalCluster, 2 workers")


@pytest.fixture
def midway():
    told = Story("f" + "c" * 8 + "rs").flow(0, "Running").task(0, 0, "Success")
    for n in (1, 2, 3, 4):
        told.task(1, n, "Running").task(1 + n, n, "Success")
    told.task(5, 5, "Failed").task(5, 6, "Running")
    return told.task(5, 9, "Retrying", delay=4.0)


def test_the_block_says_what_a_terminals_says(midway):
    assert words(block(midway.tally, TITLE, 1007.0)) == [
        "etl 'nightly' on LocalCluster, 2 workers",
        "f 1/1",
        "c 5/8 6.0 s ■ 1 Failed, ■ 1 Running, 0.8/s",
        "r 0/1 2.0 s ■ 1 Retrying, ■ due in 2.0 s",
        "s 0/1",
        "6 of 11 finished, 7.0 s",
    ]


def test_a_long_name_leaves_room_for_what_is_said_of_it():
    name = "enrich_with_customer_segments_and_regions_of_europe"
    shown = block(Tally({(0, -1): name}), TITLE, 1000.0)
    assert words(shown)[1] == "enrich_with_cust…s_of_europe 0/1"
    assert f'title="{name}"' in shown


def test_a_picture_that_is_drawn_anew_is_not_scrolled_but_as_large_as_there_is_room():
    shown = fitted('<svg width="9000" height="10" viewBox="0 0 9000 10"></svg>')
    assert 'style="max-width:100%;' in shown
    assert 'width="9000" height="10" viewBox="0 0 9000 10"></svg>' in shown
    assert "overflow" not in shown


def test_where_there_is_no_room_the_rest_is_counted(midway):
    lines = words(block(midway.tally, TITLE, 1007.0, most_groups=2))
    assert [line.split()[0] for line in lines[1:3]] == ["c", "r"]
    assert lines[3] == "and 2 more"


def test_what_is_said_first_of_a_run_stands_in_the_first_line():
    title = TITLE._replace(told="reuses <b>2</b>")
    first = words(block(Tally({}), title, 1000.0))[0]
    assert first == "etl 'nightly' on LocalCluster, 2 workers: reuses <b>2</b>"


def test_a_cluster_that_is_not_known_is_not_named():
    assert words(block(Tally({}), Title("etl", "nightly", ""), 1000.0))[0] == "etl 'nightly'"


def test_the_last_line_says_how_the_run_ended(midway):
    midway.flow(9, "Failed", "1 of 11 task runs failed: c-5")
    last = last_line(midway.tally, 1020.0)
    assert words(last) == ["■ Failed after 9.0 s: 1 of 11 task runs failed: c-5"]
    assert COLORS["Failed"] in last


def test_a_success_that_holds_failures_is_not_all_green():
    told = Story("ab").flow(0, "Running").task(1, 0, "Failed").task(1, 1, "Success")
    told.flow(2, "Success", "reference tasks succeeded; 1 of 2 task runs failed: a")
    mixed = last_line(told.tally, 1002.0)
    assert mixed.index(COLORS["Success"]) < mixed.index(COLORS["Failed"])
    clean = Story("a").flow(0, "Running").task(1, 0, "Success").flow(2, "Success", "all well")
    assert COLORS["Failed"] not in last_line(clean.tally, 1002.0)


def test_what_is_somebody_elses_is_escaped():
    told = Story("a")
    told.tally = Tally({(0, -1): "<b>name"})
    told.names = {(0, -1): "<b>name"}
    told.flow(1, "Failed", "a & b <script>")
    shown = block(told.tally, Title("<i>", "'&'", "<u>"), 1001.0)
    assert not {"<b>name", "<i>", "<u>", "<script>"} & set(re.findall(r"<[^>]*>\w*", shown))
    assert "&lt;b&gt;name" in shown
    assert "a &amp; b &lt;script&gt;" in shown
    assert escaped("\"'") == "&quot;&#x27;"
    for piece in (pre("<b>"), badge("<b>"), badge("<b>", "#000000")):
        assert "&lt;b&gt;" in piece


def test_control_codes_are_shown_as_what_they_are():
    assert escaped("\x1b[31mred\x1b[0m\x07 over\rwritten\n") == "red\\x07 over\\rwritten\n"
    assert "\x08" not in pre("a\x08b") + badge("a\x08b")


def test_every_share_of_a_bar_is_seen_and_what_waits_has_the_pages_own_color():
    shown = bar({"Success": 9999, "Failed": 1, "Pending": 5, "Running": 0})
    assert shown.count("min-width:3px") == 3
    assert re.findall(r"flex:(\d+)", shown) == ["9999", "1", "5"]
    assert "background:currentColor" in shown
    assert COLORS["Pending"] not in shown


@pytest.mark.parametrize("state", COLORS)
def test_the_name_on_a_badge_can_be_read(state):
    background, text = re.findall(r"#\w+", badge(state))
    assert background == COLORS[state]

    def light(color):
        # Relative luminance, by the web's guidelines for contrast.
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((light(background), light(text)))[::-1]
    assert (bright + 0.05) / (dark + 0.05) > 3


def test_a_state_of_a_users_own_has_a_color():
    assert COLORS["State"] in badge("Sunny")
    assert COLORS["State"] in dot("Sunny")


def test_a_page_keeps_its_own_colors_but_for_states(midway):
    shown = block(midway.tally, TITLE, 1007.0) + fold("more", pre("text")) + table([["a", "b"]])
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", shown)) <= set(COLORS.values())
    backgrounds = set(re.findall(r"background:([^;\"]*)", shown))
    assert backgrounds <= {"transparent", "currentColor", *COLORS.values()}


def test_nothing_is_loaded_or_executed(midway):
    shown = block(midway.tally, TITLE, 1007.0) + fold("more", pre("text"))
    tags = set(re.findall(r"<(\w+)", shown))
    assert tags <= {"b", "details", "div", "pre", "span", "summary", "table", "tbody", "td", "tr"}
    assert not re.search(r"\bon\w+=|url\(|href|src=", shown)


def test_a_table_without_rows_is_nothing():
    assert table([]) == ""


def test_numbers_stand_on_the_right():
    first, second = re.findall(r"text-align:(\w+)", table([["a", "1"]], "lr"))
    assert (first, second) == ("left", "right")
