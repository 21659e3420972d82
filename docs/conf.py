"""Sphinx configuration."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "dask_taskrunner"
author = copyright = "dask_taskrunner developers"
release = version = installed_version("dask-taskrunner")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "drawn_states",
    "notebook_pages",
    "shown_cells",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
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
    ("py:.*", r"dask_taskrunner\.(drawing\.still|graph|listener|machine|shown|waiting)\..*"),
    ("py:class", r"dask_taskrunner\.task_run\.Children"),
    ("py:.*", r"dask_taskrunner\.(\w+\.)*_\w+"),
]
