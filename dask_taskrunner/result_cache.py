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

from dask_taskrunner.backend import Backend, Channel, FlowSpec
from dask_taskrunner.code_digests import digest_of
from dask_taskrunner.headers import TaskRunId, child_slug
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

    def of_run(self, backend: Backend, *, offers: bool) -> CachedResults:
        """Return what one flow run has to do with cached results.

        Parameters
        ----------
        backend : Backend
            Runs it.
        offers : bool
            Whether earlier results may stand for its task runs.
        """
        return CachedResults(backend, self, offers=offers)

    def begin(
        self, plan: FlowPlan, *, offers: bool
    ) -> tuple[FlowPlan, Mapping[TaskRunId, CacheKey]]:
        """Return a plan that begins with cached results, and under what new ones are kept.

        Parameters
        ----------
        plan : FlowPlan
            From the beginning, or from the middle.
        offers : bool
            Whether earlier results may stand for the runs of this plan.
        """
        keys = _keys(plan)
        found: dict[TaskRunId, Any] = {}
        for run in plan.machine.runs:
            # A state that the user gives is the one to begin with.
            if not offers or run.id not in keys or run.given is not None:
                continue
            slug, digest = keys[run.id]
            ids = [(run.id, keys[run.id])]
            if run.maps is not None:
                # How many children there will be is not known; there may be results of more.
                n, length = run.id[0], self._children(slug, digest)
                ids = [((n, i), (child_slug(slug, i), digest)) for i in range(length)]
            for id, key in ids:
                future = self._share(key)
                if future is not None:
                    found[id] = future
        return _beginning_with(plan, found), keys

    def _children(self, slug: str, digest: str) -> int:
        """Return up to which index there are results of a mapped task's children."""
        with self._lock:
            keys = [key for key in self._entries if key[1] == digest]
        names = (name[len(slug) + 1 : -1] for name, _ in keys if name.startswith(f"{slug}["))
        return 1 + max((int(name) for name in names if name.isdecimal()), default=-1)

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
    children: dict[TaskRunId, dict[int, Any]] = {}
    for (n, map_index), future in futures.items():
        if map_index >= 0:
            children.setdefault((n, -1), {})[map_index] = future
    begin = {*futures, *children}
    # When such a run has ended, its future is let go.
    runs = tuple(
        run._replace(settles=True) if run.id in begin else run for run in plan.machine.runs
    )
    specs = dict(plan.specs)
    for id in begin & specs.keys():
        spec = specs[id]
        if spec.maps is not None:
            specs[id] = spec._replace(maps=spec.maps._replace(cached=children[id]))
        else:
            specs[id] = spec._replace(cached=futures[id])
    return plan._replace(machine=plan.machine._replace(runs=runs), specs=specs)


class CachedResults:
    """One flow run's: opens it so that its results with ``cache_for`` are kept."""

    def __init__(self, backend: Backend, cache: ResultCache, *, offers: bool) -> None:
        self._backend = backend
        self._cache = cache
        self._offers = offers
        #: Of the task runs so far.
        self._keys: dict[TaskRunId, CacheKey] = {}

    def begin(self, plan: FlowPlan) -> tuple[FlowPlan, Mapping[TaskRunId, CacheKey]]:
        """Return a plan that begins with cached results, and under what new ones are kept."""
        return self._cache.begin(plan, offers=self._offers)

    def watch(self, keys: Mapping[TaskRunId, CacheKey]) -> None:
        """Keep the results of these task runs."""
        self._keys.update(keys)

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
        if self._keys and isinstance(event, TaskRunEnded) and event.header is not None:
            header, key = event.header, self._key(event.id)
            # Where no body ran, an earlier result was taken, and that is kept already.
            is_new = header.started is not None and "cached_until" in header.more
            channel = self.channel() if self.channel is not None else None
            if key is not None and is_new and channel is not None:
                future = channel.share(event.id)
                if future is not None:
                    self._cache.take(key, future, header.more["cached_until"])
        self._post(event)

    def _key(self, id: TaskRunId) -> CacheKey | None:
        key = self._keys.get(id)
        if key is None and id[1] >= 0 and (id[0], -1) in self._keys:
            slug, digest = self._keys[id[0], -1]
            return (child_slug(slug, id[1]), digest)
        return key
