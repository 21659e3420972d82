"""What a terminal would obey cannot be in what it is shown."""

from __future__ import annotations

import pytest

from dask_taskrunner.control_codes import colored, harmless

RED = "\x1b[31m"
PLAIN = "\x1b[0m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, häßlich, 漢字", "plain, häßlich, 漢字"),
        ("two\n\tlines", "two\n\tlines"),
        ("of Windows\r\n", "of Windows\n"),
        (f"{RED}red{PLAIN}", "red"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b[?1049hother screen", "other screen"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("100%\rdone", "100%\\rdone"),
        ("bell\x07", "bell\\x07"),
        ("back\x08\x7f", "back\\x08\\x7f"),
        ("cut off \x1b", "cut off \\x1b"),
        ("cut off \x1b[31", "cut off \\x1b[31"),
        ("never ends \x1b]0;title", "never ends \\x1b]0;title"),
        ("turned \u202eround", "turned \\u202eround"),
    ],
)
def test_a_text_is_shown_and_not_obeyed(text, shown):
    assert harmless(text) == shown


@pytest.mark.parametrize("first", [chr(n) for n in (*range(32), *range(0x7F, 0xA0))])
@pytest.mark.parametrize("rest", ["", "[", "[31m", "]", "]0;title\x07", "P", "c", "\x1b"])
def test_no_control_code_is_left_of_anything(first, rest):
    left = harmless(f"a{first}{rest}b")
    assert left.replace("\n", "").replace("\t", "").isprintable()


def test_colors_may_stay():
    assert colored(f"{RED}red{PLAIN}\x1b[2J\rx") == f"{RED}red{PLAIN}\\rx"
    assert colored("plain") == "plain"
