"""Sends task runs: what each stands behind, under which key, and what goes along in one message."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any, cast

from dask._task_spec import Alias
from distributed import Client, Future

from dask_taskrunner.backend import Code, Constant, FlowSpec, RunSpec
from dask_taskrunner.dask_backend.held import BAD, HeldFutures, Sent
from dask_taskrunner.dask_backend.messages import (
    Key,
    columns,
    key_name,
    pickle_call,
    priority_of,
    resources_of,
    segments,
)
from dask_taskrunner.dask_backend.shared import SharedFutures
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.commands import Submission


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
    run_task : callable
        The function in the graph.
    """

    def __init__(
        self,
        client: Client,
        spec: FlowSpec,
        specs: dict[TaskRunId, RunSpec],
        held: HeldFutures,
        run_task: Callable[..., Any],
    ) -> None:
        self._client = client
        self._spec = spec
        self._specs = specs
        self._held = held
        self._run_task = run_task
        self._names: dict[TaskRunId, str] = {}
        # No method of this object: what nobody holds any more must go at once.
        wrap = functools.partial(_wrap, spec.run, client.id, pickle.dumps(dict(spec.context)))
        self._shared = SharedFutures(client, spec.run, wrap, forgets=spec.is_open)
        #: What somebody else's lazy values came to.
        self._computed: dict[TaskRunId, Future[Any]] = {}
        #: States that wait to be sent with the next message.
        self.given: list[TaskRunId] = []

    def send(self, runs: Sequence[Submission]) -> list[Submission]:
        """Send task runs, and return those that cannot be: a large argument of theirs is gone."""
        while self.given:
            self._send_given(self.given.pop(), 1)
        gone = []
        for segment in segments(runs, self._specs):
            gone += self._send(segment)
        return gone

    def settle(self, id: TaskRunId) -> None:
        """Let go of what only this run needed."""
        self._computed.pop(id, None)
        spec = self._specs.get(id)
        if spec is not None:
            needed = (spec.code, *spec.constants) if self._spec.is_open else spec.constants
            self._shared.settle(id, needed)
            if spec.keeps:
                spec = self._specs[id] = spec._replace(keeps=())
            if self._spec.is_open and spec.constants:
                # Their bytes go with the last run at hand that needs them, and not while another
                # is being submitted that is given the same.
                gone = tuple(Constant(None) for _ in spec.constants)
                self._specs[id] = spec._replace(constants=gone)

    def forget(self, id: TaskRunId) -> None:
        """Forget a run of which nobody will speak again."""
        self._names.pop(id, None)

    def finish(self) -> None:
        """Let go of what only unfinished runs need."""
        self._computed.clear()
        self._shared.release_all()

    def _send_given(self, id: TaskRunId, submission: int) -> None:
        """Send a state instead of what would make it."""
        wire, key = self._specs[id].wire, self._key(id, submission)
        assert wire is not None
        future = self._shared.send(tuple, list(wire), key)
        self._held.put(id, Sent(future, submission))

    def _send(self, runs: list[Submission]) -> list[Submission]:
        calls, rows, keys, sent, gone = [], [], [], [], []
        known: dict[Key, Alias] = {}
        for run in runs:
            spec = self._specs[run.id]
            if spec.wire is not None:
                self._send_given(run.id, run.submission)
                continue
            row = self._references(run, spec)
            if row is None:
                gone.append(run)
                continue
            has_cached = spec.cached is not None and row[-1] == spec.cached.key
            calls.append(
                pickle_call(self._spec.run, run, spec, references=len(row) - 1, cached=has_cached)
            )
            # What many stand behind is one object in a message.
            rows.append([known.get(key) or known.setdefault(key, Alias(key)) for key in row])
            keys.append(self._key(run.id, run.submission))
            sent.append(run)
        if sent:
            self._map(sent, keys, calls, rows)
        return gone

    def _map(
        self, runs: list[Submission], keys: list[Key], calls: list[bytes], rows: list[list[Alias]]
    ) -> None:
        specs = [self._specs[run.id] for run in runs]
        futures = self._client.map(
            self._run_task,
            calls,
            *columns(rows),
            key=keys,
            pure=False,
            priority=priority_of(keys, specs),
            resources=resources_of(specs[0], runs[0].attempt),
            workers=list(specs[0].workers) if specs[0].workers else None,
        )
        for run, spec, future in zip(runs, specs, futures, strict=True):
            is_foreign = spec.foreign is not None
            self._held.put(
                run.id, Sent(future, run.submission, run.upstream_ids, is_foreign=is_foreign)
            )

    def _key(self, id: TaskRunId, submission: int) -> Key:
        name = self._names.get(id)
        if name is None:
            name = self._names[id] = key_name(self._spec.run, id, self._specs[id].name)
        return (name, id[1], submission)

    def _references(self, run: Submission, spec: RunSpec) -> list[Key] | None:
        """Return what a run stands behind; None where a large argument is gone."""
        try:
            row = [self._shared.key_for(shared, run.id) for shared in (spec.code, *spec.constants)]
        except LookupError:
            return None
        if spec.foreign is not None:
            return [*row, self._foreign_key(run.id, spec.foreign)]
        row += [
            self._upstream_key(id, value)
            for id, value in zip(run.upstream_ids, run.upstream, strict=True)
            if isinstance(value, int)
        ]
        # A cached result that is gone is no reason not to run.
        if spec.cached is not None and spec.cached.status not in BAD:
            row.append(spec.cached.key)
        return row

    def _upstream_key(self, id: TaskRunId, submission: int) -> Key:
        sent = self._held.get(id)
        # What was not sent here has a key of another run's.
        if sent is not None and sent.submission == submission:
            return cast(Key, sent.future.key)
        return self._key(id, submission)

    def _foreign_key(self, id: TaskRunId, foreign: Any) -> Key:
        if isinstance(foreign, Future):
            return cast(Key, foreign.key)
        if id not in self._computed:
            self._computed[id] = self._client.compute(foreign)
        return cast(Key, self._computed[id].key)


def _wrap(run: str, topic: str, context: bytes, code: Code) -> bytes:
    """Return definitions as they travel: a :class:`~dask_taskrunner.worker.wire.FlowDefinition`."""
    return pickle.dumps((run, topic, code.tasks, context))
