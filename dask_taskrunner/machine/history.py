"""The history of a flow run: a list of small tuples, which everything that people look at reads."""

from __future__ import annotations

from typing import NamedTuple

from dask_taskrunner.headers import Header, TaskRunId


class HistoryEntry(NamedTuple):
    """One change of state."""

    #: Epoch seconds by the client's clock.
    at: float
    #: None for the flow run itself.
    task_run: TaskRunId | None
    #: The class names of the states.
    old: str
    new: str
    #: What is known of the new state, where something came with it.
    header: Header | None
    #: The task run's, which a record that is forgotten could not tell any more.
    slug: str = ""
