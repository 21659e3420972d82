"""The package as it is installed: its names, its cost to import, its bounds, its proportions."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dask_taskrunner

CHECKOUT = Path(__file__).parents[2]
SOURCES = sorted((CHECKOUT / "dask_taskrunner").rglob("*.py"))

#: Names of `api.md` that belong to this version.
PUBLIC = {
    "BoundTask",
    "DaskTaskRunner",
    "Edge",
    "Flow",
    "FlowRun",
    "FunctionTask",
    "Parameter",
    "Task",
    "TaskRun",
    "TaskRunFuture",
    "TaskRunFutures",
    "TaskRunner",
    "as_completed",
    "cache_validators",
    "context",
    "exceptions",
    "exponential",
    "get_client",
    "signals",
    "states",
    "task",
    "testing",
    "triggers",
    "unmapped",
    "wait",
}

#: What draws, parses command lines or tells the time in words is paid for when it is used.
LATE = [
    "IPython", "bokeh", "click", "graphviz", "jinja2", "matplotlib", "numpy", "opentelemetry",
    "pandas", "pendulum", "rich", "statistics",
    "dask_taskrunner.drawing.svg", "dask_taskrunner.insight.readings", "dask_taskrunner.report",
]  # fmt: skip


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_all_names_everything_that_the_package_offers():
    assert set(dask_taskrunner.__all__) >= PUBLIC
    for name in dask_taskrunner.__all__:
        assert hasattr(dask_taskrunner, name)


def test_all_is_sorted_and_without_doubles():
    assert list(dask_taskrunner.__all__) == sorted(set(dask_taskrunner.__all__))


def test_no_module_has_the_name_of_something_that_is_exported_from_it():
    modules = {"cache_validators", "exceptions", "signals", "states", "testing", "triggers"}
    named_like_modules = {path.stem for path in SOURCES} & set(dask_taskrunner.__all__)
    assert named_like_modules <= modules


def test_import_loads_nothing_that_only_some_runs_need():
    baseline = "import distributed"
    loaded = "import sys; print(*sorted(sys.modules))"
    theirs = run_python(f"{baseline}; {loaded}").split()
    ours = run_python(f"{baseline}; import dask_taskrunner; {loaded}").split()
    assert [name for name in LATE if name in ours and name not in theirs] == []


def test_mindeps_are_the_lower_bounds():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    constraints = [
        line.replace("==", ">=")
        for line in (CHECKOUT / "tests/mindeps.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert constraints == project["dependencies"]


def lines_of_code(node: ast.AST) -> int:
    """Count the lines of a definition, but for its docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_file_a_class_and_a_function_fit_their_measure(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < 250, node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert lines_of_code(node) <= 40, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_file_says_first_what_lives_in_it(path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))
