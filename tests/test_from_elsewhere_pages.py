"""What the pages for those who come from elsewhere say to write here does what its row says."""

from __future__ import annotations

import ast
import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from pages import run_cell

import dask_taskrunner
from dask_taskrunner import DaskTaskRunner, FlowRun, Task, context, signals, testing

DOCS = Path(__file__).parents[1] / "docs"
#: A page, and how many rows it has at least.
PAGES = {"from-prefect-1": 15, "from-prefect-3": 12, "from-delayed": 12}


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Return the old and the new code of a page's first table, by what stands before them."""
    _, _, table = text_of(page).partition("\n| | ")
    found = {}
    for line in table.partition("\n\n")[0].splitlines()[2:]:
        what, old, new = line.strip("| ").split(" | ")
        found[what] = ("\n".join(re.findall(r"`([^`]+)`", old)), code_of(new))
    return found


def code_of(cell: str) -> str:
    return "\n".join(re.findall(r"`([^`]+)`", cell))


def succeeded(run: FlowRun) -> bool:
    return run.state.is_successful()


def makes(**options: Any) -> Any:
    def check(made: Any) -> bool:
        assert isinstance(made, Task)
        return all(getattr(made, name) == value for name, value in options.items())

    return check


#: What comes of each row's last line: a value, or a function that tells whether it is right. Where
#: that is no expression, it is what a name of the row has become.
PREFECT_1 = {
    "run it": lambda value: value.is_successful(),
    "on a cluster": succeeded,
    "on one that is started for it": succeeded,
    "a result": "10 to 30",
    "one of many": 20,
    "which of them failed, and why": [],
    "stop where it failed": succeeded,
    "again, from where it failed": lambda run: run.notes[0].text.startswith("reuses"),
    "triggers": lambda made: made.trigger is dask_taskrunner.triggers.all_finished,
    "what a task gets of one that failed": lambda notify: notify(3) is False,
    "signals": signals.SKIP,
    "which try this is": 2,
    "which child this is": 1,
    "to log": None,
    "to print": makes(log_prints=True),
    "a loop's value so far": 0,
    "a word for all tasks": succeeded,
    "take an earlier result": makes(cache_for=timedelta(hours=1)),
    "when it fails": lambda flow: len(flow.state_handlers) == 1,
    "leave some out": [5],
    "only where there is a GPU": makes(resources={"GPU": 1}),
    "wait for a person": "deployed",
    "a flow in a flow": "40 to 30",
    "see the states in the graph": lambda picture: "Success" in picture.text,
    "in a test": lambda state: state.result == 3,
    "a flow in a test": lambda run: run.failures[0].slug == "clean[1]",
}
PREFECT_3 = {
    "a runner": 3,
    "one that starts a cluster": None,
    "one call": 3,
    "behind another": 3,
    "for each of many": [5, 10],
    "a list of futures": 3,
    "only after something else": 3,
    "in spite of a failure": "MissingResult('clean-2', Failed(\"ValueError: negative price\"))",
    "retries": makes(max_retries=3, retry_delay=(1, 10, 60)),
    "that grow": lambda made: [made.retry_delay(n, None) for n in (1, 2, 3)] == [10, 20, 40],
    "that are spread": makes(retry_jitter=0.5),
    "after some exceptions": makes(retry_on=OSError),
    "other options for one call": 3,
    "a time limit": makes(timeout=60),
    "take an earlier result": makes(cache_for=timedelta(hours=1)),
    "a name for people": makes(task_run_name="clean {price}"),
    "of the run": "etl-2",
    "to log": None,
    "to print": makes(log_prints=True),
    "choose a state": signals.FAIL,
    "skip": signals.SKIP,
    "a state in place of an exception": "ValueError: negative price",
    "an exception as a value": lambda error: type(error) is ValueError,
    "as they end": [1, 2],
    "when something happens": lambda made: len(made.state_handlers) == 1,
    "only where there is a GPU": makes(resources={"GPU": 1}),
    "sooner than others": 3,
    "the cluster, in a task": 3,
    "a flow": 3,
    "a flow in a flow": 4,
    "how many there are, a task tells": [1, 2],
    "a look at a result, to go on": "3",
    "wait for a person": "3",
    "start again what failed": "reuses 3 task runs, runs 0",
}
DELAYED = {
    "build, and compute": 3,
    "compute several": (1, 2),
    "keep the results on the cluster": 1,
    "do not wait": 3,
    "the same for many, whose number is known now": lambda table: (
        [row["slug"] for row in table] == ["load", "load-2", "load-3"]
    ),
    "the same for many, whose number a task tells": [0, 1, 2],
    "all of them into one": 3,
    "a function of somebody else's": 2,
    "two results of one": 1,
    "operators, items": 3,
    "attributes, methods": 2,
    "a name": 1,
    "only once what has no value is done": 2,
    "depending on a result": 1,
    "tasks that a task makes": 4,
    "try again": 1,
    "only where there is a GPU": makes(resources={"GPU": 1}),
    "sooner than others": makes(priority=10),
    "in threads of this process": 5,
    "see the graph": lambda picture: picture.text.startswith("flow 'inner'"),
    "how far it is": lambda state: state.is_successful(),
    "something fails": ["ValueError: no -1", 5],
    "something lazy that you have": 5,
    "without a graph": 3,
}
OUTCOMES = {"from-prefect-1": PREFECT_1, "from-prefect-3": PREFECT_3, "from-delayed": DELAYED}
ALL_ROWS = [(page, what) for page, outcomes in OUTCOMES.items() for what in outcomes]


@pytest.mark.parametrize("page", PAGES)
def test_each_row_has_an_outcome_here(page):
    assert list(rows(page)) == list(OUTCOMES[page])
    assert len(rows(page)) >= PAGES[page]


def is_python(code: str) -> bool:
    # A decorator stands before a function, which is left out.
    for rest in ("", "\ndef f(): ..."):
        try:
            ast.parse(code + rest)
        except SyntaxError:
            continue
        return True
    return False


@pytest.mark.parametrize(("page", "what"), ALL_ROWS)
def test_the_old_line_is_python_as_well(page, what):
    old, _ = rows(page)[what]
    assert is_python(old) or old == "prefect flow-run retry ID", old


def told(result: object) -> None:
    """Stands for what a reader does when something happens."""


@pytest.fixture
def names(client):
    """What the pages say that their names mean."""
    size = {"n_workers": 1, "processes": False, "dashboard_address": ":0"}
    with client.as_current(), DaskTaskRunner(client=client) as runner:
        yield {
            **{name: getattr(dask_taskrunner, name) for name in dask_taskrunner.__all__},
            **{name: getattr(testing, name) for name in testing.__all__},
            "__name__": "__main__",
            "client": client,
            "runner": runner,
            "address": client.scheduler.address,
            "Cluster": LocalCluster,
            "size": size,
            "limits": {"minimum": 1, "maximum": 1},
            "threads": size,
            "HOUR": timedelta(hours=1),
            "tell": told,
            "notify": repr,
            "deploy": deploy,
            "is_large": is_large,
        }


def deploy() -> str:
    return "deployed"


def is_large(price: float) -> bool:
    return price > 2


def prepare(page: str, names: dict[str, Any]) -> None:
    """Define what the page defines, and what it says is there already."""
    (given,) = re.findall(r"^```python\n(.*?)^```$", text_of(page), re.M | re.S)
    exec(given, names)
    if page == "from-prefect-1":
        names["run"] = names["runner"].run(names["flow"])
    elif page == "from-prefect-3":
        names["f"] = names["runner"].submit(names["clean"], 3)
        names["bad"] = names["runner"].submit(names["clean"], -3)
    else:
        names["flow"] = names["inner"]


def value_of(code: str, names: dict[str, Any]) -> Any:
    """Return what a row's last line is, or the last name that it defines."""
    try:
        value = run_cell(code, names)
    except signals.Signal as signal:
        return type(signal)
    last = ast.parse(code).body[-1]
    if value is None and not isinstance(last, ast.Expr):
        value = names["".join(re.findall(r"(\w+) = |def (\w+)\(", code)[-1])]
    return value


@pytest.mark.cluster
@pytest.mark.parametrize(("page", "what"), ALL_ROWS)
def test_what_is_written_here_does_what_the_row_says(names, page, what):
    _, new = rows(page)[what]
    prepare(page, names)
    with context(task_run_number=2, map_index=1):
        value = value_of(textwrap.dedent(new), names)
    expected = OUTCOMES[page][what]
    if callable(expected) and not isinstance(expected, type):
        assert expected(value)
    else:
        assert value == expected
