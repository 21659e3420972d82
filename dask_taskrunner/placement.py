"""Which workers may run what, and why nothing runs, from what is known of the workers.

It knows plain data: no Dask, and no flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

#: So many are named where there may be many.
_NAMED = 3
#: Why a worker pauses.
_FULL = "their memory is nearly full"


class WorkerView(NamedTuple):
    """What is known of a worker.

    Attributes
    ----------
    address, name : str
        Either may stand in the option ``workers``, and so may the host of the address.
    threads : int
        How many tasks it runs at a time.
    resources : mapping
        What it has besides.
    executing : int
        How many tasks it runs now, of whomever.
    is_paused : bool
        True where it begins nothing more for a while, because its memory is nearly full.
    """

    address: str
    name: str
    threads: int
    resources: Mapping[str, float]
    executing: int
    is_paused: bool = False

    def is_meant(self, names: Sequence[str]) -> bool:
        """Return whether one of these names, addresses or hosts is this worker's."""
        host = self.address.rpartition("://")[2].rpartition(":")[0]
        return bool({self.address, self.name, host} & set(names))


class Need(NamedTuple):
    """What a task run asks of a worker."""

    slug: str
    resources: Mapping[str, float] | None
    workers: tuple[str, ...] | None


def lacking(need: Need, workers: Sequence[WorkerView]) -> str | None:
    """Return what no worker has of what a task run needs, in words, or None.

    Parameters
    ----------
    need : Need
        Of the task run.
    workers : sequence of WorkerView
        All there are.
    """
    meant = workers
    if need.workers is not None:
        meant = [worker for worker in workers if worker.is_meant(need.workers)]
        if not meant:
            names = " or ".join(map(repr, need.workers))
            there = _some(worker.name for worker in workers)
            return f"{need.slug} may only run on {names}, and there is no such worker: {there}"
    for name, amount in (need.resources or {}).items():
        most = max((worker.resources.get(name, 0.0) for worker in meant), default=0.0)
        if most < amount:
            has = f"has more than {name}={most:g}" if most else "has that"
            return f"{need.slug} needs {name}={amount:g}, and no worker {has}"
    return None


#: Why a task run waits that was sent: no worker suits it; what it needs is taken; all threads are
#: busy; nothing of all this.
Wait: TypeAlias = Literal["no-worker", "limit", "busy", "open"]


def why_it_waits(
    need: Need, workers: Sequence[WorkerView], holders: Mapping[str, Sequence[Need]]
) -> tuple[Wait, str]:
    """Return why a task run that was sent does not begin.

    Parameters
    ----------
    need : Need
        Of the task run.
    workers : sequence of WorkerView
        All there are.
    holders : mapping
        Address of a worker -> needs of what is known to run there.
    """
    lacks = lacking(need, workers) if workers else "no worker is connected"
    if lacks is not None:
        return "no-worker", lacks
    suited = [one for one in workers if lacking(need, [one]) is None]
    if not suited:
        return "no-worker", f"{need.slug} asks for more than any one worker has"
    for name, amount in (need.resources or {}).items():
        open_ = [one for one in suited if _left(one, name, holders) >= amount]
        if not open_:
            there = [other for one in suited for other in holders.get(one.address, ())]
            by = _listed(other.slug for other in there if name in (other.resources or {}))
            taken = f"what the workers have of that is taken by {by}"
            return "limit", f"{need.slug} needs {name}={amount:g}, and {taken}"
        suited = open_
    where = "1 worker" if len(suited) == 1 else f"{len(suited)} workers"
    where = f"the {where} that {need.slug} may run on"
    full = _all_taken(suited, f"of {where}", where)
    return ("open", "") if full is None else ("busy", full)


def _all_taken(workers: Sequence[WorkerView], all_of: str, where: str) -> str | None:
    """Return why none of some workers begins anything, if that is so."""
    if all(worker.is_paused for worker in workers):
        return f"all {all_of} have paused: {_FULL}"
    threads = sum(worker.threads for worker in workers)
    if sum(worker.executing for worker in workers) >= threads:
        return f"all {threads} threads of {where} are busy"
    return None


def _left(worker: WorkerView, name: str, holders: Mapping[str, Sequence[Need]]) -> float:
    """Return how much of something a worker has left, as far as is known."""
    taken = sum((one.resources or {}).get(name, 0.0) for one in holders.get(worker.address, ()))
    return worker.resources.get(name, 0.0) - taken


def why_nothing_runs(needs: Sequence[Need], workers: Sequence[WorkerView]) -> str:
    """Return why task runs that were sent do not begin.

    Parameters
    ----------
    needs : sequence of Need
        Of those task runs; at least one.
    workers : sequence of WorkerView
        All there are.
    """
    count = "1 task run waits" if len(needs) == 1 else f"{len(needs)} task runs wait"
    if not workers:
        return f"no worker is connected; {count}"
    found = {text: None for need in needs if (text := lacking(need, workers)) is not None}
    if found:
        return "; ".join([*found][:_NAMED])
    where = f"{len(workers)} workers"
    if (taken := _all_taken(workers, where, where)) is not None:
        return f"{count} for a place: {taken}"
    return f"{count}, and none of {where} has begun one"


def _some(names: Iterable[str]) -> str:
    listed = _listed(names)
    return f"there are {listed}" if listed else "there is none at all"


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"
