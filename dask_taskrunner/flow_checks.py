"""Finds what is wrong with a flow without a cluster: what a run would say before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_taskrunner.exceptions import FlowError, OptionError
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.launching import prepare
from dask_taskrunner.packing import Packer


def find_problems(flow: Flow, parameters: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a flow and these values of its parameters.

    Parameters
    ----------
    flow : Flow
        Is not run.
    parameters : mapping
        Values by name. What has none, and no default, is a problem, and does not hide others.

    Returns
    -------
    list of str
        A text for each problem that was found; of tasks that cannot be sent, the first.
    """
    missing = [
        name
        for name, parameter in flow.parameters().items()
        if parameter.required and name not in parameters
    ]
    problems = [f"parameter {name!r} has no value and no default" for name in missing]
    packer = Packer()
    try:
        prepare(
            flow,
            parameters={**parameters, **dict.fromkeys(missing)},
            run_name=None,
            context={},
            return_tasks=None,
            keep="reference",
            task_defaults={},
            packer=packer,
        )
    except (FlowError, OptionError) as error:
        return [*problems, str(error)]
    return [*problems, *packer.warnings]
