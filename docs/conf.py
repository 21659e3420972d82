"""Sphinx configuration."""

from importlib.metadata import version as installed_version

from docutils import nodes
from docutils.parsers.rst import Directive

from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.svg import as_svg
from dask_taskrunner.states import STATE_CLASSES

project = "dask_taskrunner"
author = copyright = "dask_taskrunner developers"
release = version = installed_version("dask-taskrunner")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"dask_taskrunner {version}"

napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
nitpick_ignore_regex = [
    # Others' objects: no inventory of theirs can be fetched where the documentation is built.
    ("py:.*", r"(?!dask_taskrunner\b).*"),
    # Types of ours that are no part of the API.
    ("py:.*", r"dask_taskrunner\.(graph|listener|machine|shown|waiting)\..*"),
    ("py:class", r"dask_taskrunner\.task_run\.Children"),
    ("py:.*", r"dask_taskrunner\.(\w+\.)*_\w+"),
]


class States(Directive):
    """Draws which state is a special case of which, from the classes themselves."""

    def run(self):
        names = list(STATE_CLASSES)
        drawn = [
            DrawnNode(name, name, state=name, tip=cls.__doc__)
            for name, cls in STATE_CLASSES.items()
        ]
        edges = [
            DrawnEdge(names.index(cls.__base__.__name__), names.index(name), "")
            for name, cls in STATE_CLASSES.items()
            if cls.__base__.__name__ in names
        ]
        order = sorted(range(len(names)), key=lambda n: len(STATE_CLASSES[names[n]].__mro__))
        place = {old: new for new, old in enumerate(order)}
        moved = [DrawnEdge(place[edge.source], place[edge.target], "") for edge in edges]
        picture = as_svg(Drawing("states", "states", [drawn[n] for n in order], moved))
        return [nodes.raw("", f'<div style="overflow:auto">{picture}</div>', format="html")]


def setup(app):
    app.add_directive("states", States)
