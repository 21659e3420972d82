"""What the runs of one runner take over from each other: results of tasks with ``cache_for``.

A result stays on the cluster; here are the futures that hold the newest ones, until they expire or
the runner closes. Whether one may stand for a run is for the task's validator to say, on a worker,
with the inputs of then and now. It knows no Dask.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from dask_taskrunner.backend import Backend, Channel, FlowSpec, OpensRuns
from dask_taskrunner.code_digests import digest_of
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.events import Event, TaskRunEnded
from dask_taskrunner.planning import FlowPlan

#: The slug of a task run, and the digest of its task's code.
CacheKey: TypeAlias = tuple[str, str]


class _Entry(NamedTuple):
    future: Any
    #: Epoch seconds.
    until: float


class ResultCache:
    """One runner's.

    Parameters
    ----------
    backend : Backend
        Where the results lie.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._entries: dict[CacheKey, _Entry] = {}
        # Results come in on the cluster's threads, and are offered in the users'.
        self._lock = threading.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def prepare(
        self, plan: FlowPlan, backend: Backend, *, offers: bool
    ) -> tuple[FlowPlan, OpensRuns]:
        """Return a plan that begins with cached results, and a backend that tells of new ones.

        Both are what they were where no task has ``cache_for``.

        Parameters
        ----------
        plan : FlowPlan
            From the beginning, or from the middle.
        backend : Backend
            Runs it.
        offers : bool
            Whether earlier results may stand for the runs of this plan.
        """
        keys = _keys(plan)
        if not keys:
            return plan, backend
        found = {}
        for run in plan.machine.runs:
            # A state that the user gives is the one to begin with.
            if offers and run.id in keys and run.given is None:
                future = self._share(keys[run.id])
                if future is not None:
                    found[run.id] = future
        return _beginning_with(plan, found), _Watched(backend, self, keys)

    def _share(self, key: CacheKey) -> Any:
        """Return one more future of a cached result, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            future = None
            if entry.until > time.time():
                future = self._backend.share(entry.future)
            if future is None:
                # Too old, or it went with its worker: the task is just run.
                del self._entries[key]
            return future

    def take(self, key: CacheKey, future: Any, until: float) -> None:
        """Keep a result in place of an older one of the same task."""
        with self._lock:
            if self._is_closed:
                return
            self._entries[key] = _Entry(future, until)
        purge = weakref.WeakMethod(self.purge)
        self._backend.call_later(max(0.0, until - time.time()), lambda: _call(purge))

    def purge(self) -> None:
        """Let go of what is too old."""
        now = time.time()
        with self._lock:
            kept = {key: entry for key, entry in self._entries.items() if entry.until > now}
            self._entries = kept

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._entries = {}

    def close(self) -> None:
        """Let go of everything, and of what may still come."""
        with self._lock:
            self._is_closed = True
            self._entries = {}


def _call(reference: weakref.WeakMethod[Callable[[], None]]) -> None:
    method = reference()
    if method is not None:
        method()


def _keys(plan: FlowPlan) -> dict[TaskRunId, CacheKey]:
    """Return under what the results of a plan's tasks with ``cache_for`` are kept."""
    digests: dict[int, str] = {}
    keys = {}
    for run in plan.machine.runs:
        task = plan.resolved[run.id[0]]
        if task.cache_for is None or run.role != "run":
            continue
        spec = plan.specs[run.id]
        if spec.definition not in digests:
            digests[spec.definition] = digest_of(task)
        keys[run.id] = (run.slug, digests[spec.definition])
    return keys


def _beginning_with(plan: FlowPlan, futures: Mapping[TaskRunId, Any]) -> FlowPlan:
    if not futures:
        return plan
    # When such a run has ended, its future is let go.
    runs = tuple(
        run._replace(settles=True) if run.id in futures else run for run in plan.machine.runs
    )
    specs = {
        id: spec._replace(cached=futures[id]) if id in futures else spec
        for id, spec in plan.specs.items()
    }
    return plan._replace(machine=plan.machine._replace(runs=runs), specs=specs)


class _Watched:
    """Opens a flow run whose results with ``cache_for`` are kept."""

    def __init__(
        self, backend: Backend, cache: ResultCache, keys: Mapping[TaskRunId, CacheKey]
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._keys = keys

    def open_run(self, spec: FlowSpec, post: Callable[[Event], None]) -> Channel:
        """Return a new flow run's channel; ``post`` gets its news."""
        watcher = _Watcher(self._cache, self._keys, post)
        channel = self._backend.open_run(spec, watcher)
        watcher.channel = weakref.ref(channel)
        return channel


class _Watcher:
    """Passes on the news of one flow run, and keeps the results that it tells of."""

    def __init__(
        self,
        cache: ResultCache,
        keys: Mapping[TaskRunId, CacheKey],
        post: Callable[[Event], None],
    ) -> None:
        self._cache = cache
        self._keys = keys
        self._post = post
        #: Weakly: it holds this one.
        self.channel: weakref.ref[Channel] | None = None

    def __call__(self, event: Event) -> None:
        # Before the machine hears of it, who may let go of the future at once.
        if isinstance(event, TaskRunEnded) and event.header is not None:
            header, key = event.header, self._keys.get(event.id)
            # Where no body ran, an earlier result was taken, and that is kept already.
            is_new = header.started is not None and "cached_until" in header.more
            channel = self.channel() if self.channel is not None else None
            if key is not None and is_new and channel is not None:
                future = channel.share(event.id)
                if future is not None:
                    self._cache.take(key, future, header.more["cached_until"])
        self._post(event)
