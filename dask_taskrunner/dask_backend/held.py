"""The Dask futures that one flow run holds, and what the end of one of them means."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterable
from typing import Any, Final, cast

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from dask_taskrunner.headers import TaskRunId, describe
from dask_taskrunner.machine.events import ClusterLost, Loss, TaskRunLost, ValueLost
from dask_taskrunner.states import Failed

#: Statuses of a future that will bring nothing.
BAD: Final = frozenset({"error", "cancelled"})
_CLUSTER_LOST: Final = frozenset({"scheduler-connection-lost", "scheduler-restart"})
_CANCELLED: Final = (asyncio.CancelledError, concurrent.futures.CancelledError)
_DATA_LOST: Final = frozenset({"lost dependencies", "already forgotten"})


class Sent:
    """A future, and what was heard of it."""

    __slots__ = (
        "behind", "cached", "copy", "finished_since", "future", "submission", "upstream_ids",
    )  # fmt: skip

    def __init__(
        self,
        future: Future[Any],
        submission: int,
        upstream_ids: tuple[TaskRunId, ...] = (),
        behind: Future[Any] | None = None,
        cached: Future[Any] | None = None,
        copy: int = 0,
    ) -> None:
        #: Behind which copy of the definitions it stands.
        self.copy = copy
        self.future = future
        self.submission = submission
        self.upstream_ids = upstream_ids
        #: The future of somebody else's, of whose value it makes a state.
        self.behind = behind
        #: What it stands behind because another run has cached it.
        self.cached = cached
        self.finished_since: float | None = None

    @property
    def is_bad(self) -> bool:
        """Whether it will bring nothing.

        What is sent behind a future that has failed by then, together with runs behind itself, may
        be left waiting by the scheduler: so it is known by the other one's end.
        """
        status = self.future.status
        if status == "pending" and self.behind is not None:
            status = self.behind.status
        return status in BAD


class HeldFutures:
    """The futures by task run.

    Parameters
    ----------
    client : Client
        Theirs.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: dict[TaskRunId, Sent] = {}
        # Between a look at a future and a second one for its key nobody may release it.
        self._lock = threading.Lock()

    def __contains__(self, id: TaskRunId) -> bool:
        return id in self._sent

    def copy_of(self, id: TaskRunId) -> int | None:
        """Return behind which copy of the definitions a run stands; None where it is not held."""
        sent = self.get(id)
        return None if sent is None else sent.copy

    def get(self, id: TaskRunId) -> Sent | None:
        """Return what is held of a task run."""
        return self._sent.get(id)

    def put(self, id: TaskRunId, sent: Sent) -> None:
        """Hold a future."""
        self._sent[id] = sent

    def all(self) -> Iterable[tuple[TaskRunId, Sent]]:
        """Return all, as they are now."""
        # There may be very many: whoever looks at each of them sorts what is worth it.
        return self._sent.copy().items()

    def release(self, ids: Iterable[TaskRunId]) -> None:
        """Let go of some."""
        with self._lock:
            futures = [sent.future for id in ids if (sent := self._sent.pop(id, None)) is not None]
        if futures:
            # On the loop's own thread, for from here each release would wake it anew.
            cast(Any, self._client.loop).add_callback(_release_all, futures)

    def release_all(self) -> None:
        """Let go of all."""
        self.release(list(self._sent))

    def share(self, id: TaskRunId) -> Future[Any] | None:
        """Return one more future of the same key, or None where none is held."""
        with self._lock:
            sent = self._sent.get(id)
            return None if sent is None else Future(sent.future.key, self._client)

    def loss_of(self, sent: Sent) -> Loss | None:
        """Say what a bad end of a future means; None where the whole cluster is lost."""
        if sent.behind is not None and sent.behind.status in BAD:
            return foreign_loss(sent.behind)
        status = str(sent.future.status)
        error = _error_of(sent.future, status)
        reason = getattr(error, "reason", None)
        if status == "cancelled" and reason in _CLUSTER_LOST:
            return None
        killed = isinstance(error, KilledWorker)
        if not (killed and error.task == sent.future.key):
            culprit = self._culprit(sent)
            if culprit is not None:
                return Loss("upstream", str(error), culprit=culprit)
            if sent.cached is not None and sent.cached.status in BAD:
                return Loss("cached", f"what an earlier run had cached is gone: {error}")
        if killed:
            return _killed(error)
        if status == "error":
            return Loss("error", f"{type(error).__name__}: {error}")
        return Loss("lost" if reason in _DATA_LOST else "cancelled", str(reason or error))

    def end_of(
        self, id: TaskRunId, sent: Sent, at: float, *, is_awaited: bool
    ) -> ClusterLost | TaskRunLost | ValueLost:
        """Return what the bad end of a future is to the machine."""
        loss = self.loss_of(sent)
        if loss is None:
            return ClusterLost(at, "the connection to the scheduler was lost")
        if is_awaited:
            return TaskRunLost(at, id, sent.submission, loss)
        return ValueLost(at, id, sent.submission, loss.text)

    def _culprit(self, sent: Sent) -> TaskRunId | None:
        """Return the direct upstream run whose future ended badly, too."""
        for id in sent.upstream_ids:
            source = self._sent.get(id)
            if source is not None and source.is_bad:
                return id
        return None


def _killed(error: KilledWorker) -> Loss:
    worker = error.last_worker.address
    # Dask's own text is four sentences, of which only this one is the user's.
    return Loss("killed", f"worker {worker} died", worker, error.allowed_failures + 1)


def shared_loss(future: Future[Any]) -> Loss:
    """Say what the bad end of a large argument or a definition means for who stands behind it."""
    error = _error_of(future, str(future.status))
    if isinstance(error, KilledWorker):
        return _killed(error)
    return Loss("lost", f"{future.key!r} is gone: {error}")


def foreign_loss(future: Future[Any]) -> Loss:
    """Say what the bad end of somebody else's future means."""
    error = _error_of(future, str(future.status))
    if isinstance(error, Exception) and not isinstance(error, (KilledWorker, *_CANCELLED)):
        return raised(error)
    return Loss("error", f"the Dask future {future.key!r} is gone: {error}")


def raised(error: BaseException) -> Loss:
    """Return the loss of a run that failed before anything of ours was executed."""
    state = Failed(exception=error)
    return Loss("raised", str(state.message), more=describe(state))


def _release_all(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.release()


def _error_of(future: Future[Any], status: str) -> Any:
    if status == "error":
        return future.exception()
    try:
        future.result(timeout=1)
    except _CANCELLED as error:
        return error
    return None
