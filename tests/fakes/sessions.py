"""What single calls are submitted to on the fake cluster: a session, called as a runner is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_taskrunner import TaskRunFuture, TaskRunFutures
from dask_taskrunner.packing import MAX_CONSTANT_BYTES
from dask_taskrunner.session import Session
from fakes.fake_backend import FakeBackend, FakeChannel
from fakes.gates import PATIENCE

_run_ids = itertools.count()


class Caller:
    """A session with the calls that a runner has."""

    def __init__(
        self,
        backend: FakeBackend,
        *,
        task_defaults: Mapping[str, Any] | None = None,
        max_constant_bytes: int = MAX_CONSTANT_BYTES,
    ) -> None:
        self.warnings: list[str] = []
        self.session = Session(
            backend,
            f"{next(_run_ids):08x}",
            task_defaults=task_defaults or {},
            max_constant_bytes=max_constant_bytes,
            warn=self._warn,
        )
        self.driver = self.session.driver
        self.channel: FakeChannel = backend.channels[self.session.run_id]

    def _warn(self, texts: Sequence[str]) -> None:
        self.warnings += texts

    def submit(
        self,
        f: Any,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = (),
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TaskRunFuture[Any]:
        return self.session.submit(f, args, kwargs, upstream_tasks, task_args)

    def map(
        self,
        f: Any,
        /,
        *args: Any,
        upstream_tasks: Iterable[Any] = (),
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TaskRunFutures[Any]:
        return self.session.map(f, args, kwargs, upstream_tasks, task_args)

    @property
    def records(self) -> Mapping[Any, Any]:
        return self.driver.machine.records

    def settled(self) -> None:
        """Wait until all that was posted so far has been taken in."""
        marker = self.submit(int)
        marker.result(PATIENCE)

    def leave(self) -> None:
        """End it as leaving ``with`` does, when all that was submitted has ended."""
        self.session.close()
        assert self.driver.ended.wait(PATIENCE), "the session hangs"

    def end(self) -> None:
        """End it as a runner that closes does, whatever still runs."""
        self.driver.cancel("the runner was closed")
        assert self.driver.ended.wait(PATIENCE), "the session hangs"
        self.driver._thread.join(PATIENCE)
        assert self.driver.error is None, self.driver.error
