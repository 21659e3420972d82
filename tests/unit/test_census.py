"""The example that ships: what it counts, and how it cuts its shards. No cluster is needed."""

from __future__ import annotations

import pytest

from dask_taskrunner import context, triggers
from dask_taskrunner.examples import census as example
from dask_taskrunner.examples.census import Module

SOURCE = b'''"""A module."""
import os

class Shape:
    """A class."""

    def area(self):
        """A method."""

    async def draw(self):
        def inner(): ...
'''


@pytest.fixture
def tree(tmp_path):
    """Thirty files of growing size, one of a foreign package, and one that is no source."""
    for number in range(30):
        package = tmp_path / f"package{number % 3}"
        package.mkdir(exist_ok=True)
        (package / f"module{number}.py").write_bytes(b"#" * 1000 * (number + 1))
    foreign = tmp_path / "site-packages" / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_bytes(b"")
    (tmp_path / "package0" / "data.txt").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        (SOURCE, (11, 3, 1, 3)),
        (b"", (0, 0, 0, 0)),
        (b"f = lambda: 0\n", (1, 0, 0, 0)),
        (b"# -*- coding: latin-1 -*-\n'''\xe9'''\n", (2, 0, 0, 1)),
    ],
    ids=["nested", "empty", "lambda", "latin-1"],
)
def test_a_module_is_counted_with_all_that_is_nested_in_it(source, counts):
    assert example.count_module("m.py", source) == Module("m.py", *counts)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"print 'x'\n", "SyntaxError: Missing parentheses"),
        (b"\xff\xfe\n", "SyntaxError: "),
        (b"x = '\xe9'\n", "SyntaxError: "),
        (b"\0\n", "Error: source code"),
        (b"(" * 5000 + b"\n", "Error: "),
    ],
    ids=["old Python", "wrong mark", "wrong encoding", "null byte", "too deep"],
)
def test_a_file_that_does_not_parse_is_in_the_table_with_the_reason(source, error):
    module = example.count_module("old/m.py", source)
    assert error in module.error
    assert module == Module("old/m.py", 1, error=module.error)


def test_what_python_thinks_of_somebody_elses_style_is_not_heard():
    assert example.count_module("m.py", b"x = '\\d'\n").error is None


def test_every_file_is_in_exactly_one_shard(tree):
    (tree / "alone.py").write_bytes(b"")
    shards = example.find_shards.run(str(tree))
    assert shards == ["(modules)", "package0", "package1", "package2", "site-packages"]
    files = [example.list_files.run(shard, str(tree)) for shard in shards]
    assert files[0] == ["alone.py"]
    assert files[-1] == []
    assert sorted(name for names in files[1:] for name in names) == sorted(
        f"package{number % 3}/module{number}.py" for number in range(30)
    )


def test_the_standard_library_has_more_than_a_thousand_files():
    shards = example.find_shards.run("")
    assert sum(len(example.list_files.run(shard, "")) for shard in shards) > 1000


def test_a_file_is_counted_by_its_name(tree):
    module = example.count_file.run("package1/module1.py", str(tree))
    assert module == Module("package1/module1.py", 0)


def test_the_table_has_a_row_per_package_the_largest_first():
    shards = [
        [Module("json/decoder.py", 30, 2, 1, 3), Module("ast.py", 10, 1, 0, 1)],
        [Module("json/old.py", 5, error="SyntaxError: old"), Module("abc.py", 7)],
        [Module("zip/a.py", 17), Module("email/a.py", 17)],
    ]
    rows = example.summarize.run(shards)
    assert [row["package"] for row in rows] == ["json", "(modules)", "email", "zip"]
    assert rows[0] == {
        "package": "json",
        "modules": 2,
        "lines": 35,
        "functions": 2,
        "classes": 1,
        "docstrings": 0.75,
        "unparsed": 1,
    }


def test_a_shard_that_failed_is_missing_from_the_table_and_no_more():
    failed = example.summarize.run([[Module("ast.py", 10), None], None, []])
    assert [row["modules"] for row in failed] == [1]


def test_a_census_of_nothing_is_a_failure():
    with pytest.raises(LookupError, match="no Python file"):
        example.summarize.run([None, [], []])


def test_a_package_of_which_nothing_parsed_has_no_docstrings():
    row = example.add_up([Module("old/m.py", 5, error="SyntaxError: old")])
    assert (row["docstrings"], row["unparsed"]) == (0.0, 1)


def test_the_broken_shard_fails_and_says_that_it_was_planted():
    with pytest.raises(OSError, match="planted"):
        example.broken_shard.run()


def test_the_flaky_shard_succeeds_on_its_third_try():
    for number in (1, 2):
        with (
            context(task_run_number=number),
            pytest.raises(ConnectionError, match=f"{number} fails"),
        ):
            example.flaky_shard.run()
    with context(task_run_number=3):
        assert example.flaky_shard.run() == []
    assert example.flaky_shard.max_retries == 2


def test_the_flow_maps_over_shards_and_files_and_has_two_planted_shards_and_one_judge():
    flow = example.census
    mapped = [task.slug for task in flow.tasks if getattr(task, "is_mapped", False)]
    assert mapped == ["list_files", "count_file"]
    assert [task.slug for task in flow.reference_tasks()] == ["summarize"]
    assert example.summarize.trigger is triggers.all_finished
