"""One flow run's futures: commands go in, news comes out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import operator
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from dask_taskrunner.backend import FlowSpec, RunSpec, spec_of
from dask_taskrunner.clocks import REAL_CLOCK
from dask_taskrunner.dask_backend.claimed import Claims
from dask_taskrunner.dask_backend.held import HeldFutures, Sent, shared_loss
from dask_taskrunner.dask_backend.hub import Hub
from dask_taskrunner.dask_backend.removals import Removals
from dask_taskrunner.dask_backend.roll_call import Patience, RollCall
from dask_taskrunner.dask_backend.sending import Sender
from dask_taskrunner.dask_backend.shipping import Shipment
from dask_taskrunner.exceptions import ResultLost, ResultNotSerializable, ResultReleased
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.logs import LogStore, read_group
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import (
    BodyBegan,
    ClusterLost,
    Event,
    TaskRunEnded,
    TaskRunLost,
    TaskRunsBegan,
)
from dask_taskrunner.placement import Need, WorkerView
from dask_taskrunner.worker.bootstrap import Bootstraps
from dask_taskrunner.worker.envelope import Received, open_result, wire_of
from dask_taskrunner.worker.wire import BEGAN_MESSAGE, HEADERS_MESSAGE, LINES_MESSAGE

#: A finished future is given so many seconds to be heard of before its header is asked for.
HEADER_PATIENCE: Final = 2.0


class DaskChannel:
    """One flow run's futures.

    Parameters
    ----------
    client, hub, bootstraps
        The backend's.
    spec : FlowSpec
        The flow run.
    post : callable
        Gets the news, from any thread.
    """

    clock = REAL_CLOCK

    def __init__(
        self,
        client: Client,
        hub: Hub,
        bootstraps: Bootstraps,
        spec: FlowSpec,
        post: Callable[[Event], None],
        patience: Patience,
        ship: Shipment,
    ) -> None:
        self.stall_timeout = patience.stall
        self._cluster_timeout = patience.cluster
        self._client = client
        self._hub = hub
        self._bootstraps = bootstraps
        self._spec = spec
        self._specs: dict[TaskRunId, RunSpec] = {}
        self.logs = LogStore()
        self._post = post
        self._held = HeldFutures(client)
        self._sender = Sender(client, spec, self._specs, self._held, bootstraps, ship)
        self._numbers = itertools.count(1)
        self._removals = Removals(client, spec.run)
        self._claims = Claims(client, spec.run)
        self._roll = RollCall(client)
        self.add(spec.runs)
        hub.add(spec.run, self._receive)

    @property
    def place(self) -> object:
        """The client."""
        return self._client

    def add(self, runs: Mapping[TaskRunId, RunSpec]) -> None:
        """Take note of task runs that will be submitted later."""
        self._specs.update(runs)
        self._sender.add(runs)
        self._claims.expect(runs)
        for id, spec in runs.items():
            if spec.held is not None:
                self.hold(id, spec.held)

    def hold(self, id: TaskRunId, future: Any) -> None:
        """Take over what :meth:`share` of another channel gave as a task run's future."""
        self._held.put(id, Sent(future, 1))

    def submit(self, runs: Sequence[Submission]) -> None:
        """Send task runs; one message for all that have the same placement."""
        self._claims.add(runs)
        for run, loss in self._sender.send(runs):
            self._post(TaskRunLost(time.monotonic(), run.id, run.submission, loss))

    def settle(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of what only these task runs needed, which have ended."""
        for id in ids:
            self._sender.settle(id)

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of futures; keys are ours alone, so releasing is cancelling."""
        self._held.release(ids)
        self._sender.release(ids)

    def forget(self, ids: Sequence[TaskRunId]) -> None:
        """Forget task runs of which nobody will speak again."""
        for id in ids:
            self._specs.pop(id, None)
            self._sender.forget(id)
        self.logs.forget(ids)

    def fetch_header(self, id: TaskRunId, submission: int) -> None:
        """Have the header of a finished future made known once more, where the future lies."""
        sent = self._held.get(id)
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

    # -- values ---------------------------------------------------------------------------

    def fetch(self, id: TaskRunId, timeout: float | None) -> Any:
        """Return a held value, or the exception of a failed run."""
        sent = self._held.get(id)
        if sent is None:
            raise self._released(id)
        try:
            source = sent.future.result(timeout=timeout)
        except (asyncio.CancelledError, concurrent.futures.CancelledError, KilledWorker) as error:
            # The client keeps this error, and with its frames the future that raised it.
            error.with_traceback(None)
            raise ResultLost(f"the result of {self._slug(id)} is gone: {error}") from error
        state = open_result(source).state
        return getattr(state, "exception", None) if state.is_failed() else state.result

    def fetch_many(self, ids: Sequence[TaskRunId], timeout: float | None) -> dict[TaskRunId, Any]:
        """Return those of the held values that can be had, in one message."""
        held = {id: sent.future for id in ids if (sent := self._held.get(id)) is not None}
        good = {id: future for id, future in held.items() if future.status == "finished"}
        if not good:
            # For nothing, too, Dask would wait until a scheduler that is gone has come back.
            return {}
        sources = self._client.sync(
            _gather, self._client, list(good.values()), callback_timeout=timeout
        )
        if len(sources) != len(good):
            return {}
        found = {}
        for id, source in zip(good, sources, strict=True):
            received = Received(source)
            # One that cannot be opened says so when it is asked for alone.
            with contextlib.suppress(ResultNotSerializable):
                received.open()
                if received.state.is_successful():
                    found[id] = received.state.result
        return found

    def _slug(self, id: TaskRunId) -> str:
        # An open run forgets what nobody holds, and somebody may ask all the same.
        spec = spec_of(self._specs, id)
        return f"task run {id[0]}" if spec is None else spec.slug

    def _released(self, id: TaskRunId) -> ResultReleased:
        slug = self._slug(id)
        if self._spec.is_open:
            return ResultReleased(f"the result of {slug} was released: future.release() was called")
        return ResultReleased(
            f"the result of {slug} was released when its last reader finished; "
            f"keep it with return_tasks=[{slug!r}]"
        )

    def holds(self, id: TaskRunId) -> bool:
        """Return whether a future of the task run is held."""
        return id in self._held

    def share(self, id: TaskRunId) -> Any:
        """Return a future of the state of a task run for somebody else, or None if it is gone."""
        return self._held.share(id)

    def value_future(self, id: TaskRunId, header: Header) -> Future[Any]:
        """Return a Dask future of the plain value of a state, opened where it lies."""
        source = self.share(id)
        if source is None and header.is_complete:
            source = wire_of(header, self._slug(id))
        if source is None:
            raise self._released(id)
        key = (f"value-{self._spec.run}-{id[0]}", id[1], next(self._numbers))
        return self._client.submit(self._bootstraps.open_value, source, key=key, pure=False)

    # -- ends -----------------------------------------------------------------------------

    def look(self, timeout: float = 0.0) -> list[WorkerView] | None:
        """Ask who is there, and return the newest answer, if there has been one."""
        return self._roll.ask(timeout) if timeout else self._roll.call()

    def need(self, id: TaskRunId, slug: str) -> Need:
        """Return what a task run that was sent asks of a worker."""
        spec = self._specs.get(id) or self._specs[id[0], -1]
        resources = None if callable(spec.resources) else spec.resources
        return Need(slug, resources, spec.workers)

    def finish(self) -> None:
        """Let go of what only unfinished runs need."""
        self._sender.finish()
        self._claims.clear()

    def close(self) -> None:
        """Let go of everything."""
        self._hub.drop(self._spec.run)
        self._held.release_all()
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
        elif message[0] == LINES_MESSAGE:
            id, lines = read_group(message[1], message[2])
            # A late line does not bring back a run that was forgotten.
            self.logs.add(id, lines, lambda: spec_of(self._specs, id) is not None)

    def sweep(self, awaited: Callable[[TaskRunId], bool]) -> list[Event]:
        """Look at every future once for what nobody reported."""
        at = time.monotonic()
        events: list[Event] = self._removals.take(at)
        stuck = self._sender.users_of_bad()
        bad: list[tuple[TaskRunId, Sent]] = []
        for id, sent in self._held.all():
            if sent.future.status == "finished":
                if awaited(id) and _is_late(sent, at):
                    events.append(TaskRunEnded(at, id, sent.submission, None))
            elif sent.is_bad or id in stuck:
                bad.append((id, sent))
        # In the plan's order: an upstream's own loss is told before those that came of it.
        for id, sent in sorted(bad):
            if not sent.is_bad:
                if awaited(id):
                    events.append(TaskRunLost(at, id, sent.submission, shared_loss(stuck[id])))
                continue
            end = self._held.end_of(id, sent, at, is_awaited=awaited(id))
            if isinstance(end, ClusterLost):
                return [end]
            events.append(end)
        lost = self._lost(at)
        return events if lost is None else [lost]

    def _lost(self, at: float) -> ClusterLost | None:
        """Return what ends all, where no future has said so."""
        if self._client.status == "closed":
            return ClusterLost(at, "the Dask client was closed")
        silence = self._removals.silent_for(at)
        if silence > self._cluster_timeout:
            return ClusterLost(at, f"the scheduler has not answered for {silence:.0f} s")
        return None


def _is_late(sent: Sent, at: float) -> bool:
    if sent.finished_since is None:
        sent.finished_since = at
    if at - sent.finished_since < HEADER_PATIENCE:
        return False
    sent.finished_since = at
    return True


async def _gather(client: Client, futures: list[Future[Any]]) -> list[Any]:
    # Like gather(), which has no timeout; with asynchronous=True it is a coroutine.
    found: list[Any] = await client.gather(futures, errors="skip", asynchronous=True)
    return found
