"""What a task returns so that its run goes on as a graph: a flow, with values of its parameters.

It knows nothing of how that graph joins the flow run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.flow_tasks import FlowTask
from dask_taskrunner.graph.tasks import BoundTask


class Expansion(NamedTuple):
    """What :func:`expand` returns; it pickles."""

    flow: Flow
    #: The slug of the task whose result is the run's; None for the reference tasks.
    result: str | None
    parameters: dict[str, Any]

    @property
    def task(self) -> FlowTask:
        """The flow as a task."""
        return FlowTask(self.flow, self.result)


def expand(flow_or_task: Any, /, **parameters: Any) -> Expansion:
    """Let the run of a task go on as a graph: ``return expand(flow, region="eu")``.

    The tasks of the graph join the flow run, as ``train/fit`` where the task is ``train``. They run
    on the same cluster, while the task that returned them holds no place there; it has succeeded
    when they have, and whoever waits for it waits for them. They may return graphs themselves.

    Parameters
    ----------
    flow_or_task : Flow, FlowTask or BoundTask
        What to run: a flow, whose only reference task's result becomes the task's result, or a dict
        of the reference tasks' results by slug; a flow that was made a task with
        ``flow.as_task(result=...)``; or one task of a flow, for all of the flow and this task's
        result.
    **parameters
        Values of the flow's parameters, by name. They travel in the graph, of which the pickle may
        have 10 MB.

    Returns
    -------
    Expansion
        For the body to return, alone.

    Raises
    ------
    OptionError
        It is nothing that can be run.
    ParameterError, EmptyFlow, ArgumentError
        The flow cannot be run so.

    Examples
    --------
    >>> @task  # doctest: +SKIP
    ... def train(table):
    ...     with Flow("one model per group") as flow:
    ...         fit.map([rows for _, rows in table.groupby("region")])
    ...     return expand(flow)
    """
    flow, result = _flow_of(flow_or_task)
    flow.validate()
    # Here, in the user's line, and not where the graph arrives.
    flow.resolve_parameters(parameters)
    return Expansion(flow, result, parameters)


def _flow_of(given: Any) -> tuple[Flow, str | None]:
    if isinstance(given, Flow):
        return given, None
    if isinstance(given, FlowTask):
        result = given.inner_result
        return given.inner, None if result is None else result.slug
    if isinstance(given, BoundTask):
        flow = vars(given).get("flow")
        if isinstance(flow, Flow):
            return flow, given.slug
        raise OptionError(f"expand: {given.slug!r} was pickled without its flow; pass the flow")
    hint = ""
    if hasattr(given, "with_options"):
        hint = f"; call it in a flow's block: with Flow(...): found = {given.name}(...)"
    raise OptionError(f"expand takes a flow, or a task that is bound in one, not {given!r}{hint}")
