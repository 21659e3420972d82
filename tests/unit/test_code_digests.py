"""When a task is still the same code."""

from __future__ import annotations

import functools
import importlib
import sys
from datetime import timedelta
from typing import Any

from dask_taskrunner import Task, task
from dask_taskrunner.code_digests import digest_of


def test_an_importable_function_that_is_edited_and_reloaded_has_another_digest(
    tmp_path, monkeypatch
):
    """Its pickle is its name, which stays the same."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "edited_functions.py"

    def digest(source):
        path.write_text(source)
        importlib.invalidate_caches()
        module = sys.modules.get("edited_functions")
        module = importlib.reload(module) if module else importlib.import_module("edited_functions")
        return digest_of(task(module.f, cache_for=timedelta(hours=1)))

    try:
        first = digest("def f(x, y=1):\n    return x + 1\n")
        assert digest("# moved\n\ndef f(x, y=1):\n    return x + 1\n") == first
        others = [
            "def f(x, y=1):\n    return x + 2\n",
            "def f(x, y=2):\n    return x + 1\n",
            "def f(x, y=1):\n    return x - 1\n",
            "def f(x, y=1):\n    return (lambda: x + 3)()\n",
            "def f(x, y=1):\n    return x in {1, 2}\n",
            # A default that does not pickle.
            "import threading\n\ndef f(x, y=threading.Lock()):\n    return x + 1\n",
            "import functools\n\n@functools.cache\ndef f(x, y=1):\n    return x + 3\n",
        ]
        assert len({first, *map(digest, others)}) == len(others) + 1
    finally:
        sys.modules.pop("edited_functions", None)


def test_whatever_is_callable_has_a_digest():
    class Call:
        def __call__(self):
            return 1

    class Other:
        def __call__(self):
            return 2

    def add(x, y):
        return x + y

    tasks = [task(len), task(functools.partial(add, 1)), task(Call(), "a"), task(Other(), "a")]
    assert len({digest_of(each) for each in tasks}) == 4


def defined(source: str, filename: str = "<cell 1>") -> Any:
    """Return the function that a cell of a notebook defines."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), namespace)
    return task(namespace["f"])


def test_a_cell_that_is_executed_again_defines_the_same_task():
    source = "def f(x):\n    y = {1, 2}\n    return [x + z for z in y]\n"
    one = defined(source)
    assert digest_of(one) == digest_of(one)
    assert digest_of(one) == digest_of(defined(source, "<cell 7>"))
    assert digest_of(one) == digest_of(defined(f"# moved\n\n{source}", "<cell 8>"))


def test_an_edited_cell_defines_another_task():
    sources = [
        "def f(x):\n    return x + 1\n",
        "def f(x):\n    return x + 2\n",
        "def f(x):\n    return x - 1\n",
        "def f(x, y=1):\n    return x + 1\n",
        "def f(x, y=2):\n    return x + 1\n",
        "def f(*x):\n    return x + 1\n",
        "n = 1\n\ndef f(x):\n    return x + n\n",
        "n = 2\n\ndef f(x):\n    return x + n\n",
        "def g(x):\n    return x + 1\n\ndef f(x):\n    return g(x)\n",
        "def g(x):\n    return x + 2\n\ndef f(x):\n    return g(x)\n",
    ]
    assert len({digest_of(defined(source)) for source in sources}) == len(sources)


def test_options_are_part_of_a_task():
    plain = defined("def f(x):\n    return x\n")
    assert digest_of(plain) != digest_of(plain.with_options(max_retries=1))


def test_the_body_of_a_class_is_its_run():
    class Load(Task):
        def run(self, x):
            return x + 1

    before = digest_of(Load())
    assert digest_of(Load()) == before
    Load.run = lambda self, x: x + 2
    assert digest_of(Load()) != before
