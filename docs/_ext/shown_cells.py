"""Runs a block of Python when the documentation is built, and shows what a notebook would show.

With ``:report: NAME.html`` the value, a flow run, writes its report beside the pages.
"""

from __future__ import annotations

import ast
import logging
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


class Shown(SphinxDirective):
    has_content = True
    option_spec = {"report": directives.unchanged}  # noqa: RUF012 (as docutils wants it)

    def run(self):
        code = "\n".join(self.content)
        value = value_of(code)
        if name := self.options.get("report"):
            value.report(Path(self.env.app.outdir) / name)
        block = nodes.literal_block(code, code, language="python")
        html = f'<div class="cell-shows">{value._repr_html_()}</div>'
        return [block, nodes.raw("", html, format="html")]


def value_of(code):
    """Run a block, and return the value of its last line."""
    tree = ast.parse(code)
    *before, last = tree.body
    namespace = {"__name__": "__main__"}
    # What fails on a page is to fail: nobody need be told.
    logging.disable()
    try:
        exec(compile(ast.Module(before, []), "<page>", "exec"), namespace)
        return eval(compile(ast.Expression(last.value), "<page>", "eval"), namespace)
    finally:
        logging.disable(logging.NOTSET)


def setup(app):
    app.add_directive("shown", Shown)
    return {"parallel_read_safe": True}
