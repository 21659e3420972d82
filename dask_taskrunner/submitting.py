"""The half of a runner that runs single calls: tasks and plain functions, without a flow."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from dask_taskrunner.connected import Connected
from dask_taskrunner.driver import Driver
from dask_taskrunner.exceptions import LargeArgumentWarning
from dask_taskrunner.flow_running import frames_to_the_user
from dask_taskrunner.graph.tasks import Task
from dask_taskrunner.session import Session
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures

R = TypeVar("R")


class RunsCalls(Connected):
    """See :class:`~dask_taskrunner.runner.DaskTaskRunner`, which has a backend and is closed."""

    _task_defaults: dict[str, Any]
    _max_constant_bytes: int
    _lock: threading.Lock
    _session: Session | None

    def _keep_going(self, driver: Driver) -> None:
        raise NotImplementedError

    @overload
    def submit(
        self,
        f: Task[R],
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFuture[R]: ...

    @overload
    def submit(
        self,
        f: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFuture[R]: ...

    @overload
    def submit(
        self,
        f: Callable[..., R],
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFuture[R]: ...

    def submit(
        self,
        f: Any,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = (),
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TaskRunFuture[Any]:
        """Run a task, or a function, once: now, and without a flow.

        Parameters
        ----------
        f : Task or callable
            What to run.
        *args, **kwargs
            Its arguments. Futures, task runs of flows (``run[rows]``) and Dask's own futures in
            them, at any depth of lists, tuples, sets, dicts and dataclasses, are upstream runs: the
            call waits for them, under its trigger, and gets their results. A mapped task run is
            the list of its children; how many there are is waited for.
        upstream_tasks : iterable
            Futures and task runs that must have ended first; nothing of theirs is passed.
        task_args : mapping, optional
            Options, and ``name``, for this one run.

        Returns
        -------
        TaskRunFuture
            The result stays on the cluster while it lives.

        Raises
        ------
        RunnerClosed
            This runner, or that of an argument, is closed.
        OptionError, ArgumentError, UnpicklableArgument, LargeArgument, ResultReleased
            The call cannot be sent so; nothing was sent.
        """
        return self._open_session().submit(f, args, kwargs, upstream_tasks, task_args)

    @overload
    def map(
        self,
        f: Task[R],
        /,
        *iterables: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFutures[R]: ...

    @overload
    def map(
        self,
        f: Callable[..., Coroutine[Any, Any, R]],
        /,
        *iterables: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFutures[R]: ...

    @overload
    def map(
        self,
        f: Callable[..., R],
        /,
        *iterables: Any,
        upstream_tasks: Iterable[Any] = ...,
        task_args: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> TaskRunFutures[R]: ...

    def map(
        self,
        f: Any,
        /,
        *iterables: Any,
        upstream_tasks: Iterable[Any] = (),
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TaskRunFutures[Any]:
        """Run a task, or a function, once for each element.

        Parameters
        ----------
        f : Task or callable
            What to run.
        *iterables, **kwargs
            Its arguments: equally long lists or other iterables, of whose elements each run gets
            one, and what is the same for all as ``unmapped(value)``. A future or a task run of
            a list is mapped over as well: its elements stay on the cluster.
        upstream_tasks, task_args
            As :meth:`submit` takes them.

        Returns
        -------
        TaskRunFutures
            In the order of the elements. Where their number is not known yet, ``len`` and whatever
            else asks for the futures waits for that, and raises what is wrong with the list.

        Raises
        ------
        ArgumentError
            Something cannot be mapped over, or the lengths differ.
        RunnerClosed, OptionError, UnpicklableArgument, LargeArgument, ResultReleased
            As :meth:`submit`.
        """
        return self._open_session().map(f, iterables, kwargs, upstream_tasks, task_args)

    def _open_session(self) -> Session:
        self._check_open()
        backend = self._backend
        with self._lock:
            session = self._session
            if session is None:
                session = self._session = Session(
                    backend,
                    uuid.uuid4().hex[:8],
                    task_defaults=self._task_defaults,
                    max_constant_bytes=self._max_constant_bytes,
                    warn=_warn,
                    on_event=self._on_event,
                )
        self._keep_going(session.driver)
        return session


def _warn(texts: Sequence[str]) -> None:
    for text in texts:
        warnings.warn(text, LargeArgumentWarning, stacklevel=frames_to_the_user())
