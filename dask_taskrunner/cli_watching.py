"""Runs a flow again whenever its file, or a module beside it, is saved."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Final, TypeAlias

import click

from dask_taskrunner.cli_errors import NoCluster
from dask_taskrunner.runner import DaskTaskRunner

#: Seconds between two looks at the files.
_EVERY: Final = 0.5

Stamps: TypeAlias = dict[Path, tuple[int, int]]
#: Opens a runner that sends modules along.
Open: TypeAlias = Callable[[Sequence[ModuleType]], AbstractContextManager[DaskTaskRunner]]


class KeptRunner:
    """One runner for all runs, which sends along what lies beside the flow, as it is at each run.

    Workers import a module once; what they were sent is renewed.

    Parameters
    ----------
    directory : Path
        Where the flow's file lies.
    open : callable
        Opens a runner.
    """

    def __init__(self, directory: Path, open: Open) -> None:
        self._directory = directory
        self._open = open
        self._stack = ExitStack()
        self._runner: DaskTaskRunner | None = None
        self._sent: frozenset[str] = frozenset()

    def __enter__(self) -> KeptRunner:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def __call__(self) -> AbstractContextManager[DaskTaskRunner]:
        """Return the runner, for a flow that is loaded."""
        modules = modules_in(self._directory)
        names = frozenset(module.__name__ for module in modules)
        if self._runner is None or not names <= self._sent:
            # Which modules a runner sends is said when it is made.
            self._stack.close()
            self._runner = self._stack.enter_context(self._open(modules))
            self._sent = names
        return nullcontext(self._runner)


def keep_running(directory: Path, run: Callable[[], object]) -> None:
    """Run, and again after each change of a file, until somebody interrupts it.

    Parameters
    ----------
    directory : Path
        Where the flow's file lies.
    run : callable
        Loads the flow and runs it. What it raises is shown: the next change may mend it.

    Raises
    ------
    NoCluster
        No change of a file would mend that.
    """
    # Python takes a file for unchanged that is saved within the same second, as large as before.
    sys.dont_write_bytecode = True
    while True:
        before = _stamps(directory)
        _forget_modules(directory)
        try:
            run()
        except NoCluster:
            raise
        except click.ClickException as error:
            error.show()
        # What a file does when it is loaded is its writer's, as the change to come is.
        except Exception:  # noqa: BLE001
            click.echo(traceback.format_exc(), err=True)
        click.echo(f"-- waits for a change in {directory} (Ctrl-C ends it)", err=True)
        while _stamps(directory) == before:
            sleep(_EVERY)


def modules_in(directory: Path) -> list[ModuleType]:
    """Return the modules and packages of a directory that were imported, but for ourselves."""
    found = {
        name.partition(".")[0]: None
        for name in _names_in(directory)
        # The flow's file itself goes with its functions.
        if not name.startswith("flow_file_")
    }
    modules = [sys.modules[name] for name in found]
    # A namespace has no file, and cannot be packed.
    return [module for module in modules if str(getattr(module, "__file__", "")).endswith(".py")]


def _stamps(directory: Path) -> Stamps:
    """Return when the Python files of a directory were changed."""
    found: Stamps = {}
    for path in _files(directory):
        try:
            stat = path.stat()
        except FileNotFoundError:
            # An editor may write beside a file, and put it in its place.
            continue
        found[path] = stat.st_mtime_ns, stat.st_size
    return found


def _files(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*.py"):
        inside = path.relative_to(directory).parts[:-1]
        # An environment may lie there, too; what is installed in it is nobody's to watch.
        if not any(part.startswith((".", "__")) or part == "site-packages" for part in inside):
            yield path


def _forget_modules(directory: Path) -> None:
    """Have what lies in the directory imported anew."""
    for name in _names_in(directory):
        del sys.modules[name]


def _names_in(directory: Path) -> list[str]:
    """Return the names of the modules that lie in a directory, but for ourselves."""
    own = {str(path.resolve()) for path in _files(directory)}
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "dask_taskrunner":
            continue
        if str(Path(file).resolve()) in own:
            names.append(name)
    return names
