"""Runs the code that stands on a page, cell by cell as a notebook does, and block by block."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from typing import Any

#: What stands before a line that a cell shows.
SHOWN = "#>"


def run_cell(code: str, namespace: dict[str, Any]) -> Any:
    """Run a cell, in which `await` is allowed, and return the value of its last expression."""
    tree = ast.parse(code)
    namespace["_value"] = None
    match tree.body[-1]:
        case ast.Expr(value):
            target = ast.Name("_value", ast.Store())
            tree.body[-1] = ast.copy_location(ast.Assign([target], value), tree.body[-1])
            ast.fix_missing_locations(tree)
    compiled = compile(tree, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waits = eval(compiled, namespace)
    if inspect.iscoroutine(waits):
        asyncio.run(waits)
    return namespace.pop("_value")


def cells(block: str) -> Iterator[tuple[str, str]]:
    """Cut a block where it shows something; each cell comes with what it shows."""
    code: list[str] = []
    shown: list[str] = []
    for line in block.splitlines():
        if line.startswith(SHOWN):
            shown.append(line.removeprefix(SHOWN).removeprefix(" "))
            continue
        if shown:
            yield "\n".join(code), "\n".join(shown)
            code, shown = [], []
        code.append(line)
    yield "\n".join(code), "\n".join(shown)


def check_cells(block: str, namespace: dict[str, Any]) -> None:
    """Run a block, and compare what its cells show with what it says that they show."""
    for code, shown in cells(block):
        value = run_cell(code, namespace)
        if shown:
            assert repr(value) == shown, code


def check_page(page: str, namespace: dict[str, Any]) -> None:
    """Run a page's blocks of Python, from the first to the last."""
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        check_cells(block, namespace)
