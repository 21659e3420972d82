"""A notebook's kernel, as it is, and cells that are run in it as a notebook runs them."""

from __future__ import annotations

import asyncio
import subprocess
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from processes import environment


class Kernel:
    """A notebook that grows by the cells that are run."""

    def __init__(self, client: NotebookClient) -> None:
        self._client = client

    def run(self, text: str) -> int:
        """Run a cell, and return its number; outputs of earlier cells may change meanwhile."""
        cells = self._client.nb.cells
        cells.append(nbformat.v4.new_code_cell(textwrap.dedent(text)))
        self._client.execute_cell(cells[-1], len(cells) - 1)
        return len(cells) - 1

    def run_all(self) -> None:
        """Run the cells that are there."""
        for number, cell in enumerate(self._client.nb.cells):
            self._client.execute_cell(cell, number)

    def fails(self, text: str, error: str) -> int:
        """Run a cell that ends with an error of this name."""
        with pytest.raises(CellExecutionError) as raised:
            self.run(text)
        assert raised.value.ename == error, raised.value
        return len(self._client.nb.cells) - 1

    def interrupt_when(self, path: Path) -> threading.Thread:
        """Interrupt the kernel, as a notebook's button does, once a file is there."""

        def interrupt() -> None:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            asyncio.run(self._client.km.interrupt_kernel())

        thread = threading.Thread(target=interrupt)
        thread.start()
        return thread

    def outputs(self, number: int) -> list:
        return self._client.nb.cells[number].get("outputs", [])

    def html(self, number: int) -> list[str]:
        """Return the HTML that a cell shows, one text for each output that has one."""
        return [
            output.data["text/html"]
            for output in self.outputs(number)
            if "text/html" in output.get("data", {})
        ]

    def text(self, number: int) -> str:
        """Return what a cell has printed."""
        return "".join(
            output.text for output in self.outputs(number) if output.output_type == "stream"
        )


@contextmanager
def started_kernel(directory, notebook=None):
    """A kernel for a notebook, which is empty where none is given."""
    notebook = notebook or nbformat.v4.new_notebook()
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    # ipykernel warns of itself when it is told to end, and would have to be killed.
    env = environment(PYTHONWARNINGS="error,ignore::PendingDeprecationWarning")
    with client.setup_kernel(cwd=str(directory), env=env, stderr=subprocess.DEVNULL):
        yield Kernel(client)
