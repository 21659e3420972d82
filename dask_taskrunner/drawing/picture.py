"""A drawing that a user holds: text where text is shown, a picture where pictures are."""

from __future__ import annotations

import importlib
import shutil
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dask_taskrunner.drawing.gathering import Gathering, Order, as_it_comes
from dask_taskrunner.drawing.model import Drawing
from dask_taskrunner.drawing.still import Still, still
from dask_taskrunner.drawing.svg import as_svg
from dask_taskrunner.drawing.words import as_dot, as_mermaid, as_text
from dask_taskrunner.exceptions import TaskRunnerWarning

#: Which of the forms that need nothing else is meant by the ending of a file's name.
_FORMS: Final = {
    "txt": "text", "svg": "svg",
    "mmd": "mermaid", "mermaid": "mermaid",
    "dot": "dot", "gv": "dot",
}  # fmt: skip


class Picture:
    """A drawing of a flow, or of a flow run: its ``str`` is text, and a notebook shows a picture.

    Attributes
    ----------
    text : str
        Each task on a line, further in than all that is upstream of it.
    svg : str
        A picture, for a page or a file.
    mermaid : str
        The same in the language of Mermaid, which GitHub and others draw.
    dot : str
        The same in Graphviz's language.
    """

    def __init__(self, drawing: Drawing, order: Order = as_it_comes) -> None:
        self._drawing = drawing
        self._order = order

    @cached_property
    def text(self) -> str:  # noqa: D102 (an attribute, for users)
        return as_text(self._drawing)

    @cached_property
    def svg(self) -> str:  # noqa: D102
        return as_svg(self._gathered)

    @property
    def still(self) -> Still:
        """The picture as notebooks keep it."""
        return still(self._gathered)

    @cached_property
    def _gathered(self) -> Drawing:
        return Gathering(self._drawing)(self._drawing, self._order)

    @cached_property
    def mermaid(self) -> str:  # noqa: D102
        return as_mermaid(self._drawing)

    @cached_property
    def dot(self) -> str:  # noqa: D102
        return as_dot(self._drawing)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        kept = self.still
        # The second is for where no page is.
        scrolled = f'<div style="overflow:auto">{kept.html}</div>'
        return {"text/html": scrolled, "image/svg+xml": kept.svg, "text/plain": self.text}

    def render(self, format: str) -> bytes | None:
        """Return the picture in a format of Graphviz; None where Graphviz is not installed."""
        # The package only finds its program when it is used, so both are looked for.
        if shutil.which("dot") is None:
            return None
        try:
            # Not at the top of the file: it is optional, and importing us must stay cheap.
            graphviz: Any = importlib.import_module("graphviz")
        except ImportError:
            return None
        return bytes(graphviz.Source(self.dot).pipe(format=format))

    def save(self, filename: str, format: str | None = None) -> Path:
        """Write the picture to a file, and return its path.

        Text, SVG, Mermaid (``.mmd``) and Graphviz's language (``.dot``) need nothing else; other
        formats, such as ``.png``, need Graphviz. Without it SVG is written, beside the place where
        the picture would be, and a warning says so.
        """
        path = Path(filename)
        kind = format or path.suffix[1:] or "svg"
        if not path.suffix:
            path = path.with_suffix(f".{kind}")
        form = _FORMS.get(kind)
        data = self.render(kind) if form is None else getattr(self, form).encode()
        if data is None:
            path = path.with_suffix(".svg")
            warnings.warn(
                f"{kind} needs Graphviz (its program `dot`, and `pip install graphviz`), which is "
                f"not here: SVG was written, to {str(path)!r}",
                TaskRunnerWarning,
                stacklevel=3,
            )
            data = self.svg.encode()
        path.write_bytes(data)
        return path
