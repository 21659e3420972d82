"""Every code block of the README is run, and prints what the README says that it prints."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from distributed import LocalCluster
from pages import check_cells, run_cell

from dask_taskrunner import DaskTaskRunner, Flow, task

CHECKOUT = Path(__file__).parents[1]


class Block(NamedTuple):
    """A fenced block: under which heading it stands, what it says it is, and what it holds."""

    heading: str
    language: str
    text: str


def blocks() -> list[Block]:
    found, heading = [], ""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    for match in re.finditer(r"^(#+ [^\n]*)$|^```(\w*)\n(.*?)^```$", readme, re.M | re.S):
        if match[1]:
            heading = match[1].lstrip("# ")
        else:
            found.append(Block(heading, match[2], match[3]))
    return found


def block(heading: str, language: str) -> str:
    (text,) = [block.text for block in BLOCKS if block[:2] == (heading, language)]
    return text


def normal(text: str) -> list[str]:
    """Return the lines without what differs from run to run: addresses, times, widths, ids."""
    text = re.sub(r"tcp://[\d.]+:\d+", "tcp://HOST", text)
    text = re.sub(r"census-\w{8}", "census-ID", text)
    text = re.sub(r"(\d+ min )?\d+(\.\d+)? m?s\b", "TIME", text)
    text = re.sub(r"^\d\d:\d\d:\d\d ", "CLOCK ", text, flags=re.MULTILINE)
    # Pythons differ in how many files their libraries have.
    text = re.sub(r"\b([\d,]{2,})/\1\b", "N/N", text)
    text = re.sub(r"of \d{3,} task runs", "of N task runs", text)
    text = re.sub(r"  +", "  ", text)
    return [line.rstrip() for line in text.splitlines() if line.strip() not in ("", "...")]


def assert_said(readme: str, output: str) -> None:
    """Look for the README's lines in the output, in their order."""
    lines = iter(normal(output))
    for line in normal(readme):
        assert any(said == line for said in lines), f"{line!r} is not (or not there) in:\n{output}"


def run(directory: Path, *command: str) -> str:
    # The width that the README's block was drawn for; the warnings of others are theirs.
    env = os.environ | {"COLUMNS": "100"}
    done = subprocess.run(
        command, cwd=directory, env=env, capture_output=True, text=True, timeout=100
    )
    # Both streams, as a terminal has them; what is told of the failure comes last in our scripts.
    return done.stdout + done.stderr


BLOCKS = blocks()
NAME = "dask_taskrunner"
OWN, FAILS, CLUSTERS = "A flow of your own", "When something fails", "Clusters"
NOTEBOOK, GO_ON = "In a notebook", "From the middle, from the cache, in an event loop"


def test_no_block_is_left_out():
    assert [block[:2] for block in BLOCKS] == [
        (NAME, "console"),
        (NAME, "text"),
        (OWN, "python"),
        (OWN, "text"),
        (FAILS, "python"),
        (FAILS, "text"),
        (NOTEBOOK, "python"),
        (GO_ON, "python"),
        ("Development", "console"),
    ]


def test_the_readme_is_at_most_200_lines_long():
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.cluster
@pytest.mark.slow
def test_the_two_commands_do_what_the_readme_shows(tmp_path):
    (command,) = block(NAME, "console").splitlines()
    # The first half is what tox did: it built a wheel of the checkout and installed it.
    assert command == "$ python -m pip install . && dask-taskrunner demo"
    assert importlib.metadata.distribution("dask-taskrunner")
    output = run(tmp_path, sys.executable, "-m", "dask_taskrunner", "demo", "--out", "out")
    # What goes to the two streams is mixed on a terminal, and not here.
    for line in normal(block(NAME, "text")):
        assert line in normal(output), output


@pytest.mark.cluster
@pytest.mark.parametrize(("heading", "file"), [(OWN, "sales.py"), (FAILS, "etl.py")])
def test_the_scripts_print_what_the_readme_shows(tmp_path, heading, file):
    (tmp_path / file).write_text(block(heading, "python"))
    output = run(tmp_path, sys.executable, file)
    assert_said(block(heading, "text"), output.replace(f"{tmp_path}{os.sep}", ""))


class StandIn(LocalCluster):
    """Takes the place of a cluster class that needs a Slurm or a Kubernetes to talk to."""

    asked_for: dict[str, object]
    adapted: dict[str, object]

    def __init__(self, **kwargs: object) -> None:
        StandIn.asked_for = kwargs
        super().__init__(n_workers=1, threads_per_worker=1, dashboard_address=":0")

    def adapt(self, **kwargs: object) -> None:
        StandIn.adapted = kwargs


def stand_in(monkeypatch, module: str, name: str) -> None:
    package, _, child = module.partition(".")
    modules = {package: ModuleType(package)}
    if child:
        modules[module] = ModuleType(module)
        setattr(modules[package], child, modules[module])
    setattr(modules[module], name, StandIn)
    for key, value in modules.items():
        monkeypatch.setitem(sys.modules, key, value)


@pytest.fixture
def flow():
    @task
    def double(n):
        return 2 * n

    with Flow("double") as flow:
        double(21)
    return flow


def options(where: str) -> str:
    """Return what the table of clusters has for one of them."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {where} \| `([^`]*)`", readme, re.M)
    return found


def make_runner(options: str) -> DaskTaskRunner:
    return eval(f"DaskTaskRunner({options})", {"DaskTaskRunner": DaskTaskRunner})


def test_no_cluster_is_left_out():
    table = (CHECKOUT / "README.md").read_text(encoding="utf-8").split(f"## {CLUSTERS}")[1]
    rows = re.findall(r"^\| ([\w ]+) \| `", table, re.M)
    assert rows == ["where", "this machine", "what runs already", "Slurm", "Kubernetes"]


@pytest.mark.cluster
def test_the_script_for_a_cluster_of_this_machine_runs(tmp_path):
    script = (
        "from dask_taskrunner import DaskTaskRunner, Flow, task\n"
        "@task\n"
        "def double(n): return 2 * n\n"
        "with Flow('double') as flow: double(21)\n"
        "if __name__ == '__main__':\n"
        f"    with DaskTaskRunner({options('this machine')}) as runner:\n"
        "        run = runner.run(flow)\n"
        "    print(run.result())\n"
    )
    (tmp_path / "script.py").write_text(script)
    assert run(tmp_path, sys.executable, "script.py") == "42\n"


@pytest.mark.cluster
def test_a_cluster_that_runs_already_is_used_by_its_address(cluster, flow):
    text = options("what runs already").replace("tcp://scheduler:8786", cluster.scheduler_address)
    with make_runner(text) as runner:
        assert runner.address == cluster.scheduler_address
        assert runner.run(flow).result() == 42


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("where", "module", "class_name", "option"),
    [
        ("Slurm", "dask_jobqueue", "SLURMCluster", "walltime"),
        ("Kubernetes", "dask_kubernetes.operator", "KubeCluster", "image"),
    ],
)
def test_a_cluster_class_is_named_configured_and_adapted(
    monkeypatch, flow, where, module, class_name, option
):
    stand_in(monkeypatch, module, class_name)
    with make_runner(options(where)) as runner:
        assert runner.run(flow).result() == 42
    assert option in StandIn.asked_for
    assert set(StandIn.adapted) == {"minimum", "maximum"}


@pytest.mark.cluster
def test_the_cells_of_a_notebook_show_what_the_readme_shows(client, capsys):
    namespace = {"__name__": "__main__"}
    # The default client, as in a notebook that has one: what `DaskTaskRunner()` uses.
    with client.as_current():
        check_cells(block(NOTEBOOK, "python"), namespace)
        with namespace["runner"] as runner:
            assert runner.client is client
            assert str(namespace["many"][1].exception()) == "negative price"
            assert runner.last_run is namespace["run"]
            run_cell(block(GO_ON, "python"), namespace)
            assert_it_went_on(namespace, runner)
    said = sorted(capsys.readouterr().out.splitlines())
    assert said == ["clean[0] 2", "clean[1] 4"]


def assert_it_went_on(cells, runner) -> None:
    again = cells["again"]
    assert (again["clean"].attempts, again["sum"].attempts[0].outcome) == ([], "success")
    assert again.result() == cells["run"].result() == 50.0
    assert runner.run(cells["cached"])["clean"].attempts[0].outcome == "success"
    assert runner.run(cells["cached"])["clean"].attempts == []
    runner.clear_cache()
    assert len(runner.run(cells["cached"])["clean"].attempts) == 1


def test_what_a_developer_runs_is_what_ci_runs():
    (command,) = block("Development", "console").splitlines()
    assert command == "$ python -m pip install tox && tox"
    ci = (CHECKOUT / ".ci" / "run").read_text()
    assert re.search(r"^python -m pip install (--quiet )?tox && tox$", ci, re.M)
