"""From a call to runs of an open plan: what it waits for, and what is sent for it.

It sends nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from dask_taskrunner.backend import RunSpec
from dask_taskrunner.calls import Call, fill
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import ArgumentError, ResultReleased, RunnerClosed
from dask_taskrunner.foreign_arguments import FOREIGN, check_foreign
from dask_taskrunner.graph.arguments import find
from dask_taskrunner.graph.tasks import FunctionTask, Task
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.events import ForeignEnded, ResultsWanted
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.sources import record_of_result
from dask_taskrunner.planning import planned_run, workers_of
from dask_taskrunner.stock import Stock
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture


def _value(value: Any) -> Any:
    return value


#: Makes of a result what others can take elements of, where it lies, and tells how many it has.
ELEMENTS: Final[FunctionTask[Any, Any]] = FunctionTask(_value, "elements")

_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, type(None)})


class Batch:
    """The runs of one call of ``submit`` or ``map``, on their way into the plan."""

    def __init__(self, stock: Stock, driver: Driver, name: str, task: Task[Any]) -> None:
        self._measures = task is ELEMENTS
        self._stock = stock
        self._driver = driver
        self._name = name
        # The user's defaults are for the user's tasks.
        self.definition = task if self._measures else stock.resolve(task)
        self._code = stock.code_of(self.definition)
        self.packer = stock.new_packer()
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
        places = {source: place for place, (source, _) in enumerate(upstream)}
        at = {
            id(source): places[found[0]]
            for source, found in zip(call.upstream, sources, strict=True)
        }
        names = _distinct([name for _, name in upstream])
        filled = fill(call, at, self._stock.foreign.types)
        arguments, constants = self.packer.pack(slug, filled)
        definition = self.definition
        spec = RunSpec(
            name=self._name,
            slug=slug,
            code=self._code,
            definition=0,
            arguments=arguments,
            upstream_slugs=names,
            priority=definition.priority,
            resources=definition.resources,
            workers=workers_of(definition),
            constants=constants,
            # What is another run's still has the name that it had there.
            known_as={n: new for n, new in enumerate(names) if new != upstream[n][1]},
            keeps=self._kept(call),
            is_mapped_over=self._measures,
            claims=not definition.rerun_on_loss,
        )
        if self._n is None:
            self._n = self._stock.new_number()
        run_id = (self._n, map_index)
        run = planned_run(run_id, tuple(source for source, _ in upstream), definition, spec)
        owner = definition if definition.state_handlers else None
        self._put(run._replace(settles=True, is_held=True, owner=owner), spec)
        self.made.append((run_id, slug))

    def _kept(self, call: Call) -> tuple[Any, ...]:
        """Return what a call was given that must live on here until it has ended."""
        kept = self._stock.foreign.kept
        if not kept or _PLAIN.issuperset(map(type, call.arguments.values())):
            return ()
        return tuple(find(dict(call.arguments), kept))

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
            if source._driver is self._driver and source._is_held:
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
        check_foreign(future, self._stock.foreign, f"a value given to {self._name}")
        definition = FOREIGN
        slug = self._stock.new_slug(FOREIGN.name)
        spec = RunSpec(
            name=FOREIGN.name, slug=slug, code=self._stock.code_of(definition), definition=0,
            arguments=b"", upstream_slugs=(), foreign=future,
        )  # fmt: skip
        id = (self._stock.new_number(), -1)
        run = planned_run(id, (), definition, spec)
        self._put(run._replace(settles=True), spec)
        return id, slug

    def _import(self, source: TaskRun, value: str) -> tuple[TaskRunId, str]:
        """Let a task run of another run stand for itself in this plan.

        ``value`` is what a user writes for its result.
        """
        theirs, ours = source.driver, self._driver
        if theirs.channel.place is not ours.channel.place:
            raise ArgumentError(
                f"{self._name} was given {source.slug!r}, which ran for another Dask client; pass "
                f"its result, {value}"
            )
        id = (self._stock.new_number(), -1)
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
        theirs, ours = source.driver, self._driver
        record = source.record

        def tell() -> None:
            # It may have grown meanwhile.
            having = record_of_result(record, theirs.machine.records)
            header, future = having.header, None
            if header is not None:
                header = _moved(header, id)
                if not header.stands_alone:
                    future = theirs.channel.share(having.id)
                    header = header if future is not None else None
            ours.post(ForeignEnded(time.monotonic(), id, header, future))
            theirs.drop((record.id,))

        # Else its result might be gone by the time it is told of.
        theirs.post(ResultsWanted(time.monotonic(), (record.id,)))
        self.follow.append(lambda: theirs.when_ended(record.id, tell))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of which no two are the same: a trigger sees the states upstream by them."""
    if len(set(names)) == len(names):
        return tuple(names)
    found: dict[str, None] = {}
    for name in names:
        new = name
        for number in itertools.count(2):
            if new not in found:
                break
            new = f"{name}-{number}"
        found[new] = None
    return tuple(found)


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
