"""A census of the Python standard library that is running it: a map, a failure and a retry.

`dask-taskrunner demo` runs it. `dask-taskrunner demo --save census.py` copies it, and
`dask-taskrunner run census.py:census -p root=src` then counts a tree of your own.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from dask_taskrunner import Flow, Parameter, context, flatten, task, triggers, unmapped

MODULES = "(modules)"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Module(NamedTuple):
    """What one file holds; `error` says why it did not parse."""

    name: str
    lines: int
    functions: int = 0
    classes: int = 0
    documented: int = 0
    error: str | None = None


@task
def find_shards(root: str) -> list[str]:
    """Cut what is below `root` into shards: a directory each, and one of the files beside these."""
    top = directory(root)
    return [MODULES, *sorted(path.name for path in top.iterdir() if path.is_dir())]


@task
def list_files(shard: str, root: str) -> list[str]:
    """List the files of one shard; what others have installed there is no part of it."""
    top = directory(root)
    files = top.glob("*.py") if shard == MODULES else (top / shard).rglob("*.py")
    return sorted(f.relative_to(top).as_posix() for f in files if "site-packages" not in f.parts)


@task
def count_file(name: str, root: str) -> Module:
    """Count what one file holds."""
    return count_module(name, (directory(root) / name).read_bytes())


@task
def broken_shard() -> list[Module]:
    """Fail: this shard is planted, so that every machine has a failure to show."""
    raise OSError("planted: this shard cannot be read")


@task(max_retries=2, retry_delay=1, priority=1)  # before the shards, to be seen while they work
def flaky_shard() -> list[Module]:
    """Fail twice, then succeed: planted as well, so that every machine has retries to show."""
    if context.task_run_number <= 2:
        raise ConnectionError(f"planted: try {context.task_run_number} fails, the third will not")
    return []


@task(trigger=triggers.all_finished)
def summarize(shards: list[list[Module | None]]) -> list[dict[str, Any]]:
    """Add up each package, the largest first. What failed comes as something falsy."""
    packages = defaultdict(list)
    for module in (module for shard in shards if shard for module in shard if module):
        package, slash, _ = module.name.partition("/")
        packages[package if slash else MODULES].append(module)
    if not packages:
        raise LookupError("there is no Python file to count")
    rows = [{"package": name, **add_up(modules)} for name, modules in packages.items()]
    return sorted(rows, key=lambda row: (-row["lines"], row["package"]))


def directory(root: str) -> Path:
    """Where `root` is here: a worker's standard library may lie elsewhere than the client's."""
    return Path(root or sysconfig.get_path("stdlib"))


def count_module(name: str, source: bytes) -> Module:
    """Parse one file, and count its definitions."""
    lines = source.count(b"\n")
    try:
        with warnings.catch_warnings(action="ignore"):  # this is a census, not a review
            tree = ast.parse(source, name)
    except (SyntaxError, ValueError, RecursionError) as error:
        return Module(name, lines, error=f"{type(error).__name__}: {error}")
    found = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS)]
    classes = sum(isinstance(node, ast.ClassDef) for node in found)
    documented = sum(ast.get_docstring(node, clean=False) is not None for node in [tree, *found])
    return Module(name, lines, len(found) - classes, classes, documented)


def add_up(modules: list[Module]) -> dict[str, float]:
    """Make the columns of one package."""
    parsed = [module for module in modules if module.error is None]
    functions = sum(module.functions for module in parsed)
    classes = sum(module.classes for module in parsed)
    documented = sum(module.documented for module in parsed)
    return {
        "modules": len(modules),
        "lines": sum(module.lines for module in modules),
        "functions": functions,
        "classes": classes,
        "docstrings": round(documented / max(len(parsed) + functions + classes, 1), 3),
        "unparsed": len(modules) - len(parsed),
    }


with Flow("census") as census:
    root = Parameter("root", default="", help="what to count; empty: the standard library")
    shards = find_shards(root)
    files = flatten(list_files.map(shards, root=unmapped(root)))
    modules = count_file.map(files, root=unmapped(root))
    table = summarize([modules, broken_shard(), flaky_shard()])

# A census that misses a shard is still a census, so the table alone decides how the run ended.
census.set_reference_tasks([table])

if __name__ == "__main__":
    run = census.run()
    print(*run.result(table)[:10], sep="\n")
