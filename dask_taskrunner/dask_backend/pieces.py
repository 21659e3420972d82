"""Large lists of which children take elements: cut where they lie, so that no child moves a whole.

A piece is a Dask task behind the list's own future, with the list's state and some of its elements.
Dask makes it again where it is lost. All children of a piece prefer one worker: by itself, Dask
would spread them, and move the piece to each worker that has one.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

from distributed import Client, Future

from dask_taskrunner.backend import RunSpec
from dask_taskrunner.dask_backend.held import BAD, HeldFutures
from dask_taskrunner.dask_backend.messages import Key
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Submission

#: For each thread of a worker, at most: with fewer the last one is waited for, and each costs.
_PIECES_PER_THREAD: Final = 4
#: Seconds for the scheduler's word on its workers; without it Dask places what it is sent.
_PATIENCE: Final = 5.0


class _Cut(NamedTuple):
    """A list that was cut."""

    submission: int
    #: So many elements are in a piece, but for the last one.
    step: int
    futures: list[Future[Any]]
    #: Per piece: the runs that stand behind it.
    readers: list[list[TaskRunId]]
    #: Where pieces are read, in turn; empty where that is not known.
    slots: list[str]


class Place(NamedTuple):
    """What a child stands behind instead of lists, and where it should run."""

    #: By the lists' task runs.
    keys: dict[TaskRunId, Key]
    worker: str | None = None


_NOWHERE: Final = Place({})


class Pieces:
    """The pieces of one flow run's large lists.

    Parameters
    ----------
    client : Client
        Sends them.
    run : str
        The flow run's digits.
    held : HeldFutures
        Where the lists' futures are.
    cut : callable
        The function in the graph.
    """

    def __init__(
        self, client: Client, run: str, held: HeldFutures, cut: Callable[..., Any]
    ) -> None:
        self._client = client
        self._run = run
        self._held = held
        self._cut = cut
        self._cuts: dict[TaskRunId, _Cut] = {}
        self._numbers = itertools.count()

    def place(self, run: Submission, spec: RunSpec) -> Place:
        """Return which pieces a child is to stand behind; they are sent if need be."""
        if run.expands or not spec.splits:
            return _NOWHERE
        keys: dict[TaskRunId, Key] = {}
        worker = None
        for position, limit in spec.splits.items():
            if run.sizes.get(position, 0) <= limit:
                continue
            # Where lists of children are passed as well, these take more than one place.
            place = sum(run.widths.get(before, 1) for before in range(position))
            id, submission = run.upstream_ids[place], run.upstream[place]
            if not isinstance(submission, int):
                continue
            cut = self._cut_of(run, id, submission, run.promised[position])
            if cut is None:
                continue
            number = run.id[1] // cut.step
            cut.readers[number].append(run.id)
            keys[id] = cast(Key, cut.futures[number].key)
            # A user's own word on where it may run is the only one.
            if cut.slots and not spec.workers and not spec.resources:
                worker = cut.slots[number % len(cut.slots)]
        return Place(keys, worker)

    def _cut_of(self, run: Submission, id: TaskRunId, submission: int, length: int) -> _Cut | None:
        cut = self._cuts.get(id)
        if cut is None or cut.submission != submission:
            is_good = False
        else:
            is_good = cut.futures[run.id[1] // cut.step].status not in BAD
        if not is_good:
            self.release([id])
            sent = self._held.get(id)
            if sent is None or sent.submission != submission:
                return None
            cut = self._cuts[id] = self._make(sent.future, submission, length)
        return cut

    def _make(self, source: Future[Any], submission: int, length: int) -> _Cut:
        slots, holders = self._ask(source)
        step = -(-length // min(length, _PIECES_PER_THREAD * max(1, len(slots))))
        starts = range(0, length, step)
        number = next(self._numbers)
        futures = [
            self._client.submit(
                self._cut,
                start,
                start + step,
                source,
                # Each is a group of its own, of one prefix: of many in one group, Dask would take
                # that group for the roots of a graph, and give them to whatever worker is free.
                key=(f"elements-{number}_{n}-{self._run}", -1, 1),
                pure=False,
                workers=holders or None,
                allow_other_workers=bool(holders),
            )
            for n, start in enumerate(starts)
        ]
        return _Cut(submission, step, futures, [[] for _ in starts], slots)

    def _ask(self, source: Future[Any]) -> tuple[list[str], list[str]]:
        """Return the address of a worker for each thread of the cluster, and who has a value."""
        with contextlib.suppress(TimeoutError, OSError):
            ncores, who_has = self._client.sync(
                self._ask_scheduler, source.key, callback_timeout=_PATIENCE
            )
            most = max(ncores.values(), default=0)
            slots = [worker for n in range(most) for worker in sorted(ncores) if ncores[worker] > n]
            return slots, list(who_has)
        return [], []

    async def _ask_scheduler(self, key: Any) -> tuple[dict[str, int], Iterable[str]]:
        scheduler = cast(Any, self._client.scheduler)
        who_has = await scheduler.who_has(keys=[key])
        return await scheduler.ncores(), who_has.get(key, ())

    def users_of_bad(self) -> Iterator[tuple[TaskRunId, Future[Any]]]:
        """Yield the runs that stand behind a piece that will bring nothing, and its future."""
        for cut in list(self._cuts.values()):
            for future, readers in zip(cut.futures, cut.readers, strict=True):
                if future.status in BAD:
                    yield from ((reader, future) for reader in readers)

    def release(self, ids: Iterable[TaskRunId]) -> None:
        """Let go of the pieces of lists that are let go."""
        for id in ids:
            cut = self._cuts.pop(id, None)
            for future in () if cut is None else cut.futures:
                future.release()

    def release_all(self) -> None:
        """Let go of everything."""
        self.release(list(self._cuts))
