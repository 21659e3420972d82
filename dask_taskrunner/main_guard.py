"""Finds scripts that would start worker processes without ``if __name__ == "__main__":``.

Each worker process imports the script anew. Without the guard it would start workers in turn, and
Python ends all that with a page of text of which the last line says what to do.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from dask_taskrunner.exceptions import MissingMainGuard


def check_main_guard() -> None:
    """Refuse to go on where the script that is running has no guard around the line at hand.

    Raises
    ------
    MissingMainGuard
        The lowest frame is a script's own, outside an ``if`` that tests ``__name__``.
    """
    frame = sys._getframe()  # the one way to look at a stack; documented, in spite of its name
    while frame.f_back is not None:
        frame = frame.f_back
    name = frame.f_globals.get("__name__")
    path = frame.f_globals.get("__file__")
    if frame.f_code.co_name != "<module>" or name != "__main__" or not path:
        return
    if frame.f_code.co_filename != path or _is_guarded(Path(path), frame.f_lineno):
        return
    raise MissingMainGuard(
        f"{path}, line {frame.f_lineno}, starts worker processes, and each of them imports this "
        "script anew. Put what runs behind a guard:\n\n"
        '    if __name__ == "__main__":\n'
        "        main()"
    )


def _is_guarded(path: Path, line: int) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        # What runs is not what the file says now; the benefit of the doubt.
        return True
    return any(
        isinstance(node, ast.If) and _tests_name(node) and _covers(node.body, line)
        for node in ast.walk(tree)
    )


def _tests_name(node: ast.If) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))


def _covers(body: list[ast.stmt], line: int) -> bool:
    return body[0].lineno <= line <= (body[-1].end_lineno or line)
