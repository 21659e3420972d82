"""The codes with which the command exits, and from errors to them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Final

import click

from dask_taskrunner import exceptions
from dask_taskrunner.tracebacks import user_traceback

SUCCESS: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CLUSTER: Final = 3
INTERRUPTED: Final = 130

_OURS: Final = PurePath(__file__).parent


class WrongFlow(click.ClickException):
    """The flow, or its parameters, cannot be run."""

    exit_code = USAGE


class NoCluster(click.ClickException):
    """The cluster was lost, or did not answer."""

    exit_code = CLUSTER


class BrokenFile(click.ClickException):
    """What a file or module does when it is loaded does not work."""

    exit_code = USAGE


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """Have the errors of a run end the command as its help says."""
    try:
        yield
    except (exceptions.ClusterLost, exceptions.ConnectFailed) as error:
        raise NoCluster(str(error)) from error
    except (exceptions.FlowError, exceptions.OptionError) as error:
        raise WrongFlow(str(error)) from error


@contextmanager
def loading(place: str) -> Iterator[None]:
    """Have what goes wrong in a file of the user's, while it is loaded, told as theirs.

    Raises
    ------
    BrokenFile
        Something did.
    """
    try:
        yield
    except click.ClickException:
        raise
    except (exceptions.FlowError, exceptions.OptionError) as error:
        # It says what to do; where is all that is missing.
        raise BrokenFile(f"{_whereabouts(error, place)}: {error}") from error
    except SystemExit as error:
        raise BrokenFile(
            f"{_whereabouts(error, place)} ended Python when it was loaded (exit code "
            f"{error.code}). What a file does besides is to stand below "
            "`if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        # A file that is no Python has no frame of its own.
        told = user_traceback(error) if _lines(error) else _last_words(error)
        raise BrokenFile(f"{place} cannot be loaded:\n\n{told}") from error


def _whereabouts(error: BaseException, place: str) -> str:
    """Return the last line of the user's that an error came through."""
    return (_lines(error) or [place])[-1]


def _lines(error: BaseException) -> list[str]:
    return [
        f"{frame.filename}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if _OURS not in PurePath(frame.filename).parents
        and not frame.filename.startswith("<frozen")
    ]


def _last_words(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error))
