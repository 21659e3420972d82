"""Type checkers find what the API promises, over the examples and over a page of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parents[1] / "dask_taskrunner" / "examples").glob("*.py"))
PAGES = [str(HERE / "what_types_say.py"), *map(str, EXAMPLES)]


def check(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=HERE, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(find_spec("mypy") is None, reason="`tox -e typing` has mypy")
def test_mypy_finds_what_is_promised():
    check("mypy", "--config-file", str(HERE / "mypy.ini"), *PAGES)


@pytest.mark.skipif(find_spec("pyright") is None, reason="`tox -e typing` has pyright")
def test_pyright_finds_what_is_promised():
    project = str(HERE / "pyrightconfig.json")
    check("pyright", "--pythonpath", sys.executable, "--project", project)
