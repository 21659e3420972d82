"""Which flow is being built: the one of the innermost ``with Flow(...)`` block of this thread.

It knows of a flow only what a call needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from dask_taskrunner.exceptions import OutsideFlow


class OpenFlow(Protocol):
    """A flow as those see it who add to it."""

    name: str

    def bind(
        self,
        task: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        upstream_tasks: Iterable[Any] | None = None,
        task_args: Mapping[str, Any] | None = None,
        mapped: bool = False,
        after_each: Iterable[Any] = (),
    ) -> Any:
        """Add a use of a task."""

    groups: dict[str, Any]

    def new_slug(self, name: str) -> str:
        """Return a slug that nothing has."""

    def adopt(self, node: Any, defaults: Mapping[str, Any], slug: str = "") -> Any:
        """Add a copy of a task of another flow, without its arguments."""

    def connect(self, edges: Iterable[Any]) -> None:
        """Add edges."""

    def has(self, node: Any) -> Any:
        """Return a node of the flow; raise for any other."""

    def add_task(self, task: Any) -> Any:
        """Add a task, or a parameter."""

    def add_edge(self, upstream: Any, downstream: Any, key: str | None = None) -> Any:
        """Let one task wait for another."""

    def upstream_tasks(self, task: Any) -> Any:
        """Return what a task waits for."""

    @property
    def tasks(self) -> Any:
        """All tasks and parameters, in the order of their binding."""

    def __contains__(self, task: object) -> bool:
        """Return whether it is one of them."""


# A tuple, not a list: a thread or an asyncio task that copies the context must not share it.
_open_flows: ContextVar[tuple[OpenFlow, ...]] = ContextVar("dask_taskrunner_open_flows", default=())


def enter(flow: OpenFlow) -> None:
    """Begin a block of `flow`."""
    _open_flows.set((*_open_flows.get(), flow))


def leave() -> None:
    """End the innermost block."""
    _open_flows.set(_open_flows.get()[:-1])


def is_building() -> bool:
    """Whether this thread is inside a block."""
    return bool(_open_flows.get())


def current_flow(what: str, instead: str) -> OpenFlow:
    """Return the flow of the innermost block.

    Raises
    ------
    OutsideFlow
        There is none; `what` was done, and `instead` tells what to do.
    """
    flows = _open_flows.get()
    if not flows:
        raise OutsideFlow(f"{what} outside a flow: do it inside `with Flow(...):`{instead}")
    return flows[-1]
