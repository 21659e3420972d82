"""The task runs that a runner was given one by one: one run that is open until the runner closes.

The same machine, channel and records as a flow's, in a plan that grows.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

from dask_taskrunner.backend import Backend, Code, Constant, FlowSpec, RunSpec
from dask_taskrunner.calls import (
    Call,
    fill,
    make_task,
    read_call,
    read_columns,
    read_upstream,
    with_upstream,
)
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import ArgumentError, ResultReleased, RunnerClosed
from dask_taskrunner.graph.tasks import Task
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.keeping import Holder
from dask_taskrunner.machine.events import ForeignEnded, NoMoreRuns, ResultsWanted
from dask_taskrunner.machine.records import Plan, PlannedRun
from dask_taskrunner.packing import Packer, pickle_task
from dask_taskrunner.planning import FOREIGN, planned_run, workers_of
from dask_taskrunner.session_listener import SessionListener
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
#: So many definitions of importable functions are remembered.
_REMEMBERED = 256


class Session:
    """What was submitted to one runner.

    Parameters
    ----------
    backend : Backend
        The cluster.
    run_id : str
        Eight hexadecimal digits.
    task_defaults : mapping
        The runner's.
    max_constant_bytes : int
        A larger argument is an error.
    warn : callable
        Gets what the caller is to be warned of.
    """

    def __init__(
        self,
        backend: Backend,
        run_id: str,
        *,
        task_defaults: Mapping[str, Any],
        max_constant_bytes: int,
        warn: Callable[[Sequence[str]], None],
    ) -> None:
        self._foreign_types = backend.foreign_types
        self._task_defaults = task_defaults
        self._max_constant_bytes = max_constant_bytes
        self._warn = warn
        self.run_id = run_id
        self.run_name = f"futures-{run_id}"
        context: dict[str, Any] = {
            "flow_name": None,
            "flow_run_id": run_id,
            "run_name": self.run_name,
            "parameters": {},
        }
        self.listener = SessionListener(self.run_name)
        self._callbacks = HookThread(f"dask-taskrunner-callbacks-{run_id}")
        hooks = HookThread(f"dask-taskrunner-hooks-{run_id}")
        plan = Plan((), frozenset(), is_open=True)
        spec = FlowSpec(run_id, context, {}, is_open=True)
        self.driver = Driver(plan, spec, backend, hooks, self.listener)
        self._numbers = itertools.count()
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._codes: weakref.WeakValueDictionary[bytes, Code] = weakref.WeakValueDictionary()
        self._constants: weakref.WeakValueDictionary[bytes, Constant] = (
            weakref.WeakValueDictionary()
        )
        #: Importable functions and their codes: by identity, for what they are cannot change.
        self._importable: dict[int, tuple[Task[Any], Code]] = {}
        self.driver.start()

    def close(self) -> None:
        """Let the run end when all that was submitted has ended."""
        self.driver.post(NoMoreRuns(time.monotonic()))
        self.driver.hurry()

    @property
    def holder(self) -> Holder:
        """What a closing runner keeps results by."""
        return Holder(self.driver, self.listener.add_note)

    # -- calls ----------------------------------------------------------------------------

    def submit(
        self,
        f: Any,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        upstream_tasks: Iterable[Any],
        task_args: Mapping[str, Any] | None,
    ) -> TaskRunFuture[Any]:
        """Send one call of a task or a function."""
        self._check_alive()
        name, task = make_task(f, task_args)
        call = read_call(task, name, args, kwargs, upstream_tasks, self._foreign_types)
        batch = _Batch(self, name, task)
        batch.find_sources(call)
        batch.add(self._new_slug(name), -1, call)
        return self._send(batch)[0]

    def map(
        self,
        f: Any,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        upstream_tasks: Iterable[Any],
        task_args: Mapping[str, Any] | None,
    ) -> TaskRunFutures[Any]:
        """Send a call for each element."""
        self._check_alive()
        name, task = make_task(f, task_args)
        columns = read_columns(task, name, args, kwargs)
        upstream = read_upstream(name, upstream_tasks, self._foreign_types)
        batch = _Batch(self, name, task)
        calls = [
            with_upstream(name, columns.of(i), upstream, self._foreign_types)
            for i in range(columns.length)
        ]
        # All of them first: what is upstream has the smaller numbers in a plan.
        for call in calls:
            batch.find_sources(call)
        slug = self._new_slug(name)
        for i, call in enumerate(calls):
            batch.add(f"{slug}[{i}]", i, call)
        return TaskRunFutures(self._send(batch), slug)

    def _check_alive(self) -> None:
        """Refuse what could not be sent any more.

        Raises
        ------
        ClusterLost, RunnerClosed
            The run is over.
        """
        if self.driver.final is not None:
            error = self.driver.error
            raise error if error is not None else RunnerClosed("this DaskTaskRunner is closed")

    def _send(self, batch: _Batch) -> list[TaskRunFuture[Any]]:
        self._warn(batch.packer.warnings)
        futures: list[TaskRunFuture[Any]] = [
            TaskRunFuture(self.driver, self._callbacks, id, slug, batch.definition.max_retries)
            for id, slug in batch.made
        ]
        self.driver.add(tuple(batch.runs), batch.specs)
        for follow in batch.follow:
            follow()
        return futures

    # -- what calls share -----------------------------------------------------------------

    def _new_slug(self, name: str) -> str:
        with self._lock:
            number = self._names[name] = self._names.get(name, 0) + 1
        return name if number == 1 else f"{name}-{number}"

    def resolve(self, task: Task[Any]) -> Task[Any]:
        """Return a task with the runner's defaults."""
        return task.with_defaults({}, self._task_defaults)

    def code_of(self, task: Task[Any]) -> Code:
        """Return the code of a task, pickled anew where it may have changed since the last call."""
        known = self._importable.get(id(task.body))
        if known is not None and _is_same(known[0], task):
            return known[1]
        data = pickle_task(task)
        with self._lock:
            code = self._codes.get(data)
            if code is None:
                code = self._codes[data] = Code((data,))
        # What is pickled by value takes along what it refers to, and that may change; an object
        # takes along its attributes, and they may.
        is_function = isinstance(task.body, (FunctionType, BuiltinFunctionType, type))
        is_fixed = is_function and b"cloudpickle" not in data
        if is_fixed and len(self._importable) < _REMEMBERED:
            self._importable[id(task.body)] = (task, code)
        return code

    def share(self, data: bytes) -> Constant:
        """Return a constant for a pickle: the same one as long as somebody needs it."""
        digest = hashlib.blake2b(data, digest_size=32).digest()
        with self._lock:
            constant = self._constants.get(digest)
            if constant is None:
                constant = self._constants[digest] = Constant(data)
            return constant

    def new_packer(self) -> Packer:
        """Return what packs the arguments of one call."""
        return Packer(self._max_constant_bytes, self.share)

    def new_number(self) -> int:
        """Return the next position in the plan."""
        return next(self._numbers)


def _is_same(one: Task[Any], other: Task[Any]) -> bool:
    """Return whether two tasks of the same body have the same options."""
    return one.body is other.body and one.explicit_options == other.explicit_options


class _Batch:
    """The runs of one call of ``submit`` or ``map``, on their way into the plan."""

    def __init__(self, session: Session, name: str, task: Task[Any]) -> None:
        self._session = session
        self._name = name
        self.definition = session.resolve(task)
        self._code = session.code_of(self.definition)
        self.packer = session.new_packer()
        self.runs: list[PlannedRun] = []
        self.specs: dict[TaskRunId, RunSpec] = {}
        #: The runs that the caller gets futures of.
        self.made: list[tuple[TaskRunId, str]] = []
        #: What is to be done once the runs are in the plan.
        self.follow: list[Callable[[], None]] = []
        #: By the id of what they stand for: where it is in the plan, and its slug.
        self._sources: dict[int, tuple[TaskRunId, str]] = {}
        self._n: int | None = None

    def find_sources(self, call: Call) -> None:
        """Add what a call waits for, where the plan does not have it."""
        for source in call.upstream:
            self._source(source)

    def add(self, slug: str, map_index: int, call: Call) -> None:
        """Add the run of a call whose sources are there."""
        sources = [self._source(source) for source in call.upstream]
        # Several may be the same run, such as two futures of one task run.
        upstream = list(dict.fromkeys(sources))
        places = {id: place for place, (id, _) in enumerate(upstream)}
        at = {
            id(source): places[found[0]]
            for source, found in zip(call.upstream, sources, strict=True)
        }
        filled = fill(call, at, self._session._foreign_types)
        arguments, constants = self.packer.pack(slug, filled)
        definition = self.definition
        spec = RunSpec(
            name=self._name,
            slug=slug,
            code=self._code,
            definition=0,
            arguments=arguments,
            upstream_slugs=tuple(name for _, name in upstream),
            priority=definition.priority,
            resources=definition.resources,
            workers=workers_of(definition),
            constants=constants,
            # A collection of the cluster's own refers to what the user may let go.
            keeps=()
            if _PLAIN.issuperset(map(type, call.arguments.values()))
            else (call.arguments,),
        )
        if self._n is None:
            self._n = self._session.new_number()
        run_id = (self._n, map_index)
        run = planned_run(run_id, tuple(id for id, _ in upstream), definition, spec)
        owner = definition if definition.state_handlers else None
        self._put(run._replace(settles=True, is_held=True, owner=owner), spec)
        self.made.append((run_id, slug))

    def _put(self, run: PlannedRun, spec: RunSpec) -> None:
        self.runs.append(run)
        self.specs[run.id] = spec

    # -- upstream -------------------------------------------------------------------------

    def _source(self, source: Any) -> tuple[TaskRunId, str]:
        known = self._sources.get(id(source))
        if known is None:
            known = self._sources[id(source)] = self._find_source(source)
        return known

    def _find_source(self, source: Any) -> tuple[TaskRunId, str]:
        if isinstance(source, TaskRunFuture):
            if source._driver is self._session.driver and source._is_held:
                return source._id, source.slug
            if source._driver.ended.is_set():
                raise RunnerClosed(
                    f"{self._name} was given {source.slug!r}, a future of a closed runner; pass "
                    "its result, future.result(), where that was kept"
                )
            return self._import(source.task_run, "future.result()")
        if isinstance(source, TaskRun):
            return self._import(source, f"run[{source.slug!r}].result()")
        return self._wrap(source)

    def _wrap(self, future: Any) -> tuple[TaskRunId, str]:
        """Make a task run of a future of the cluster's own kind."""
        definition = self._session.resolve(FOREIGN)
        slug = self._session._new_slug(FOREIGN.name)
        spec = RunSpec(
            name=FOREIGN.name, slug=slug, code=self._session.code_of(definition), definition=0,
            arguments=b"", upstream_slugs=(), foreign=future,
        )  # fmt: skip
        id = (self._session.new_number(), -1)
        run = planned_run(id, (), definition, spec)
        self._put(run._replace(settles=True), spec)
        return id, slug

    def _import(self, source: TaskRun, value: str) -> tuple[TaskRunId, str]:
        """Let a task run of another run stand for itself in this plan.

        ``value`` is what a user writes for its result.
        """
        theirs, ours = source.driver, self._session.driver
        if theirs.channel.place is not ours.channel.place:
            raise ArgumentError(
                f"{self._name} was given {source.slug!r}, which ran for another Dask client; pass "
                f"its result, {value}"
            )
        id = (self._session.new_number(), -1)
        spec = RunSpec(
            name=source.slug, slug=source.slug, code=self._code, definition=0, arguments=b"",
            upstream_slugs=(),
        )  # fmt: skip
        run = PlannedRun(id, source.record.plan.name, source.slug, (), max_crash_retries=0)
        header = source.record.header
        if header is None:
            self._follow(source, id)
            self._put(run._replace(role="foreign"), spec)
            return id, source.slug
        if not header.stands_alone:
            spec = spec._replace(held=_shared(source, value))
        self._put(run._replace(role="given", given=_moved(header, id)), spec)
        return id, source.slug

    def _follow(self, source: TaskRun, id: TaskRunId) -> None:
        """Have the end of another run's task run told to this plan."""
        theirs, ours = source.driver, self._session.driver
        record = source.record

        def tell() -> None:
            header = record.header
            if header is not None:
                header = _moved(header, id)
                future = None if header.stands_alone else theirs.channel.share(record.id)
                if future is not None:
                    ours.channel.hold(id, future)
                elif not header.stands_alone:
                    header = None
            ours.post(ForeignEnded(time.monotonic(), id, header))
            theirs.drop((record.id,))

        # Else its result might be gone by the time it is told of.
        theirs.post(ResultsWanted(time.monotonic(), (record.id,)))
        self.follow.append(lambda: theirs.when_ended(record.id, tell))


def _shared(source: TaskRun, value: str) -> Any:
    future = source.driver.channel.share(source.record.id)
    if future is None and source.driver.values.holds(source.record.id):
        raise RunnerClosed(
            f"the result of {source.slug} was fetched when its runner was closed; pass it as a "
            f"value: {value}"
        )
    if future is None:
        raise ResultReleased(
            f"the result of {source.slug} was released when its last reader finished; keep it with "
            f"return_tasks=[{source.slug!r}]"
        )
    return future


def _moved(header: Header, id: TaskRunId) -> Header:
    """Return another run's header as one of this plan."""
    return header._replace(n=id[0], map_index=id[1], submission=1)
