"""The page on clusters: each block is Python, and options are those that there are."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from dask_taskrunner import DaskTaskRunner

PAGE = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_option_on_the_page_is_one(block):
    options = set(inspect.signature(DaskTaskRunner).parameters)
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "DaskTaskRunner":
            assert {keyword.arg for keyword in node.keywords} <= options


@pytest.mark.cluster
def test_the_first_block_runs(capsys):
    exec(compile(BLOCKS[0], "<page>", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "hello world\n"
