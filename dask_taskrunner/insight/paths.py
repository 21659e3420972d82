"""What a flow run's time hung on: the chain that ended last, and how much later all else could be.

Pure: from a reading of the run to a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, overload

from dask_taskrunner.insight.readings import Node, NodeId, Reading
from dask_taskrunner.insight.waits import Spent, places_of, spent
from dask_taskrunner.view.text import format_duration

#: So many steps are written out.
_SHOWN: Final = 20


class Step(NamedTuple):
    """One task run on the critical path.

    Attributes
    ----------
    slug : str
        The task run's.
    task : str
        Its task's name.
    began, ended : float
        Seconds from the run's start: the end of the step before, and its own.
    running, delayed, queued, fetching, overhead : float
        Where these seconds went: in bodies; until a retry was due, or somebody approved; until a
        worker had a place; until its inputs had come from other workers; and the rest, which is
        sending and scheduling.
    """

    slug: str
    task: str
    began: float
    ended: float
    running: float
    delayed: float
    queued: float
    fetching: float
    overhead: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class CriticalPath(Sequence[Step]):
    """The chain of task runs that a flow run's time hung on, first to last.

    Each began when the one before it had ended, and the last one ended last of all.

    Attributes
    ----------
    seconds : float
        From the run's start to its end.
    slack : mapping
        Slug -> by how many seconds that task run could have ended later without the run ending
        later, had all a place; 0 for those on the path. Of what had not ended, nothing.
    """

    def __init__(self, steps: Sequence[Step], seconds: float, slack: Mapping[str, float]) -> None:
        self._steps = tuple(steps)
        self.seconds = seconds
        self.slack = slack

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def spent(self) -> dict[str, float]:
        """Where the time went, all steps together, in seconds.

        By ``running delayed queued fetching overhead``.

        What lies between the last step's end and the run's is overhead, too.
        """
        total = {name: sum(getattr(one, name) for one in self) for name in Spent._fields}
        total["overhead"] += max(0.0, self.seconds - (self[-1].ended if self._steps else 0.0))
        return total

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        return f"<CriticalPath {format_duration(self.seconds)}: {len(self)} task runs>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))


#: What is said of the parts of a step's time.
WORDS: Final = {
    "running": "running",
    "delayed": "waiting for a retry or an approval",
    "queued": "waiting for a place on a worker",
    "fetching": "fetching inputs from other workers",
    "overhead": "overhead",
}


def _lines(path: CriticalPath) -> Iterator[str]:
    parts = ", ".join(told_parts(path.spent)) or "nothing ran"
    yield f"{format_duration(path.seconds)}, of which {parts}"
    width = max((len(step.slug) for step in path), default=0)
    shown = [*path] if len(path) <= _SHOWN else [*path[: _SHOWN // 2], *path[-_SHOWN // 2 :]]
    for place, step in enumerate(shown):
        if len(shown) < len(path) and place == _SHOWN // 2:
            yield f"  ... {len(path) - len(shown)} more"
        told = ", ".join(told_parts(step._asdict())) or "no time"
        yield f"  {step.slug:{width}}  {format_duration(step.seconds)}: {told}"


def told_parts(seconds: Mapping[str, Any]) -> list[str]:
    """Return the parts that are worth a word, the longest first: ``3.0 s running``."""
    parts = sorted(((seconds[name], name) for name in WORDS), reverse=True)
    least = sum(part for part, _ in parts) / 100
    return [
        f"{format_duration(part)} {WORDS[name]}" for part, name in parts if part > max(least, 1e-4)
    ]


def critical_path(reading: Reading) -> CriticalPath:
    """Return what a run's time hung on."""
    places = places_of(reading)
    ranks = {id: rank for rank, id in enumerate(reading.nodes)}
    steps: list[Step] = []
    node = _last(reading.ended, ranks)
    while node is not None:
        # Of a whole the part that ended last is told, and what was over before is none of it.
        if not node.is_whole and node.is_here:
            assert node.ended is not None
            parts = spent(node, places)
            steps.append(Step(node.slug, node.task, node.ready, node.ended, *parts))
        node = _last([reading.nodes[source] for source in node.waits_for], ranks)
    return CriticalPath(steps[::-1], reading.seconds, _slack(reading))


def _last(nodes: Iterable[Node], ranks: Mapping[NodeId, int]) -> Node | None:
    """Return what ended last; of several the one that is furthest downstream."""
    ended = [(node.ended, ranks[node.id], node) for node in nodes if node.ended is not None]
    return max(ended, default=(0.0, 0, None))[2]


def _slack(reading: Reading) -> dict[str, float]:
    """Return by how much later each task run could have ended."""
    nodes = reading.ended
    end = max((node.ended or 0.0 for node in nodes), default=0.0)
    latest: dict[NodeId, float] = {}
    for node in reversed(nodes):
        assert node.ended is not None
        ends_by = latest.setdefault(node.id, end)
        begins_by = ends_by - max(0.0, node.ended - node.ready)
        for source in node.waits_for:
            latest[source] = min(latest.get(source, end), begins_by)
    for node in nodes:
        parts = [latest[source] for source in node.waits_for if source in latest]
        if node.is_whole and parts:
            # It ends with the part that ends last, and none may end later than its readers allow.
            latest[node.id] = min(latest[node.id], max(parts))
    # A task run that has grown ends when all inside has: its whole comes behind its body.
    return {
        node.slug: round(max(0.0, latest[node.id] - (node.ended or 0.0)), 6)
        for node in nodes
        if node.is_here or node.is_whole
    }
