"""The command line without a cluster: what it understands, and the codes it exits with."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from dask_taskrunner import cli, cli_targets, cli_watching, exceptions, states
from dask_taskrunner.examples import census, demo_words

FLOWS = """
from dask_taskrunner import Flow, Parameter, task

@task
def work(n): ...

with Flow("one") as one:
    work(Parameter("n", default=1))

with Flow("two") as two:
    work(Parameter("day"))
"""


class FakeRunner:
    """Stands for `DaskTaskRunner`: remembers what it was asked, and answers with `outcome`."""

    made: ClassVar[list[FakeRunner]]
    outcome: ClassVar[object] = states.Success()

    def __init__(self, *, ship=(), **options):
        self.options = options
        self.sent = [module.__name__ for module in ship]
        self.runs = []
        FakeRunner.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None

    def run(self, flow, *, parameters=None, progress=None):
        self.runs.append((flow.name, parameters, progress))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return SimpleNamespace(state=self.outcome)


@pytest.fixture
def runners(monkeypatch):
    monkeypatch.setattr(cli, "DaskTaskRunner", FakeRunner)
    monkeypatch.setattr(FakeRunner, "made", [], raising=False)
    return FakeRunner


@pytest.fixture
def etl(tmp_path, monkeypatch):
    """A file with two flows, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "etl.py").write_text(FLOWS)
    return tmp_path / "etl.py"


def test_a_flow_in_a_file_is_run_with_its_parameters(runners, etl):
    assert cli.main(["run", "etl.py:one", "-p", "n=5"]) == cli.SUCCESS
    assert runners.made[0].options == {"address": None}
    assert runners.made[0].runs == [("one", {"n": 5}, "rich")]


def test_a_flow_in_a_module_is_run_too(runners, etl):
    assert cli.main(["run", "etl:two", "--parameter", "day=2024-02-29"]) == cli.SUCCESS
    assert runners.made[0].runs == [("two", {"day": "2024-02-29"}, "rich")]


def test_a_value_may_hold_the_sign_that_ends_a_name(runners, etl):
    cli.main(["run", "etl.py:two", "-p", "day=a=b"])
    assert runners.made[0].runs[0][1] == {"day": "a=b"}


def test_the_only_flow_of_a_file_need_not_be_named(runners, tmp_path, etl):
    (tmp_path / "single.py").write_text("from dask_taskrunner import Flow\nflow = Flow('single')\n")
    assert cli.main(["run", "single.py"]) == cli.SUCCESS
    assert runners.made[0].runs[0][0] == "single"


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (["--address", "tcp://a:1"], {"address": "tcp://a:1"}),
        (["--workers", "3"], {"cluster_kwargs": {"n_workers": 3, "threads_per_worker": 1}}),
    ],
)
def test_the_cluster_is_the_one_that_was_asked_for(runners, etl, options, given):
    assert cli.main(["run", "etl.py:one", *options]) == cli.SUCCESS
    assert runners.made[0].options == given


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run"], "Missing argument"),
        (["walk"], "No such command"),
        (["run", "gone.py:one"], "there is no file gone.py"),
        (["run", "gone.etl:one"], "there is no module 'gone'"),
        (["run", "etl.py:three"], "etl.py has no flow 'three' at its top level: it has one, two"),
        (["run", "etl.py"], "no single flow at its top level: it has one, two"),
        (["run", "string:flow"], "string has no flow 'flow' at its top level: it has none"),
        (["run", "etl.py:one", "-p", "n"], "-p takes NAME=VALUE, not 'n'"),
        (["run", "etl.py:one", "-p", "m=1"], "flow 'one' has no parameter 'm': it has n"),
        (["run", "etl.py:one", "-p", "n=many"], "parameter 'n' takes int"),
        (["run", "etl.py:one", "--workers", "0"], "--workers"),
        (["run", "etl.py:one", "--workers", "2", "--address", "tcp://a:1"], "leave it out with"),
        (["demo", "--save", "etl.py"], "etl.py is there already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_usage_is_told_and_nothing_is_started(runners, etl, capsys, args, says):
    assert cli.main(args) == cli.USAGE
    assert says in capsys.readouterr().err
    assert runners.made == []


def test_a_module_that_the_flows_module_lacks_is_not_the_users_typing_error(etl, tmp_path, capsys):
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere\n")
    assert cli.main(["run", "lacking:flow"]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.startswith("Error: lacking cannot be loaded:")
    assert "No module named 'not_installed_anywhere'" in err
    assert "there is no module" not in err


@pytest.mark.parametrize("command", ["run", "graph", "check"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("x = 1\ny = x / 0\n", 'loaded.py", line 2, in <module>\n    y = x / 0'),
        ("import sys\nsys.exit(3)\n", "loaded.py, line 2 ended Python when it was loaded"),
        (
            "from dask_taskrunner import Flow\nflow = Flow('etl/load')\n",
            "loaded.py, line 2: Flow: name must be",
        ),
    ],
    ids=["syntax", "error", "exit", "flow"],
)
def test_what_goes_wrong_in_a_users_file_is_told_as_theirs(
    runners, etl, capsys, command, text, says
):
    (etl.parent / "loaded.py").write_text(text)
    assert cli.main([command, "loaded.py"]) == cli.USAGE
    err = capsys.readouterr().err
    assert says in err
    # None of what lies between: neither ours nor Python's.
    assert "cli_targets.py" not in err
    assert "importlib" not in err
    assert "flow_file_loaded" not in sys.modules
    assert runners.made == []


def test_a_flow_run_that_did_not_succeed_is_a_failure(runners, etl, monkeypatch):
    for state in (states.Failed(), states.Cancelled(), states.Paused()):
        monkeypatch.setattr(FakeRunner, "outcome", state)
        assert cli.main(["run", "etl.py:one"]) == cli.FAILED
        assert cli.main(["demo"]) == cli.FAILED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.ClusterLost("the cluster was lost at noon"), cli.CLUSTER),
        (exceptions.ConnectFailed("nobody answers at tcp://a:1"), cli.CLUSTER),
        (exceptions.EmptyFlow("flow 'one' has no tasks"), cli.USAGE),
        (exceptions.ParameterError("parameter 'day' has no value"), cli.USAGE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_our_own_errors_are_told_in_one_line_and_by_their_code(
    runners, etl, monkeypatch, capsys, error, code
):
    monkeypatch.setattr(FakeRunner, "outcome", error)
    assert cli.main(["run", "etl.py:one"]) == code
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_an_interrupt_tells_how_far_the_run_was(runners, etl, monkeypatch, capsys):
    interrupt = KeyboardInterrupt()
    monkeypatch.setattr(FakeRunner, "outcome", interrupt)
    assert cli.main(["run", "etl.py:one"]) == cli.INTERRUPTED
    interrupt.run = "<FlowRun one 'x' Cancelled>"
    assert cli.main(["run", "etl.py:one"]) == cli.INTERRUPTED
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == ["interrupted", "interrupted: \"<FlowRun one 'x' Cancelled>\""]


def test_what_a_file_defines_is_sent_by_value(etl):
    import cloudpickle

    module = cli_targets.load_file(etl)
    assert module.__name__ in cloudpickle.list_registry_pickle_by_value()


def test_the_demos_flow_can_be_copied_and_is_a_flow_of_ones_own(runners, etl, tmp_path, capsys):
    assert cli.main(["demo", "--save", "mine.py"]) == cli.SUCCESS
    assert capsys.readouterr().out == (
        "Saved mine.py. Run it: dask-taskrunner run mine.py:census -p root=.\n"
    )
    assert cli.main(["run", "mine.py:census", "-p", "root=src"]) == cli.SUCCESS
    assert runners.made[0].runs == [("census", {"root": "src"}, "rich")]


def test_the_versions_are_those_that_are_installed(capsys):
    assert cli.main(["version"]) == cli.SUCCESS
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "dask-taskrunner",
        "dask",
        "distributed",
        "Python",
    ]


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["run", "--help"], ["demo", "-h"]])
def test_help_is_help_and_no_error(args, capsys):
    assert cli.main(args) == cli.SUCCESS
    assert "\b" not in capsys.readouterr().out


DESCRIBED = """
from datetime import date
from dask_taskrunner import Flow, Parameter, task

@task
def work(*args): ...

with Flow("described") as described:
    work(
        Parameter("url", help="Where the prices come from."),
        Parameter("n", default=5),
        Parameter("day", type=date, required=False, help="Which day."),
    )

with Flow("bare") as bare:
    work()
"""


@pytest.mark.parametrize("args", [["x.py:described", "--help"], ["-h", "x.py:described"]])
def test_the_help_tells_of_a_flows_parameters(runners, etl, tmp_path, capsys, args):
    (tmp_path / "x.py").write_text(DESCRIBED)
    assert cli.main(["run", *args, "-p", "n=1"]) == cli.SUCCESS
    told = capsys.readouterr().out.partition("Parameters of flow 'described':\n")[2]
    assert [line.split(maxsplit=2) for line in told.splitlines()] == [
        ["url", "str", "Where the prices come from. [required]"],
        ["n", "int", "[default: 5]"],
        ["day", "date", "Which day. [default: None]"],
    ]
    assert not runners.made


def test_the_help_tells_that_a_flow_has_no_parameters(etl, tmp_path, capsys):
    (tmp_path / "x.py").write_text(DESCRIBED)
    assert cli.main(["run", "x.py:bare", "--help"]) == cli.SUCCESS
    assert "Parameters of flow 'bare':\n  It has none." in capsys.readouterr().out


def test_the_help_of_a_flow_that_is_not_there_is_an_error(etl, capsys):
    assert cli.main(["run", "no.py", "--help"]) == cli.USAGE
    assert "there is no file no.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "Error: flow 'described' was given no value for its parameter 'url'"),
        (["-p", "url=x", "-p", "n=five"], "parameter 'n' takes int; 'five' cannot be read as one"),
        (["-p", "url=x", "-p", "day=today"], "parameter 'day' takes date; 'today' cannot be read"),
        (["-p", "ulr=x"], "flow 'described' has no parameter 'ulr': it has url, n, day"),
    ],
)
def test_wrong_values_are_told_before_a_cluster_is_started(
    runners, etl, tmp_path, capsys, args, text
):
    (tmp_path / "x.py").write_text(DESCRIBED)
    assert cli.main(["run", "x.py:described", *args]) == cli.USAGE
    assert text in capsys.readouterr().err
    assert not runners.made


def test_the_help_lists_every_exit_code(capsys):
    cli.main(["--help"])
    out = capsys.readouterr().out
    for code in (cli.SUCCESS, cli.FAILED, cli.USAGE, cli.CLUSTER, cli.INTERRUPTED):
        assert f"{code:>7}  " in out


# --- what the demo says ---------------------------------------------------------------------------

ROWS = [
    {"package": "test", "modules": 812, "lines": 401234, "docstrings": 0.123, "unparsed": 7},
    {"package": "json", "modules": 6, "lines": 1300, "docstrings": 0.8, "unparsed": 0},
]


def test_the_table_is_aligned_and_its_numbers_are_for_people():
    assert demo_words.top_ten(ROWS).splitlines() == [
        "package  modules    lines  docstrings  unparsed",
        "test         812  401,234         12%         7",
        "json           6    1,300         80%         0",
    ]


def test_the_table_has_ten_rows_and_the_file_all_of_them(tmp_path):
    rows = ROWS * 8
    assert len(demo_words.top_ten(rows).splitlines()) == 11
    path = demo_words.write_csv(rows, tmp_path / "new" / "directory")
    lines = path.read_text().splitlines()
    assert lines[:2] == ["package,modules,lines,docstrings,unparsed", "test,812,401234,0.123,7"]
    assert len(lines) == 17


def test_the_last_words_tell_the_cost_of_the_retries():
    times = [(0.0, 0.25), (1.25, 1.5), (3.0, 9.0)]
    flaky = SimpleNamespace(attempts=[SimpleNamespace(started=a, ended=b) for a, b in times])
    broken = SimpleNamespace(slug="broken_shard", state=states.Failed(message="OSError: planted"))

    class Run(dict):
        failures = (broken,)

    text = demo_words.closing_words(Run(flaky_shard=flaky))
    assert "What failed: broken_shard (OSError: planted)." in text
    assert "ran 3 times, and did 500 ms of work in vain.\nIt waited 2.5 s in all" in text
    assert len(max(text.splitlines(), key=len)) <= 100


def test_the_introduction_says_what_is_planted():
    text = demo_words.introduction()
    assert "broken_shard fails" in text
    assert census.flaky_shard.name in text


# --- looking at a flow before it runs ------------------------------------------------------------

WRONG = """
import threading
from dask_taskrunner import Flow, Parameter, task

lock = threading.Lock()

@task
def work(n, m=None): ...

@task
def hold(n):
    return lock

with Flow("lacking") as lacking:
    work(Parameter("n"), Parameter("m"))

with Flow("locked") as locked:
    work(lock)

with Flow("closure") as closure:
    hold(Parameter("n"))
"""


@pytest.fixture
def wrong(etl):
    (etl.parent / "wrong.py").write_text(WRONG)


def test_check_finds_nothing_wrong_where_all_is_well(etl, capsys):
    assert cli.main(["check", "etl.py:one"]) == cli.SUCCESS
    assert capsys.readouterr() == (
        "<Flow 'one': 1 task, 1 parameter>: nothing is wrong with it\n",
        "",
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["wrong.py:lacking"], ["parameter 'n' has no value", "parameter 'm' has no value"]),
        (["wrong.py:lacking", "-p", "n=1"], ["parameter 'm' has no value and no default"]),
        (["wrong.py:locked"], ["work", "cannot pickle '_thread.lock' object"]),
        (["wrong.py:closure"], ["parameter 'n' has no value", "hold", "_thread.lock"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check_finds_what_a_run_would_say_before_it_begins(runners, wrong, capsys, args, says):
    assert cli.main(["check", *args]) == cli.USAGE
    err = capsys.readouterr().err
    assert all(text in err for text in says), err
    assert runners.made == []


def test_check_finds_a_circle(etl, capsys):
    (etl.parent / "circle.py").write_text(
        "from dask_taskrunner import Flow, task\n"
        "@task\ndef work(n): ...\n"
        "with Flow('circle') as flow:\n"
        "    a = work(1)\n    b = work(a)\n    flow.add_edge(b, a)\n"
    )
    assert cli.main(["check", "circle.py"]) == cli.USAGE
    assert "work" in capsys.readouterr().err


def test_a_flow_is_drawn_as_text_or_into_a_file(etl, capsys):
    assert cli.main(["graph", "etl.py:one"]) == cli.SUCCESS
    assert capsys.readouterr().out.splitlines()[0] == "flow 'one'"
    for ending, begin in (
        ("svg", "<svg"),
        ("mmd", "flowchart LR"),
        ("dot", "digraph"),
        ("txt", "flow"),
    ):
        assert cli.main(["graph", "etl.py:one", "-o", f"one.{ending}"]) == cli.SUCCESS
        assert capsys.readouterr().out == f"Saved one.{ending}\n"
        assert (etl.parent / f"one.{ending}").read_text().startswith(begin)


@pytest.mark.parametrize("style", ["rich", "plain", "json", "none"])
def test_a_run_is_shown_as_was_asked(runners, etl, style):
    assert cli.main(["run", "etl.py:one", "--progress", style]) == cli.SUCCESS
    assert runners.made[0].runs[0][2] == style


def test_another_style_is_refused(runners, etl, capsys):
    assert cli.main(["run", "etl.py:one", "--progress", "loud"]) == cli.USAGE
    assert "'rich', 'plain', 'json', 'none'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["graph"], ["demo"], ["version"]])
def test_every_command_says_how_it_is_used(command, capsys):
    assert cli.main([*command, "--help"]) == cli.SUCCESS
    assert capsys.readouterr().out.startswith("Usage: dask-taskrunner")


def test_the_shell_can_complete_commands(monkeypatch, capsys):
    for name, value in (
        ("_DASK_TASKRUNNER_COMPLETE", "bash_complete"), ("COMP_WORDS", "dask-taskrunner ch"),
        ("COMP_CWORD", "1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.commands.main([], prog_name="dask-taskrunner")
    assert capsys.readouterr().out == "plain,check\n"


# --- again and again -----------------------------------------------------------------------------


def test_a_report_is_written(etl, monkeypatch, capsys):
    written = []
    state = SimpleNamespace(is_successful=lambda: True)
    done = SimpleNamespace(state=state, report=written.append)
    monkeypatch.setattr(FakeRunner, "made", [], raising=False)
    monkeypatch.setattr(cli, "DaskTaskRunner", FakeRunner)
    monkeypatch.setattr(FakeRunner, "run", lambda self, flow, **options: done)
    assert cli.main(["run", "etl.py:one", "--report", "out.html"]) == cli.SUCCESS
    assert [str(path) for path in written] == ["out.html"]
    assert capsys.readouterr().err == "Saved out.html\n"


class Saves:
    """Stands for the time that passes: what is saved meanwhile, one change at each look."""

    def __init__(self, *changes):
        self.changes = list(changes)

    def __call__(self, seconds):
        if not self.changes:
            raise KeyboardInterrupt
        path, text = self.changes.pop(0)
        path.write_text(text)


def watched(monkeypatch, *changes):
    monkeypatch.setattr(cli_watching, "sleep", Saves(*changes))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return cli.main(["run", "etl.py:one", "--watch", "-p", "n=1"])


def test_a_flow_runs_again_whenever_its_file_is_saved(runners, etl, monkeypatch, capsys):
    changed = FLOWS.replace('Flow("one")', 'Flow("uno")')
    assert watched(monkeypatch, (etl, changed)) == cli.INTERRUPTED
    # On one cluster.
    (runner,) = runners.made
    assert [name for name, *_ in runner.runs] == ["one", "uno"]
    assert f"waits for a change in {etl.parent}" in capsys.readouterr().err


def test_a_module_beside_it_is_imported_anew(runners, etl, monkeypatch):
    beside = etl.parent / "names_beside.py"
    beside.write_text("NAME = 'first'\n")
    etl.write_text(
        FLOWS.replace("from dask", "from names_beside import NAME\nfrom dask", 1).replace(
            'Flow("one")', "Flow(NAME)"
        )
    )
    assert watched(monkeypatch, (beside, "NAME = 'second one'\n")) == cli.INTERRUPTED
    (runner,) = runners.made
    assert [name for name, *_ in runner.runs] == ["first", "second one"]
    # Workers have an import's first result, unless it is sent.
    assert runner.sent == ["names_beside"]


def test_a_module_that_comes_later_is_sent_by_another_runner(runners, etl, monkeypatch):
    (etl.parent / "names_later.py").write_text("NAME = 'later'\n")
    changed = FLOWS.replace("from dask", "import names_later\nfrom dask", 1)
    assert watched(monkeypatch, (etl, changed), (etl, FLOWS)) == cli.INTERRUPTED
    assert [runner.sent for runner in runners.made] == [[], ["names_later"]]
    # It goes on where the module is not used any more.
    assert [len(runner.runs) for runner in runners.made] == [1, 2]


def test_a_package_beside_it_is_sent_whole(runners, etl, monkeypatch):
    package = etl.parent / "package_beside"
    package.mkdir()
    for name in ("__init__", "names"):
        (package / f"{name}.py").write_text("")
    etl.write_text(FLOWS.replace("from dask", "import package_beside.names\nfrom dask", 1))
    assert watched(monkeypatch) == cli.INTERRUPTED
    assert runners.made[0].sent == ["package_beside"]


def test_it_ends_where_the_cluster_is_lost(runners, etl, monkeypatch, capsys):
    lost = exceptions.ClusterLost("the scheduler is gone")
    monkeypatch.setattr(FakeRunner, "outcome", lost)
    assert watched(monkeypatch) == cli.CLUSTER
    err = capsys.readouterr().err
    assert "the scheduler is gone" in err
    assert "waits for a change" not in err


def test_what_is_installed_in_an_environment_beside_the_flow_is_left_alone(
    runners, etl, monkeypatch
):
    for place in (".venv/lib", "env/lib/site-packages"):
        directory = etl.parent / place
        directory.mkdir(parents=True)
        name = f"installed_{len(place)}"
        (directory / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(directory)
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    before = {name: module for name, module in sys.modules.items() if "installed_" in name}
    assert len(before) == 2
    assert watched(monkeypatch) == cli.INTERRUPTED
    assert before.items() <= sys.modules.items()


def test_what_cannot_be_loaded_is_shown_and_the_next_change_waited_for(
    runners, etl, monkeypatch, capsys
):
    changes = [(etl, "def broken(:\n"), (etl, "no_flow = 1\n"), (etl, FLOWS)]
    assert watched(monkeypatch, *changes) == cli.INTERRUPTED
    err = capsys.readouterr().err
    assert "SyntaxError" in err
    assert "no flow 'one'" in err
    assert len(runners.made[0].runs) == 2


def test_nothing_is_watched_that_is_not_there(runners, etl, capsys):
    assert cli.main(["run", "gone.py:one", "--watch"]) == cli.USAGE
    assert "there is no file gone.py" in capsys.readouterr().err
    assert runners.made == []
