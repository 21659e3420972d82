"""Runs a flow again whenever its file, or a module beside it, is saved."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Final

import click

#: Seconds between two looks at the files.
_EVERY: Final = 0.5

Stamps = dict[Path, tuple[int, int]]


def keep_running(directory: Path, run: Callable[[], object]) -> None:
    """Run, and again after each change of a file, until somebody interrupts it.

    Parameters
    ----------
    directory : Path
        Where the flow's file lies.
    run : callable
        Loads the flow and runs it. What it raises is shown: the next change may mend it.
    """
    # Python takes a file for unchanged that is saved within the same second, as large as before.
    sys.dont_write_bytecode = True
    while True:
        before = _stamps(directory)
        _forget_modules(directory)
        try:
            run()
        except click.ClickException as error:
            error.show()
        # What a file does when it is loaded is its writer's, as the change to come is.
        except Exception:  # noqa: BLE001
            click.echo(traceback.format_exc(), err=True)
        click.echo(f"-- waits for a change in {directory} (Ctrl-C ends it)", err=True)
        while _stamps(directory) == before:
            sleep(_EVERY)


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
    """Have what lies in the directory imported anew, but for ourselves."""
    own = {str(path.resolve()) for path in _files(directory)}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "dask_taskrunner":
            continue
        if str(Path(file).resolve()) in own:
            del sys.modules[name]
