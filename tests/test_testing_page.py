"""The page on tests is run from its first block to its last, and shows what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pages import check_page

from dask_taskrunner import Flow, exceptions, task
from dask_taskrunner.testing import InProcessRunner

PAGE = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
TEXTS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_cells_show_what_the_page_shows(capsys):
    check_page(PAGE, {"__name__": "__main__"})
    assert capsys.readouterr().out == "".join(TEXTS[1:])


def test_the_file_of_tests_passes(tmp_path):
    (code,) = re.findall(r"^:caption: test_etl\.py\n\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "test_etl.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_etl.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert TEXTS[0].strip() in done.stdout, done.stdout


@task
def locked():
    return threading.Lock()


@task
def kind(value):
    return type(value).__name__


def test_what_is_pickled_here_and_what_is_not():
    with Flow("locks") as flow:
        kind(locked())
    assert InProcessRunner().run(flow).result() == "lock"
    checking = InProcessRunner(task_defaults={"check_result": True})
    assert checking.run(flow)["locked"].state.is_failed()
    with Flow("arguments") as flow:
        kind(threading.Lock())
    with pytest.raises(exceptions.UnpicklableArgument):
        InProcessRunner().run(flow)
