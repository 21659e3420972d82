"""Makes pages of notebooks: each is run, on a kernel as it is, when the documentation is built.

So what a cell shows on its page is what it shows, and a cell that fails ends the build.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile

import nbformat
from myst_parser.parsers.sphinx_ import MystParser
from nbclient import NotebookClient
from nbformat import NotebookNode

#: Longer than any run of backticks in what cells show.
FENCE = "`" * 12


class NotebookParser(MystParser):
    """Reads a notebook as the text with blocks of code that it stands for."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        notebook = nbformat.reads(inputstring, as_version=4)
        with tempfile.TemporaryDirectory() as directory:
            NotebookClient(
                notebook,
                timeout=120,
                kernel_name="python3",
                resources={"metadata": {"path": directory}},
            ).execute(stderr=subprocess.DEVNULL)
        super().parse("\n\n".join(map(text_of_cell, notebook.cells)), document)


def text_of_cell(cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return cell.source
    shown = filter(None, map(text_of_output, cell.outputs))
    return "\n\n".join([fenced("python", cell.source), *shown])


def text_of_output(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return fenced("{code-block} text\n:class: cell-shows", output.text)
    if html := output.data.get("text/html"):
        return fenced("{raw} html", f'<div class="cell-shows">{html}</div>')
    return fenced("{code-block} text\n:class: cell-shows", output.data["text/plain"])


def fenced(language: str, text: str) -> str:
    return f"{FENCE}{language}\n{text.rstrip()}\n{FENCE}"


def setup(app):
    # It tells of each notebook that it runs, on standard error.
    logging.getLogger("traitlets").setLevel(logging.WARNING)
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
