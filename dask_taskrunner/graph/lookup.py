"""How a flow's tasks are named, and found by whatever names them. It knows no edges."""

from __future__ import annotations

from typing import Any

from dask_taskrunner.exceptions import UnknownTask
from dask_taskrunner.graph.suggestions import did_you_mean
from dask_taskrunner.graph.tasks import BoundTask, Node, Task


class Lookup:
    """The bound tasks of one flow, by slug and by the task that was called."""

    def __init__(self, flow_name: str) -> None:
        self._flow_name = flow_name
        self._by_slug: dict[str, BoundTask[Any]] = {}
        self._uses: dict[Task[Any], list[BoundTask[Any]]] = {}
        #: Name -> the number that was last tried for a slug.
        self._numbers: dict[str, int] = {}

    def new_slug(self, name: str) -> str:
        """Return the slug of the next task called `name`, which must then be added."""
        number = self._numbers.get(name, 0) + 1
        # Somebody may have called a task `clean-2` by name.
        while (slug := name if number == 1 else f"{name}-{number}") in self._by_slug:
            number += 1
        self._numbers[name] = number
        return slug

    def add(self, bound: BoundTask[Any], *, is_used: bool = True) -> None:
        """Let a task be found; one inside of a flow that is used as a task, by its slug only."""
        self._by_slug[bound.slug] = bound
        if not is_used:
            return
        self._uses.setdefault(bound.task, []).append(bound)

    def __contains__(self, wanted: object) -> bool:
        return wanted in self._by_slug or wanted in self._uses

    def uses(self, task: Task[Any]) -> list[BoundTask[Any]]:
        """Return the uses of a task."""
        return self._uses.get(task, [])

    def find(self, wanted: object) -> BoundTask[Any]:
        """Return the bound task that a bound task, a slug or a task used once means.

        Raises
        ------
        UnknownTask
            There is none, or more than one.
        """
        flow = f"flow {self._flow_name!r}"
        if isinstance(wanted, Task):
            return self._find_use(wanted, flow)
        if isinstance(wanted, str):
            if wanted not in self._by_slug:
                hint = did_you_mean(wanted, self._by_slug)
                raise UnknownTask(f"{flow} has no task {wanted!r}{hint}")
            return self._by_slug[wanted]
        if not isinstance(wanted, Node):
            raise UnknownTask(f"{wanted!r} is neither a task nor a slug")
        if not isinstance(wanted, BoundTask):
            raise UnknownTask(f"{wanted.slug!r} is a parameter, not a task")
        if self._by_slug.get(wanted.slug) is not wanted:
            raise foreign(wanted, self._flow_name)
        return wanted

    def _find_use(self, task: Task[Any], flow: str) -> BoundTask[Any]:
        uses = self.uses(task)
        if not uses:
            raise UnknownTask(
                f"{flow} does not use this task {task.name!r}; call it inside the flow's block, "
                "or add it with add_task()"
            )
        if len(uses) > 1:
            times = "twice" if len(uses) == 2 else f"{len(uses)} times"
            slugs = ", ".join(repr(bound.slug) for bound in uses)
            raise UnknownTask(f"{flow} uses {task.name} {times}: {slugs}")
        return uses[0]


def foreign(node: Node, flow_name: str) -> UnknownTask:
    """Return the error for a task of another flow."""
    home = vars(node).get("flow")
    where = f"flow {home.name!r}" if home is not None else "a flow that it was pickled without"
    return UnknownTask(
        f"{node.slug!r} was bound in {where} and cannot be used in flow {flow_name!r}; call the "
        "task again inside this flow's block, or join the flows with update()"
    )
