"""A flow run without a machine: the test sends what it likes, and takes in what comes."""

from __future__ import annotations

import queue
import time
from typing import Any

from dask_taskrunner import Flow
from dask_taskrunner.backend import Backend, FlowSpec
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.machine.events import Event, TaskRunEnded, TaskRunsBegan
from dask_taskrunner.packing import Packer
from dask_taskrunner.planning import FlowPlan, plan_flow

#: What takes longer has failed.
PATIENCE = 20.0


class BareRun:
    """One flow run's channel, and what was heard on it."""

    def __init__(self, backend: Backend, flow: Flow) -> None:
        self.plan: FlowPlan = plan_flow(
            flow, {}, task_defaults={}, keep="all", return_tasks=None, packer=Packer()
        )
        self.news: queue.Queue[Event] = queue.Queue()
        spec = FlowSpec(
            f"{time.monotonic_ns() % 16**8:08x}", {"region": "eu"}, self.plan.specs
        )  # fmt: skip
        self.channel = backend.open_run(spec, self.news.put)
        self.headers: dict[tuple[str, int], Header] = {}
        self.began: list[TaskRunsBegan] = []

    def id(self, slug: str) -> TaskRunId:
        return self.plan.ids[slug]

    def submission(
        self, slug: str, number: int = 1, *, run_number: int = 1, **upstream: int | Header
    ) -> Submission:
        """Return a submission; upstream runs are named, else behind their first submission."""
        run = self.plan.machine.runs[self.id(slug)[0]]
        slugs = self.plan.specs[self.id(slug)].upstream_slugs
        sources = tuple(upstream.get(source.replace("-", "_"), 1) for source in slugs)
        return Submission(run.id, number, run_number, number, run.upstream, sources)

    def send(self, *slugs: str) -> None:
        self.channel.submit([self.submission(slug) for slug in slugs])

    def hear(self, slug: str, submission: int = 1) -> Header:
        """Wait for the news of an execution's end."""
        while (slug, submission) not in self.headers:
            event = self.news.get(timeout=PATIENCE)
            if isinstance(event, TaskRunsBegan):
                self.began.append(event)
            elif isinstance(event, TaskRunEnded) and event.header is not None:
                assert (event.id, event.submission) == (event.header.id, event.header.submission)
                name = self.plan.specs[event.id].slug
                self.headers[name, event.submission] = event.header
        return self.headers[slug, submission]

    def fetch(self, slug: str, timeout: float | None = PATIENCE) -> Any:
        return self.channel.fetch(self.id(slug), timeout)
