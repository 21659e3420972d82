"""Sends task runs: what each stands behind, under which key, and what goes along in one message."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from dask._task_spec import Alias
from distributed import Client, Future

from dask_taskrunner.backend import Code, Constant, FlowSpec, RunSpec, spec_of
from dask_taskrunner.dask_backend.held import BAD, HeldFutures, Sent, foreign_loss, raised
from dask_taskrunner.dask_backend.messages import (
    Key,
    columns,
    copies_for,
    key_name,
    pickle_call,
    preferring,
    priority_of,
    resources_of,
    segments,
)
from dask_taskrunner.dask_backend.pieces import Pieces
from dask_taskrunner.dask_backend.shared import SharedFutures, unwarned
from dask_taskrunner.dask_backend.shipping import Shipment
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.packing import pickle_whole
from dask_taskrunner.worker.bootstrap import Bootstraps


class Sender:
    """The way out of one flow run's channel.

    Parameters
    ----------
    client : Client
        Sends.
    spec : FlowSpec
        The flow run.
    specs : dict
        Its task runs, of which there may be more later.
    held : HeldFutures
        Where the futures go.
    bootstraps : Bootstraps
        The functions in the graph.
    ship : Shipment
        Modules that are sent along.
    """

    def __init__(
        self,
        client: Client,
        spec: FlowSpec,
        specs: dict[TaskRunId, RunSpec],
        held: HeldFutures,
        bootstraps: Bootstraps,
        ship: Shipment,
    ) -> None:
        self._client = client
        self._spec = spec
        self._specs = specs
        self._held = held
        self._pieces = Pieces(client, spec.run, held, bootstraps.cut_piece)
        self._names: dict[TaskRunId, str] = {}
        context = pickle_whole(dict(spec.context))
        self._wrapping = _Wrapping(bootstraps.define, spec.run, client.id, context, ship)
        self._shared = SharedFutures(client, spec.run, self._wrapping, forgets=spec.is_open)
        #: What somebody else's lazy values came to.
        self._computed: dict[TaskRunId, Future[Any]] = {}
        #: What other runs have cached, for those that have not ended.
        self._cached: dict[TaskRunId, Future[Any]] = {}
        #: The iteration before, of those that run in loops: its submission and its future.
        self._loops: dict[TaskRunId, tuple[int, Future[Any]]] = {}
        #: Behind which copy of the definitions the next one stands that stands behind nothing.
        self._turn = 0
        #: Submissions that could not be sent: nothing may be sent behind them.
        self._unsent: set[tuple[TaskRunId, int]] = set()
        #: States that wait to be sent with the next message.
        self._given: list[TaskRunId] = []

    def add(self, runs: Mapping[TaskRunId, RunSpec]) -> None:
        """Take note of what runs come with."""
        for id, spec in runs.items():
            if spec.wire is not None:
                self._given.append(id)
            if isinstance(spec.cached, Future):
                self._cached[id] = spec.cached
            for map_index, future in spec.maps.cached.items() if spec.maps else ():
                self._cached[id[0], map_index] = future

    def send(self, runs: Sequence[Submission]) -> list[tuple[Submission, Loss]]:
        """Send task runs, and return those that cannot be, and why."""
        if self._spec.is_open:
            self._wrapping.renew()
        while self._given:
            self._send_given(self._given.pop())
        unsent = []
        for segment in segments(runs, self._specs):
            unsent += self._send(segment)
        return unsent

    def settle(self, id: TaskRunId) -> None:
        """Let go of what only this run needed."""
        self._computed.pop(id, None)
        self._loops.pop(id, None)
        cached = self._cached.pop(id, None)
        if cached is not None:
            cached.release()
        spec = spec_of(self._specs, id)
        if spec is not None:
            needed = (spec.code, *spec.constants) if self._spec.is_open else spec.constants
            self._shared.settle(id, needed)
            if isinstance(spec.cached, Constant):
                self._shared.settle(id, [spec.cached])
            # What a child keeps is its mapped run's, which ends after it.
            if spec.keeps and id in self._specs:
                spec = self._specs[id] = spec._replace(keeps=())
            if self._spec.is_open and spec.constants:
                # Their bytes go with the last run at hand that needs them, and not while another
                # is being submitted that is given the same.
                gone = tuple(Constant(None) for _ in spec.constants)
                self._specs[id] = spec._replace(constants=gone)

    def users_of_bad(self) -> dict[TaskRunId, Future[Any]]:
        """Return the runs behind shared things that will bring nothing, and these."""
        return {**self._shared.users_of_bad(), **dict(self._pieces.users_of_bad())}

    def release(self, ids: Sequence[TaskRunId]) -> None:
        """Let go of what was made of futures that are let go."""
        self._pieces.release(ids)

    def forget(self, id: TaskRunId) -> None:
        """Forget a run of which nobody will speak again."""
        self._names.pop(id, None)
        if self._unsent:
            self._unsent = {unsent for unsent in self._unsent if unsent[0] != id}

    def finish(self) -> None:
        """Let go of what only unfinished runs need."""
        self._computed.clear()
        self._loops.clear()
        cached, self._cached = self._cached, {}
        for future in cached.values():
            future.release()
        self._pieces.release_all()
        self._shared.release_all()

    def _send_given(self, id: TaskRunId) -> None:
        """Send a state instead of what would make it."""
        wire = self._specs[id].wire
        assert wire is not None
        future = self._shared.send(tuple, list(wire), self._key(id, 1))
        self._held.put(id, Sent(future, 1))

    def _send(self, runs: list[tuple[Submission, RunSpec]]) -> list[tuple[Submission, Loss]]:
        calls, rows, keys, sent, copies, unsent = [], [], [], [], [], []
        held, shared = self._held, self._shared
        chosen, self._turn = copies_for(runs, held.copy_of, shared.count_of, self._turn)
        known: dict[Key, Alias] = {}
        preferred: dict[Key, list[str]] = {}
        for (run, spec), copy in zip(runs, chosen, strict=True):
            place = self._pieces.place(run, spec)
            row = self._references(run, spec, place.keys, copy)
            if isinstance(row, Loss):
                unsent.append((run, row))
                self._unsent.add((run.id, run.submission))
                continue
            first = self._first_key(run, spec)
            if first is not None:
                row.append(first)
            calls.append(
                pickle_call(
                    self._spec.run, run, spec, references=len(row) - 1, cached=first is not None
                )
            )
            # What many stand behind is one object in a message.
            rows.append([known.get(key) or known.setdefault(key, Alias(key)) for key in row])
            keys.append(self._key(run.id, run.submission))
            preferred[keys[-1]] = [] if place.worker is None else [place.worker]
            sent.append((run, spec))
            copies.append(copy)
        if sent:
            with unwarned(), preferring(preferred):
                self._map(sent, keys, calls, rows, copies)
        return unsent

    def _map(
        self,
        runs: list[tuple[Submission, RunSpec]],
        keys: list[Key],
        calls: list[bytes],
        rows: list[list[Alias]],
        copies: list[int],
    ) -> None:
        first, spec = runs[0]
        futures = self._client.map(
            # Each task travels by itself from the scheduler to a worker: what it calls is small.
            operator.call,
            *columns(rows, calls),
            key=keys,
            pure=False,
            priority=priority_of(keys, [spec.priority for _, spec in runs]),
            resources=resources_of(spec, first),
            workers=list(spec.workers) if spec.workers else None,
        )
        for (run, spec), future, copy in zip(runs, futures, copies, strict=True):
            behind = self._computed.get(run.id, spec.foreign)
            cached = self._cached.get(run.id)
            sent = Sent(future, run.submission, run.upstream_ids, behind, cached, copy)
            self._held.put(run.id, sent)

    def _key(self, id: TaskRunId, submission: int) -> Key:
        # Of a child it is the mapped run's.
        of = id if id in self._specs else (id[0], -1)
        name = self._names.get(of)
        if name is None:
            name = self._names[of] = key_name(self._spec.run, of, self._specs[of].name)
        return (name, id[1], submission)

    def _references(
        self, run: Submission, spec: RunSpec, pieces: Mapping[TaskRunId, Key], copy: int
    ) -> list[Key] | Loss:
        """Return what a run stands behind, or why that is not to be had."""
        try:
            needed = (spec.code,) if run.expands else (spec.code, *spec.constants)
            row = [self._shared.key_for(shared, run.id, copy) for shared in needed]
        except LookupError:
            return Loss("error", "a large argument of it is not held any more")
        if spec.foreign is not None:
            behind = self._foreign(run.id, spec.foreign)
            return behind if isinstance(behind, Loss) else [*row, cast(Key, behind.key)]
        sources = zip(run.upstream_ids, run.upstream, strict=True)
        sent = [(id, value) for id, value in sources if isinstance(value, int)]
        for id, submission in sent if self._unsent else ():
            if (id, submission) in self._unsent:
                return Loss("upstream", "what is upstream could not be sent", culprit=id)
        row += [pieces.get(id) or self._upstream_key(id, submission) for id, submission in sent]
        return row

    def _first_key(self, run: Submission, spec: RunSpec) -> Key | None:
        """Return the key of what a run begins with, where that does not travel with it."""
        if run.loop_from:
            return self._loop_key(run)
        if isinstance(spec.cached, Constant):
            return self._shared.key_for(spec.cached, run.id)
        cached = self._cached.get(run.id)
        # A cached result that is gone is no reason not to run.
        return None if cached is None or cached.status in BAD else cast(Key, cached.key)

    def _loop_key(self, run: Submission) -> Key:
        """Return the key of the iteration before, which is held until the run has ended."""
        submission, future = self._loops.get(run.id, (0, None))
        if submission != run.loop_from:
            sent = self._held.get(run.id)
            assert sent is not None, run.id
            future = sent.future
            self._loops[run.id] = (run.loop_from, future)
        assert future is not None
        return cast(Key, future.key)

    def _upstream_key(self, id: TaskRunId, submission: int) -> Key:
        sent = self._held.get(id)
        # What was not sent here has a key of another run's.
        if sent is not None and sent.submission == submission:
            return cast(Key, sent.future.key)
        return self._key(id, submission)

    def _foreign(self, id: TaskRunId, foreign: Any) -> Future[Any] | Loss:
        """Return the future of what is somebody else's, or why there is none."""
        future: Future[Any] = foreign
        if not isinstance(foreign, Future):
            if id not in self._computed:
                try:
                    with unwarned():
                        self._computed[id] = self._client.compute(foreign)
                except Exception as error:  # noqa: BLE001 (a lazy value's graph is the user's)
                    return raised(error)
            future = self._computed[id]
        return foreign_loss(future) if future.status in BAD else future


class _Wrapping:
    """Makes of definitions what travels: see :class:`~dask_taskrunner.worker.wire.FlowDefinition`.

    What it makes is another thing as soon as a module that is sent along has been edited.
    """

    def __init__(
        self, define: Callable[..., Any], run: str, topic: str, context: bytes, ship: Shipment
    ) -> None:
        self.define = define
        self._parts = run, topic, context
        self._ship = ship
        self.version = ship.pack()

    def renew(self) -> None:
        """Look at the files again."""
        if self._ship:
            self.version = self._ship.pack()

    def __call__(self, code: Code) -> list[bytes]:
        run, topic, context = self._parts
        definition = pickle.dumps((run, topic, code.tasks, context))
        if not self.version:
            return [definition]
        self._ship.was_sent = True
        names = [(parcel.name, parcel.digest) for parcel in self.version]
        data = [parcel.data for parcel in self.version]
        return [definition, pickle.dumps((self._ship.owner, names)), *data]
