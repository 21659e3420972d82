"""The command ``dask-taskrunner``: what it takes, what it prints, and the codes it exits with.

It uses the public API like any other user, and knows no cluster but through `DaskTaskRunner`.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
)
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from types import ModuleType
from typing import TextIO, cast

import click

from dask_taskrunner import DaskTaskRunner
from dask_taskrunner.cli_errors import (
    CLUSTER,  # noqa: F401 (for whoever calls `main`, with the others)
    FAILED,
    INTERRUPTED,
    SUCCESS,
    USAGE,
    errors_as_exits,
)
from dask_taskrunner.cli_targets import find_flow, parameter_help, place_of, read_parameters
from dask_taskrunner.cli_watching import KeptRunner, keep_running
from dask_taskrunner.flow_checks import find_problems
from dask_taskrunner.view.pipes import Pipe
from dask_taskrunner.view.progress import STYLES, Style

_workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes of the local cluster, one task at a time each. "
    "Default: as many as Dask thinks fit for this machine.",
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    args : sequence of str, optional
        Default: the process's own.

    Returns
    -------
    int
        The exit code, as ``dask-taskrunner --help`` lists them.
    """
    with _readers_may_go():
        return _main(args)


def _main(args: Sequence[str] | None) -> int:
    try:
        code = commands.main(args, prog_name="dask-taskrunner", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as abort:
        # The runner leaves the run that it cancelled on the KeyboardInterrupt.
        run = getattr(abort.__context__, "run", None)
        click.echo("interrupted" if run is None else f"interrupted: {run!r}", err=True)
        return INTERRUPTED
    return int(code or SUCCESS)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88})
def commands() -> None:
    """Run flows of tasks on Dask, with states, triggers and retries.

    \b
    See it work:        dask-taskrunner demo
    Run your own flow:  dask-taskrunner run etl.py:flow -p url=https://example.org/data.csv
    Look at it before:  dask-taskrunner check etl.py:flow; dask-taskrunner graph etl.py:flow

    \b
    Complete commands by the tab key, in bash (or zsh, fish):
        eval "$(_DASK_TASKRUNNER_COMPLETE=bash_source dask-taskrunner)"

    \b
    Exit codes:
        0  the flow run succeeded
        1  it failed, or did not finish
        2  the command line, the flow or its parameters are wrong
        3  the cluster was lost, or did not answer
      130  interrupted, and the flow run cancelled
    """


@commands.command()
def version() -> None:
    """Print the versions that a bug report should name."""
    for name in ("dask-taskrunner", "dask", "distributed"):
        click.echo(f"{name} {version_of(name)}")
    click.echo(f"Python {platform.python_version()}")


# --- run: a flow of the user's --------------------------------------------------------------------


_ARGS = "dask_taskrunner.args"


class _RunCommand(click.Command):
    """Its help tells of a flow's parameters, too, where a flow stands on the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGS] = list(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        # Click shows the help before it has looked at the arguments.
        target = self.make_parser(ctx).parse_args(ctx.meta[_ARGS])[0].get("target")
        if not isinstance(target, str):
            return
        flow = find_flow(target)
        rows = [parameter_help(parameter) for parameter in flow.parameters().values()]
        with formatter.section(f"Parameters of flow {flow.name!r}"):
            if rows:
                formatter.write_dl(rows)
            else:
                formatter.write_text("It has none.")


_target = click.argument("target", metavar="FILE.py:FLOW|MODULE:FLOW")
_parameters = click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the flow; its type decides how the text is read. Once for each.",
)


@commands.command(cls=_RunCommand)
@_target
@_parameters
@click.option("--address", help="The scheduler to run on, such as tcp://10.0.0.1:8786.")
@_workers_option
@click.option(
    "--progress",
    type=click.Choice(STYLES),
    default="rich",
    help="How the run is shown: a live block, lines, JSON lines on standard output, or not at all.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write a report of the run: graph, timeline, critical path, all task runs.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Run again, on the same cluster, whenever a Python file beside the flow's is saved.",
)
def run(
    target: str,
    assignments: tuple[str, ...],
    address: str | None,
    workers: int | None,
    progress: Style,
    report: Path | None,
    watch: bool,
) -> int:
    """Run a flow, on a cluster of its own or on one that is there.

    FLOW is the name that the flow has in the file or module; it may be left out where there is
    only one. A file need not be importable on the workers: what it defines is sent to them.

    \b
    dask-taskrunner run etl.py:flow
    dask-taskrunner run pipelines.etl:flow --address tcp://10.0.0.1:8786 -p day=2024-02-29
    dask-taskrunner run etl.py:flow --progress json | jq 'select(.new == "Failed")'
    dask-taskrunner run etl.py:flow --watch --report etl.html
    dask-taskrunner run etl.py:flow --help    # also tells of the flow's parameters
    """
    if address and workers:
        raise click.UsageError("--workers is for a local cluster: leave it out with --address")
    once = partial(_run_once, target, assignments, progress, report)
    if watch:
        directory = place_of(target).parent
        with KeptRunner(directory, partial(_runner, workers, address)) as kept:
            keep_running(directory, partial(once, kept))
    return once(lambda: _runner(workers, address))


def _run_once(
    target: str,
    assignments: Sequence[str],
    progress: Style,
    report: Path | None,
    open_runner: Callable[[], AbstractContextManager[DaskTaskRunner]],
) -> int:
    flow = find_flow(target)
    parameters = read_parameters(flow, assignments)
    with errors_as_exits():
        # What is missing is told before a cluster is started.
        flow.resolve_parameters(parameters)
    with errors_as_exits(), open_runner() as runner:
        flow_run = runner.run(flow, parameters=parameters, progress=progress)
    if report is not None:
        flow_run.report(report)
        click.echo(f"Saved {report}", err=True)
    return SUCCESS if flow_run.state.is_successful() else FAILED


@commands.command()
@_target
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the drawing to a file, whose ending tells the format. Default: print it as text.",
)
def graph(target: str, output: Path | None) -> int:
    """Draw a flow.

    \b
    dask-taskrunner graph etl.py:flow
    dask-taskrunner graph etl.py:flow -o etl.svg
    """
    picture = find_flow(target).visualize()
    click.echo(picture.text if output is None else f"Saved {picture.save(str(output))}")
    return SUCCESS


@commands.command()
@_target
@_parameters
def check(target: str, assignments: tuple[str, ...]) -> int:
    """Find out what is wrong with a flow, without running anything.

    It looks for parameters that have no value, tasks that lack an argument or stand in a circle,
    and arguments and functions that cannot be sent to a cluster.
    """
    flow = find_flow(target)
    problems = find_problems(flow, read_parameters(flow, assignments))
    for problem in problems:
        click.echo(problem, err=True)
    if not problems:
        click.echo(f"{flow!r}: nothing is wrong with it")
    return USAGE if problems else SUCCESS


# --- demo: the flow that ships --------------------------------------------------------------------


@commands.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where census.csv goes. Default: a new temporary directory.",
)
@_workers_option
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.py",
    help="Run nothing, but copy the flow's source to a file of yours.",
)
def demo(out: Path | None, workers: int | None, save: Path | None) -> int:
    """Run a census of the standard library of the Python that runs it.

    It starts a cluster of worker processes on this machine, and takes half a minute. It shows a
    task that fails, a task that succeeds by retry, and why the flow succeeds all the same.
    """
    from dask_taskrunner.examples import census, demo_words

    if save is not None:
        return _save(Path(census.__file__), save)
    click.echo(demo_words.introduction())
    with errors_as_exits(), _runner(workers, None) as runner:
        flow_run = runner.run(census.census, progress=True)
        if not flow_run.state.is_successful():
            return FAILED
        rows = flow_run.result(census.table)
    path = demo_words.write_csv(rows, out or Path(tempfile.mkdtemp(prefix="census-")))
    click.echo(demo_words.top_ten(rows))
    click.echo(f"The ten largest of {len(rows)} packages; all are in {path}")
    click.echo(demo_words.closing_words(flow_run))
    return SUCCESS


def _save(source: Path, target: Path) -> int:
    if target.exists():
        raise click.UsageError(f"{target} is there already")
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"Saved {target}. Run it: dask-taskrunner run {target}:census -p root=.")
    return SUCCESS


@contextmanager
def _readers_may_go() -> Iterator[None]:
    """Have what is printed for `head`, and not read, change no exit code."""
    pipes = [Pipe(stream) for stream in (sys.stdout, sys.stderr)]
    out, err = (cast(TextIO, pipe) for pipe in pipes)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for pipe in pipes:
            pipe.let_go()


# --- what both share ------------------------------------------------------------------------------


def _runner(
    workers: int | None, address: str | None, ship: Sequence[ModuleType] = ()
) -> DaskTaskRunner:
    if workers is None:
        return DaskTaskRunner(address=address, ship=ship)
    cluster = {"n_workers": workers, "threads_per_worker": 1}
    return DaskTaskRunner(cluster_kwargs=cluster, ship=ship)
