"""One flow run's futures: commands go in, news comes out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from dask._task_spec import Alias
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from dask_taskrunner.backend import FlowSpec
from dask_taskrunner.dask_backend.hub import Hub
from dask_taskrunner.dask_backend.messages import (
    Key,
    columns,
    key_name,
    pickle_call,
    priority_of,
    resources_of,
    segments,
)
from dask_taskrunner.dask_backend.removals import Removals
from dask_taskrunner.exceptions import ResultLost, ResultReleased
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import (
    BodyBegan,
    ClusterLost,
    Event,
    Loss,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
    ValueLost,
)
from dask_taskrunner.worker.envelope import open_result
from dask_taskrunner.worker.wire import BEGAN_MESSAGE, HEADERS_MESSAGE

#: A finished future is given so many seconds to be heard of before its header is asked for.
HEADER_PATIENCE: Final = 2.0

_CLUSTER_LOST: Final = frozenset({"scheduler-connection-lost", "scheduler-restart"})
_DATA_LOST: Final = frozenset({"lost dependencies", "already forgotten"})


class _Sent:
    """A future, and what was heard of it."""

    __slots__ = ("finished_since", "future", "submission", "upstream_ids")

    def __init__(self, future: Future[Any], submission: Submission) -> None:
        self.future = future
        self.submission = submission.submission
        self.upstream_ids = submission.upstream_ids
        self.finished_since: float | None = None


class DaskChannel:
    """One flow run's futures.

    Parameters
    ----------
    client, hub, bootstrap
        The backend's.
    spec : FlowSpec
        The flow run.
    post : callable
        Gets the news, from any thread.
    """

    def __init__(
        self,
        client: Client,
        hub: Hub,
        bootstrap: Callable[..., Any],
        spec: FlowSpec,
        post: Callable[[Event], None],
    ) -> None:
        self._client = client
        self._hub = hub
        self._bootstrap = bootstrap
        self._spec = spec
        self._post = post
        self._sent: dict[TaskRunId, _Sent] = {}
        self._names = {id: key_name(spec.run, id, run.name) for id, run in spec.runs.items()}
        self._definition: Future[Any] | None = None
        self._definition_key: Key = (f"definition-{spec.run}", -1, 0)
        self._removals = Removals(client, spec.run)
        hub.add(spec.run, self._receive)

    # -- out ------------------------------------------------------------------------------

    def submit(self, runs: Sequence[Submission]) -> None:
        """Send task runs; one message for all that have the same placement."""
        if self._definition is None:
            self._send_definition()
        for segment in segments(runs, self._spec.runs):
            self._send(segment)

    def _send_definition(self) -> None:
        spec = self._spec
        data = pickle.dumps(
            (spec.run, self._client.id, spec.definitions, pickle.dumps(dict(spec.context)))
        )
        # A Dask task that returns it, for scattered data is lost for good with its worker.
        self._definition = self._client.submit(bytes, data, key=self._definition_key, pure=False)

    def _send(self, runs: list[Submission]) -> None:
        specs = [self._spec.runs[run.id] for run in runs]
        keys: list[Key] = [self._key(run.id, run.submission) for run in runs]
        calls = [
            pickle_call(self._spec.run, run, spec) for run, spec in zip(runs, specs, strict=True)
        ]
        futures = self._client.map(
            self._bootstrap,
            calls,
            *columns(self._references(runs)),
            key=keys,
            pure=False,
            priority=priority_of(keys, specs),
            resources=resources_of(specs[0], runs[0].attempt),
            workers=list(specs[0].workers) if specs[0].workers else None,
        )
        for run, future in zip(runs, futures, strict=True):
            self._sent[run.id] = _Sent(future, run)

    def _key(self, id: TaskRunId, submission: int) -> Key:
        return (self._names[id], id[1], submission)

    def _references(self, runs: list[Submission]) -> list[list[Alias]]:
        """Return what each run stands behind; what many stand behind is one object in a message."""
        known: dict[Key, Alias] = {}

        def reference(key: Key) -> Alias:
            return known.get(key) or known.setdefault(key, Alias(key))

        definition = reference(self._definition_key)
        return [
            [
                definition,
                *(
                    reference(self._key(id, value))
                    for id, value in zip(run.upstream_ids, run.upstream, strict=True)
                    if isinstance(value, int)
                ),
            ]
            for run in runs
        ]

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of futures; keys are ours alone, so releasing is cancelling."""
        futures = [sent.future for id in ids if (sent := self._sent.pop(id, None)) is not None]
        if futures:
            # On the loop's own thread, for from here each release would wake it anew.
            cast(Any, self._client.loop).add_callback(_release_all, futures)

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        """Have the header of a finished future made known once more, where the future lies."""
        sent = self._sent.get(id)
        if sent is None or sent.submission != submission:
            return
        # Both an envelope and its wire form have the pickled header at [1], and itemgetter can be
        # received by any process.
        future = self._client.submit(
            operator.itemgetter(1),
            sent.future,
            key=(f"header-{self._spec.run}-{id[0]}", id[1], submission),
            pure=False,
        )
        future.add_done_callback(self._receive_fetched)

    def _receive_fetched(self, done: Future[Any]) -> None:
        if done.status == "finished":
            fields, _ = pickle.loads(done.result())
            self._receive((HEADERS_MESSAGE, fields))

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        """Return a held value, or the exception of a failed run."""
        sent = self._sent.get(id)
        slug = self._spec.runs[id].slug
        if sent is None:
            raise ResultReleased(
                f"the result of {slug} was released when its last reader finished; "
                f"keep it with return_tasks=[{slug!r}]"
            )
        try:
            source = sent.future.result(timeout=timeout)
        except (asyncio.CancelledError, concurrent.futures.CancelledError, KilledWorker) as error:
            raise ResultLost(f"the result of {slug} is gone: {error}") from error
        state = open_result(source).state
        return getattr(state, "exception", None) if state.is_failed() else state.result

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a future of the task run is held."""
        return id in self._sent

    def finish(self) -> None:
        """Let go of what only unfinished runs need."""
        if self._definition is not None:
            self._definition.release()
            self._definition = None

    def close(self) -> None:
        """Let go of everything."""
        self._hub.drop(self._spec.run)
        self.release(list(self._sent))
        self.finish()

    # -- in -------------------------------------------------------------------------------

    def _receive(self, message: Sequence[Any]) -> None:
        """Take in a message; called on the client's event loop, so it only passes on."""
        at = time.monotonic()
        if message[0] == HEADERS_MESSAGE:
            header = Header.from_wire(message[1])
            self._post(TaskRunEnded(at, header.id, header.submission, header))
        elif message[0] == BEGAN_MESSAGE:
            bodies = tuple(
                BodyBegan((n, map_index), submission, execution, started)
                for n, map_index, submission, execution, started in message[3]
            )
            self._post(TaskRunsBegan(at, bodies, message[2]))

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:
        """Look at every future once for what nobody reported."""
        at = time.monotonic()
        events: list[Event] = self._removals.take(at)
        # In the plan's order: an upstream's own loss is told before those that came of it.
        for id, sent in sorted(self._sent.items()):
            status = sent.future.status
            if status == "finished":
                if awaited(id) and self._is_late(sent, at):
                    events.append(TaskRunEnded(at, id, sent.submission, None))
            elif status in ("error", "cancelled"):
                loss = self._loss(id, sent, status)
                if loss is None:
                    return [ClusterLost(at, "the connection to the scheduler was lost")]
                if awaited(id):
                    events.append(TaskRunLost(at, id, sent.submission, loss))
                else:
                    events.append(ValueLost(at, id, sent.submission, loss.text))
        if self._client.status == "closed":
            return [ClusterLost(at, "the Dask client was closed")]
        return events

    @staticmethod
    def _is_late(sent: _Sent, at: float) -> bool:
        if sent.finished_since is None:
            sent.finished_since = at
        if at - sent.finished_since < HEADER_PATIENCE:
            return False
        sent.finished_since = at
        return True

    def _loss(self, id: TaskRunId, sent: _Sent, status: str) -> Loss | None:
        """Say what the end of a future means; None where the whole cluster is lost."""
        error = _error_of(sent.future, status)
        reason = getattr(error, "reason", None)
        if status == "cancelled" and reason in _CLUSTER_LOST:
            return None
        own = self._key(id, sent.submission)
        killed = isinstance(error, KilledWorker)
        if not (killed and error.task == own):
            culprit = self._culprit(sent)
            if culprit is not None:
                return Loss("upstream", str(error), culprit=culprit)
        if killed:
            worker = error.last_worker.address
            # Dask's own text is four sentences, of which only this one is the user's.
            return Loss("killed", f"worker {worker} died", worker, error.allowed_failures + 1)
        if status == "error":
            return Loss("error", f"{type(error).__name__}: {error}")
        return Loss("lost" if reason in _DATA_LOST else "cancelled", str(reason or error))

    def _culprit(self, sent: _Sent) -> TaskRunId | None:
        """Return the direct upstream run whose future ended badly, too."""
        for id in sent.upstream_ids:
            source = self._sent.get(id)
            if source is not None and source.future.status in ("error", "cancelled"):
                return id
        return None


def _release_all(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.release()


def _error_of(future: Future[Any], status: str) -> Any:
    if status == "error":
        return future.exception()
    try:
        future.result(timeout=1)
    except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
        return error
    return None
