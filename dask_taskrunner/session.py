"""The task runs that a runner was given one by one: one run that is open until the runner closes.

The same machine, channel and records as a flow's, in a plan that grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dask_taskrunner.backend import Backend, FlowSpec
from dask_taskrunner.batches import ELEMENTS, Batch
from dask_taskrunner.calls import (
    Columns,
    make_task,
    open_runs,
    read_call,
    read_columns,
    read_upstream,
    with_upstream,
)
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import RunnerClosed
from dask_taskrunner.futures_to_come import FuturesToCome
from dask_taskrunner.graph.tasks import Task
from dask_taskrunner.hook_thread import HookThread
from dask_taskrunner.keeping import Holder
from dask_taskrunner.machine.events import NoMoreRuns
from dask_taskrunner.machine.plans import Plan
from dask_taskrunner.observing import OnEvent
from dask_taskrunner.pending_maps import PendingMaps
from dask_taskrunner.session_listener import SessionListener
from dask_taskrunner.stock import Stock
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures


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
    on_event : sequence of callable
        Are told of each change of state.
    """

    def __init__(
        self,
        backend: Backend,
        run_id: str,
        *,
        task_defaults: Mapping[str, Any],
        max_constant_bytes: int,
        warn: Callable[[Sequence[str]], None],
        on_event: Sequence[OnEvent] = (),
    ) -> None:
        self._stock = Stock(backend.foreign, task_defaults, max_constant_bytes)
        self._warn = warn
        self.run_id = run_id
        self.run_name = f"futures-{run_id}"
        context: dict[str, Any] = {
            "flow_name": None,
            "flow_run_id": run_id,
            "run_name": self.run_name,
            "parameters": {},
        }
        self.listener = SessionListener(self.run_name, run_id=run_id, on_event=on_event)
        self._callbacks = HookThread(f"dask-taskrunner-callbacks-{run_id}")
        # No callback of the user's may keep a map from being sent: it may wait for that.
        self._maps = PendingMaps(HookThread(f"dask-taskrunner-maps-{run_id}"), self._no_more)
        hooks = HookThread(f"dask-taskrunner-hooks-{run_id}")
        plan = Plan((), frozenset(), is_open=True)
        spec = FlowSpec(run_id, context, {}, is_open=True)
        self.driver = Driver(plan, spec, backend, hooks, self.listener)
        self.driver.start()

    def close(self) -> None:
        """Let the run end when all that was submitted has ended."""
        self._maps.close()

    def _no_more(self) -> None:
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
        args, kwargs = open_runs(tuple(args)), open_runs(dict(kwargs))
        call = read_call(task, name, args, kwargs, upstream_tasks, self._stock.foreign.types)
        batch = Batch(self._stock, self.driver, name, task)
        batch.find_sources(call)
        batch.add(self._stock.new_slug(name), -1, call)
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
        args, kwargs = open_runs(tuple(args)), open_runs(dict(kwargs))
        types = self._stock.foreign.types
        columns = read_columns(task, name, args, kwargs, types)
        columns.check_known()
        upstream = read_upstream(name, upstream_tasks, types)
        if columns.unknown:
            return self._map_later(task, columns, upstream)
        batch = Batch(self._stock, self.driver, name, task)
        slug = self._fill(batch, columns, upstream)
        return TaskRunFutures(self._send(batch), slug)

    def _fill(
        self, batch: Batch, columns: Columns, upstream: tuple[Any, ...], slug: str = ""
    ) -> str:
        """Put a call for each element into a batch, and return what they are called."""
        calls = [
            with_upstream(columns.name, columns.of(i), upstream, columns.foreign_types)
            for i in range(columns.length())
        ]
        # All of them first: what is upstream has the smaller numbers in a plan.
        for call in calls:
            batch.find_sources(call)
        slug = slug or self._stock.new_slug(columns.name)
        for i, call in enumerate(calls):
            batch.add(f"{slug}[{i}]", i, call)
        return slug

    def _map_later(
        self, task: Task[Any], columns: Columns, upstream: tuple[Any, ...]
    ) -> TaskRunFutures[Any]:
        """Have a call sent for each element as soon as it is known how many there are."""
        # What is the same for all may be wrong in the caller's line.
        packer = self._stock.new_packer()
        slug = self._stock.new_slug(columns.name)
        packer.pack(slug, columns.same_for_all())
        self._warn(packer.warnings)
        measured = {id(source): self._measure(source) for source in columns.unknown.values()}
        futures: FuturesToCome[Any] = FuturesToCome(slug, list(measured.values()))

        def go_on() -> Sequence[TaskRunFuture[Any]]:
            known = columns.replaced(measured)
            batch = Batch(self._stock, self.driver, columns.name, task)
            self._fill(batch, known, upstream, slug)
            return self._send(batch, warns=False)

        self._maps.add(futures, list(measured.values()), go_on)
        return futures

    def _measure(self, source: Any) -> TaskRunFuture[Any]:
        """Send what tells how many elements a result has, and makes them such where it lies."""
        name = ELEMENTS.name
        call = with_upstream(name, {"value": source}, (), self._stock.foreign.types)
        batch = Batch(self._stock, self.driver, name, ELEMENTS)
        batch.find_sources(call)
        batch.add(self._stock.new_slug(name), -1, call)
        return self._send(batch)[0]

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

    def _send(self, batch: Batch, *, warns: bool = True) -> list[TaskRunFuture[Any]]:
        if warns:
            self._warn(batch.packer.warnings)
        futures: list[TaskRunFuture[Any]] = [
            TaskRunFuture(self.driver, self._callbacks, id, slug, batch.definition.max_retries)
            for id, slug in batch.made
        ]
        self.driver.add(tuple(batch.runs), batch.specs)
        for follow in batch.follow:
            follow()
        return futures
