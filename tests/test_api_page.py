"""The page of all names has them all."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import dask_taskrunner
from dask_taskrunner.run_context import RESERVED

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")


def documented() -> set[str]:
    """Return what the page shows: by its name, or with its module."""
    names = re.findall(r"^\.\. auto(?:class|function):: (?:dask_taskrunner\.)?(\w+)$", PAGE, re.M)
    modules = re.findall(r"^\.\. automodule:: dask_taskrunner\.(\w+)\n   :members:$", PAGE, re.M)
    for module in modules:
        names += [module, *vars(getattr(dask_taskrunner, module))]
    return set(names)


def test_every_public_name_is_on_the_page():
    there = documented()
    missing = [
        name
        for name in dask_taskrunner.__all__
        if name not in there and not name.startswith("__") and f"`{name}`" not in PAGE
    ]
    assert missing == []


def test_every_public_module_is_on_the_page():
    modules = {
        name
        for name in dask_taskrunner.__all__
        if isinstance(getattr(dask_taskrunner, name), ModuleType)
    }
    assert modules <= documented()


def test_every_entry_of_the_context_is_told_of():
    _, _, table = PAGE.partition("| entry | what it is |\n|---|---|\n")
    rows = [line.split(" | ")[0] for line in table.partition("\n\n")[0].splitlines()]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    # What is no entry, but the context's own, or for tests only.
    assert told == RESERVED - {"get", "to_dict", "raise_on_exception"}
