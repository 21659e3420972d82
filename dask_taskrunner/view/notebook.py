"""The notebook that this process is the kernel of, if it is one: outputs that are drawn again.

It imports no IPython: where there is a kernel, it has been imported, and the kernel is asked. It
draws what it is given, and knows no runs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from dask_taskrunner.view.block import UPDATES_PER_SECOND

#: What an output looks like, by MIME type.
Forms: TypeAlias = Mapping[str, str]

#: What is asked of a shell.
_NEEDED: Final = ("kernel", "get_parent", "display_pub")
#: What a thread's name begins with, so that it is known for ours.
_THREAD: Final = "dask-taskrunner-view"


def find_shell() -> Any:
    """Return IPython's shell where a notebook's kernel runs it, else None."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    # In a terminal IPython has no kernel; another's kernel may lack something else.
    is_notebook = all(getattr(shell, name, None) is not None for name in _NEEDED)
    return shell if is_notebook else None


def current_cell(shell: Any) -> str:
    """Return what tells one execution of a cell from all others."""
    return str(shell.get_parent()["header"]["msg_id"])


class Output:
    """An output in a notebook: every place that shows it is drawn anew with it.

    Parameters
    ----------
    id : str
        No other output's.
    picture : callable
        Gives what there is to see; is called by one thread at a time.
    """

    def __init__(self, id: str, picture: Callable[[], Forms]) -> None:
        self._id = id
        self._picture = picture
        self._publisher: Any = None
        self._drawn: Forms | None = None
        #: Held from looking to drawing: else an older picture might be drawn over a newer one.
        self._lock = threading.Lock()

    def show(self, shell: Any) -> None:
        """Draw it in the cell that is being executed; `shell` is what :func:`find_shell` gives."""
        with self._lock:
            # A cell may capture its outputs, and the next one not: that of now is the one.
            self._publisher = shell.display_pub
            self._publish(self._picture(), update=False)

    def update(self) -> None:
        """Draw it anew wherever it is shown, where that changes anything."""
        with self._lock:
            forms = self._picture()
            if self._publisher is not None and forms != self._drawn:
                self._publish(forms, update=True)

    def _publish(self, forms: Forms, *, update: bool) -> None:
        self._publisher.publish(
            data=dict(forms), metadata={}, transient={"display_id": self._id}, update=update
        )
        self._drawn = forms


def keep_drawing(output: Output, ended: threading.Event) -> threading.Thread:
    """Draw an output anew until something has ended, and then for the last time.

    Returns
    -------
    threading.Thread
        It ends with the last picture.
    """

    def draw_on() -> None:
        while not ended.wait(1 / UPDATES_PER_SECOND):
            output.update()
        output.update()

    thread = threading.Thread(target=draw_on, name=_THREAD, daemon=True)
    thread.start()
    return thread
