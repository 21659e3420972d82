"""Finds what is wrong with a flow without a cluster: what a run would say before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dask_taskrunner.backend import Constant, Foreign
from dask_taskrunner.exceptions import (
    FlowError,
    LargeArgument,
    OptionError,
    UnpicklableArgument,
)
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
        A text for each problem that was found: each parameter without a value, each task and each
        argument that cannot be sent; of what is wrong with the graph, the first.
    """
    missing = [
        name
        for name, parameter in flow.parameters().items()
        if parameter.required and name not in parameters
    ]
    packer = _Collecting()
    problems = [f"parameter {name!r} has no value and no default" for name in missing]
    try:
        prepare(
            flow,
            parameters={**parameters, **{name: _ToCome() for name in missing}},
            run_name=None,
            context={},
            return_tasks=None,
            keep="reference",
            task_defaults={},
            packer=packer,
            foreign=_TO_COME,
        )
    except (FlowError, OptionError) as error:
        # The first thing that is wrong may be what was found before.
        packer.problems.setdefault(str(error))
    return [*problems, *packer.problems, *packer.warnings]


class _ToCome:
    """Stands for a value that nobody has given: it may be anything, as that of a future."""


_TO_COME: Final = Foreign((_ToCome,))


class _Collecting(Packer):
    """Tells of all that cannot be sent, and not of the first thing only."""

    def __init__(self) -> None:
        super().__init__()
        #: In order, each once.
        self.problems: dict[str, None] = {}

    def pack_definition(self, task: Any) -> bytes:
        try:
            return super().pack_definition(task)
        except UnpicklableArgument as error:
            self.problems.setdefault(str(error))
            return b""

    def pack(
        self,
        slug: str,
        arguments: Mapping[Any, Any],
        behind: tuple[Constant, ...] = (),
        labels: Sequence[str] = (),
    ) -> tuple[bytes, tuple[Constant, ...]]:
        for name, value in arguments.items():
            try:
                super().pack(slug, {name: value}, behind, labels)
            except (LargeArgument, UnpicklableArgument) as error:
                self.problems.setdefault(str(error))
        return b"", behind
