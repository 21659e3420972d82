"""Makes the plan of a resumed flow run: what is taken over of the earlier one, and in which words.

Which task runs that are is decided elsewhere (:mod:`~dask_taskrunner.taking_over`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dask_taskrunner.backend import Backend, RunSpec, spec_of
from dask_taskrunner.driver import Driver
from dask_taskrunner.graph.mapping import measure
from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import PlannedRun
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import record_of_result
from dask_taskrunner.middle import name_upstream
from dask_taskrunner.planning import FlowPlan
from dask_taskrunner.taking_over import Before, Choice

#: So many task runs are named.
_NAMED: Final = 5


class Results:
    """The results of an earlier run, as far as they can be had.

    Parameters
    ----------
    driver : Driver
        Of the earlier run.
    backend : Backend or None
        The connection on which they are; None where the cluster is lost.
    """

    def __init__(self, driver: Driver, backend: Backend | None) -> None:
        self._driver = driver
        self._backend = backend
        self._futures: dict[TaskRunId, Any] = {}

    def future_of(self, record: TaskRunRecord) -> Any:
        """Return a future of the state of a task run, or None where its result is gone."""
        if record.id not in self._futures:
            # Of what has grown, an inner run has it; where several have, nobody has it whole.
            having = record_of_result(record, self._driver.machine.records)
            backend, channel = self._backend, self._driver.channel
            found = None if backend is None else channel.share(having.id)
            if backend is not None and found is not None:
                found = backend.share(found)
            self._futures[record.id] = found
        return self._futures[record.id]

    def is_late(self, future: Any) -> bool:
        """Return whether a result was lost, and is being made again."""
        return self._backend is not None and not self._backend.is_at_hand(future)

    def are_gone(self, record: TaskRunRecord, spec: RunSpec) -> bool:
        """Return whether what reads a task run of such a spec cannot be run."""
        header = record.header
        assert header is not None
        if spec.is_mapped_over and header.kind and not _length(header):
            # Nothing was mapped over it when it was made.
            return True
        return not header.stands_alone and self.future_of(record) is None

    def value_here(self, record: TaskRunRecord) -> dict[TaskRunId, object]:
        """Return the result where it was fetched when the runner closed, by the id it had."""
        return self._driver.values.here([record.id])


def _length(header: Header) -> Mapping[str, Any]:
    """Return what a header says of how many elements its result has; nothing if it does not."""
    found = {key: header.more[key] for key in ("length", "no_length") if key in header.more}
    if not found and header.small is not None:
        return measure(pickle.loads(header.small))
    return found


class Reusing:
    """A plan on its way."""

    def __init__(self, plan: FlowPlan, before: Before, choice: Choice, results: Results) -> None:
        self._plan = plan
        self._before = before
        self._choice = choice
        self._results = results
        self._specs = dict(plan.specs)
        self._values: dict[TaskRunId, object] = {}
        #: How many are taken over, are run, and are made again; and the names of the latter.
        self._taken = self._run = 0
        self._again: list[str] = []
        #: What was lost with a worker, and the cluster makes again by itself.
        self._late: list[str] = []
        #: Mapped tasks all of whose children are run: nobody knows yet how many there will be.
        self._maps: list[str] = []

    def plan(self) -> FlowPlan:
        """Return the whole plan."""
        runs = [self._placed(run) for run in self._plan.machine.runs]
        name_upstream(runs, self._specs)
        return self._plan._replace(
            machine=self._plan.machine._replace(runs=tuple(runs)),
            specs=self._specs,
            given_values=self._values,
            told=self._told(),
        )

    def _placed(self, run: PlannedRun) -> PlannedRun:
        choice, id = self._choice, run.id
        if choice.is_run(id):
            self._count(run, is_again=id in choice.remade)
            return run
        record = self._before.tops[id[0]]
        if choice.length(run) is None:
            self._taken += 1
            return self._given(run, record)
        children = self._children(run)
        is_whole = record.header is not None and record.header.is_successful
        if None in children or not is_whole:
            return self._promising(run)._replace(children=children)
        return run._replace(role="given", given=_moved(record, run), children=children)

    def _promising(self, run: PlannedRun) -> PlannedRun:
        """Return a mapped run that knows how long what it was mapped over had been.

        It may have to be made again, and come to something else then.
        """
        maps = run.maps
        assert maps is not None
        promised: dict[int, int] = {}
        for position in maps.elements:
            header = self._before.tops[run.upstream[position][0]].header
            assert header is not None
            promised |= {position: header.more["length"]} if "length" in header.more else {}
        return run._replace(maps=maps._replace(promised=promised))

    def _children(self, run: PlannedRun) -> tuple[PlannedRun | None, ...]:
        """Return the children of a mapped task: those that are taken over; others are None."""
        children: list[PlannedRun | None] = []
        for child in self._choice.children_of(run):
            if self._choice.is_run(child.id):
                self._count(child, is_again=child.id in self._choice.remade)
                children.append(None)
                continue
            self._taken += 1
            children.append(self._given(child, self._before.child(*child.id)))
        return tuple(children)

    def _given(self, run: PlannedRun, record: TaskRunRecord) -> PlannedRun:
        is_mapped_over = self._plan.specs[run.id[0], -1].is_mapped_over
        header = _moved(record, run, with_length=is_mapped_over)
        # What has grown would grow again.
        can_be_run = record.inner is None
        run = run._replace(role="given", given=header, can_be_run=can_be_run)
        if header.stands_alone:
            return run
        future = None
        if self._choice.is_needed(run.id) or self._plan.machine.keeps(run.id):
            future = self._results.future_of(record)
        if future is not None:
            self._hold(run, future)
        for value in self._results.value_here(record).values():
            self._values[run.id] = value
        return run._replace(has_no_result=future is None)

    def _hold(self, run: PlannedRun, future: Any) -> None:
        if self._results.is_late(future):
            self._late.append(run.slug)
        spec = spec_of(self._plan.specs, run.id)
        assert spec is not None
        self._specs[run.id] = spec._replace(held=future)

    # -- words ----------------------------------------------------------------------------

    def _count(self, run: PlannedRun, *, is_again: bool) -> None:
        """Count a task run that is run, or made again."""
        length = self._choice.lengths[run.id[0]]
        if run.maps is not None and length is None:
            self._maps.append(run.slug)
        elif run.maps is not None:
            self._run += length or 0
        elif is_again:
            self._again.append(run.slug)
        else:
            self._run += 1

    def _told(self) -> list[str]:
        """Return what is said first, and what of it is said by names."""
        text = f"reuses {self._taken} task run{'' if self._taken == 1 else 's'}"
        run = [f"{self._run}"] if self._run or not self._maps else []
        run += [f"the children of {_named(self._maps)}"] if self._maps else []
        text += f", runs {' and '.join(run)}"
        again, said = self._again, []
        if again:
            why = "its result is gone" if len(again) == 1 else "their results are gone"
            text += f", computes {len(again)} again because {why}"
            said.append(f"computed again, for a result is gone: {_named(again)}")
        if self._late:
            said.append(f"lost with a worker, and made again by Dask: {_named(self._late)}")
        return [text, *said]


def _named(slugs: Sequence[str]) -> str:
    more = f" and {len(slugs) - _NAMED} more" if len(slugs) > _NAMED else ""
    return ", ".join(slugs[:_NAMED]) + more


def _moved(record: TaskRunRecord, run: PlannedRun, *, with_length: bool = False) -> Header:
    """Return an earlier run's header as one of this run's."""
    header = record.header
    assert header is not None
    more = header.more
    if with_length and header.kind:
        more = {**more, **_length(header)}
    n, map_index = run.id
    return header._replace(n=n, map_index=map_index, submission=1, more=more)
