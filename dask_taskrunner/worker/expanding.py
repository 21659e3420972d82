"""A body that returns a graph: what of it travels to the client."""

from __future__ import annotations

from typing import Any, Final

from dask_taskrunner import code_pickling
from dask_taskrunner.exceptions import LargeArgument, OptionError, UnpicklableArgument, describe
from dask_taskrunner.graph.expansions import Expansion
from dask_taskrunner.short_texts import format_bytes
from dask_taskrunner.user_code import GoesOnAs

#: The client plans the graph, and so it has to come there.
MAX_GRAPH_BYTES: Final = 10_000_000


def pickled(value: Any, task: Any) -> Any:
    """Return what a body has returned: a graph as bytes, anything else as it is.

    Raises
    ------
    OptionError
        The task has an option that does not go with it.
    UnpicklableArgument, LargeArgument
        The graph cannot be sent.
    """
    if not isinstance(value, Expansion):
        return value
    slug = task.slug
    if task.cache_for is not None:
        raise OptionError(
            f"{slug} has cache_for, and returned expand(...), which is no result to keep; set "
            "cache_for on the tasks of the graph"
        )
    try:
        data = code_pickling.dumps(tuple(value))
    except Exception as error:
        raise UnpicklableArgument(
            f"{slug} returned expand(...), and the graph cannot be pickled: {describe(error)}. "
            "Make in the tasks of the graph what cannot be sent, or pass what it is made from.",
            task=slug,
            argument="",
        ) from error
    if len(data) > MAX_GRAPH_BYTES:
        raise LargeArgument(
            f"{slug} returned expand(...) with a graph of {format_bytes(len(data))}; more than "
            f"{format_bytes(MAX_GRAPH_BYTES)} do not go through the client. Load what is large in "
            "a task of the graph, or in one before this one.",
            task=slug,
            argument="",
        )
    return GoesOnAs(data)
