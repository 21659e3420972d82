"""Each step of the tutorial is a script that prints what the page says, and adds what is marked."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")


class Step(NamedTuple):
    """A script, the numbers of its lines that are marked as new, and what it prints."""

    marked: str
    script: str
    printed: str


STEPS = [
    Step(*found)
    for found in re.findall(
        r"^```\{code-block\} python\n:caption: shops\.py\n(?::emphasize-lines: (\S+)\n)?\n"
        r"(.*?)^```\n\n```text\n(.*?)^```$",
        PAGE,
        re.M | re.S,
    )
]
((COMMAND, SHOWN),) = re.findall(r"^```console\n\$ ([^\n]*)\n(.*?)^```$", PAGE, re.M | re.S)


def numbers(marked: str) -> list[int]:
    """Return the numbers that a text such as ``1,12-14`` stands for."""
    spans = [span.partition("-") for span in marked.split(",")]
    return [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]


def added(before: str, after: str) -> list[int]:
    """Return the numbers of the lines that a script has and the one before it had not."""
    old, new = before.splitlines(), after.splitlines()
    moves = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    lines = [n for kind, _, _, start, end in moves if kind != "equal" for n in range(start, end)]
    return [n + 1 for n in lines if new[n]]


def test_no_step_is_left_out():
    assert len(STEPS) == PAGE.count("```{code-block}") == PAGE.count("```text") == 6


def test_what_is_new_in_a_step_is_marked():
    assert STEPS[0].marked == ""
    for before, step in pairwise(STEPS):
        assert numbers(step.marked) == added(before.script, step.script)


def normal(text: str) -> list[str]:
    """Return the lines without what differs from run to run: addresses, times, widths, ids."""
    text = re.sub(r"tcp://[\d.]+:\d+", "tcp://HOST", text)
    text = re.sub(r"\b\d+(\.\d+)? m?s\b", "TIME", text)
    text = re.sub(r"sales-\w{8}", "sales-ID", text)
    # A task of less than a millisecond has no time in the block.
    text = re.sub(r"━+ +(\d+/\d+)( +TIME)?", r"\1", text)
    return [re.sub(r"  +", "  ", line).rstrip() for line in text.splitlines()]


def run(directory: Path, *command: str) -> str:
    """Return what a command prints, in the order in which it comes on a terminal."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=os.environ | {"COLUMNS": "100", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=100,
    )
    return done.stdout.replace(f"{directory}{os.sep}", "")


def assert_printed(shown: str, printed: str) -> None:
    """Compare; a line of three dots stands for any lines."""
    lines = ["(.*\n)*?" if line == "..." else f"{re.escape(line)}\n" for line in normal(shown)]
    output = "".join(f"{line}\n" for line in normal(printed))
    assert re.fullmatch("".join(lines), output), output


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=range(1, len(STEPS) + 1))
def test_a_step_prints_what_the_page_says(tmp_path, step):
    (tmp_path / "shops.py").write_text(step.script, encoding="utf-8")
    assert_printed(step.printed, run(tmp_path, "shops.py"))
    assert (tmp_path / "sales.html").exists() == ("sales.html" in step.script)


@pytest.mark.cluster
@pytest.mark.slow
def test_the_command_line_shows_what_the_page_says(tmp_path):
    (tmp_path / "shops.py").write_text(STEPS[1].script, encoding="utf-8")
    program, *words = re.findall(r"'[^']*'|\S+", COMMAND)
    assert program == "dask-taskrunner"
    command = [word.strip("'") for word in words]
    assert_printed(SHOWN, run(tmp_path, "-m", "dask_taskrunner", *command))
