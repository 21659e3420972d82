"""What a flow run knows about itself: why something is as it is, and what its time went to.

It answers from the records and the history, and changes nothing. Only why something does not begin
that was sent is asked of the cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final

from dask_taskrunner import exceptions
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.flow_record import FlowRecord
from dask_taskrunner.group_run import GroupRun

if TYPE_CHECKING:
    from dask_taskrunner.drawing.picture import Picture
    from dask_taskrunner.insight.explanations import Explanation, Reason
    from dask_taskrunner.insight.paths import CriticalPath
    from dask_taskrunner.insight.readings import NodeId, Reading
    from dask_taskrunner.insight.replays import Prediction
    from dask_taskrunner.insight.snapshots import Snapshot
    from dask_taskrunner.machine.records import TaskRunRecord
    from dask_taskrunner.machine.sources import Records
    from dask_taskrunner.view.run_graph import RunGraph

#: Seconds for which an answer of the scheduler is waited for.
_ANSWERS_WITHIN: Final = 1.0

# What answers is loaded when somebody asks: most runs are not asked, and importing us must stay
# cheap.


class FlowInsight(FlowRecord):
    """The knowing half of :class:`~dask_taskrunner.flow_run.FlowRun`."""

    def visualize(self, filename: str | None = None, format: str | None = None) -> Picture:
        """Draw the flow, each task in the color of its state; also while the run goes on.

        Parameters
        ----------
        filename, format : str, optional
            As :meth:`Flow.visualize` takes them.

        Returns
        -------
        Picture
            Its text is a drawing; a notebook shows it as a picture.
        """
        from dask_taskrunner.drawing.picture import Picture
        from dask_taskrunner.view.text import in_order

        snapshot = self._snapshot()
        graph = self._graph(snapshot.records)
        graph.feed(snapshot.history)
        picture = Picture(graph.drawing(self._driver.channel.clock.time()), in_order)
        if filename is not None:
            picture.save(filename, format)
        return picture

    def _snapshot(self) -> Snapshot:
        """Return the run as it is now, while it goes on or after."""
        from dask_taskrunner.insight.snapshots import snapshot_of

        return snapshot_of(self._driver.machine)

    def _graph(self, records: Records | None = None) -> RunGraph:
        """Return what draws the run from its history, of which it has seen nothing yet.

        By default from the machine's own records: what draws again and again finds in them what
        has joined.
        """
        from dask_taskrunner.view.run_graph import RunGraph

        pairs = [(e.upstream_task.slug, e.downstream_task.slug, e.key) for e in self.flow.edges]
        passing = {pair[:2] for pair in pairs if pair[2] is not None}
        ordering = {pair[:2] for pair in pairs} - passing
        records = self._driver.machine.records if records is None else records
        return RunGraph(self.flow.name, records, self._plan.machine.reference, ordering)

    def explain(self, task: Any) -> Explanation:
        """Return why a task run is as it is: why it has not run, was skipped, failed, is slow.

        It may be asked at any time, also while the run goes on.

        Parameters
        ----------
        task : BoundTask or str or Task
            What is to be explained; a single child is ``"clean[17]"``.

        Returns
        -------
        Explanation
            Its ``reasons`` begin with the root cause; ``again`` says why it ran more than once, and
            ``time`` where its time went. ``print`` shows it in words.

        Raises
        ------
        UnknownTask
            There is no such task run.
        """
        meant = self[task]
        # After that: what has been found is in it.
        snapshot = self._snapshot()
        if isinstance(meant, GroupRun):
            return self._explain_group(meant, snapshot)
        return self._explain_one(snapshot.records[meant.record.id], snapshot)

    def _explain_one(self, record: TaskRunRecord, snapshot: Snapshot) -> Explanation:
        from dask_taskrunner.insight.durations import time_of
        from dask_taskrunner.insight.explanations import Explanation
        from dask_taskrunner.insight.readings import node_id, read
        from dask_taskrunner.insight.repeats import repeats_of

        records = snapshot.records
        reading = read(records, snapshot.history, self._driver.channel.need)
        time, spent = time_of(record, node_id(record), records, reading)
        why, again = self._reasons_for(record, snapshot), repeats_of(record, records)
        return Explanation(record.plan.slug, record.shown, why, again, time, spent)

    def _explain_group(self, group: GroupRun, snapshot: Snapshot) -> Explanation:
        """Explain a flow that is used as a task by that part of it which tells most."""
        from dask_taskrunner.insight.explanations import Explanation, Reason
        from dask_taskrunner.insight.repeats import repeats_of

        records = snapshot.records
        parts = [records[one.record.id] for one in group.children]
        ended = [(one, one.header) for one in parts if one.header is not None]
        telling = [one for one, header in ended if header.is_failed or header.is_cancelled]
        telling += [one for one in parts if one.header is None]
        told = self._reasons_for(telling[0], snapshot) if telling else ()
        state = group.state
        name = type(state).__name__
        own = Reason("parts", group.slug, f"{group.slug} came to this: {state.message or name}")
        again = [reason for one in parts for reason in repeats_of(one, records)]
        return Explanation(group.slug, name, (*told, own), tuple(again))

    def _reasons_for(self, record: TaskRunRecord, snapshot: Snapshot) -> tuple[Reason, ...]:
        from dask_taskrunner.insight.pending import Moment
        from dask_taskrunner.insight.reasons import reasons_for

        driver, channel = self._driver, self._driver.channel
        moment = Moment(
            channel.clock.time(),
            snapshot.final,
            driver.watchdog.said,
            # Only where something waits for a place, and no longer than a person would.
            lambda: channel.look(_ANSWERS_WITHIN),
            channel.need,
        )
        return reasons_for(record, snapshot.records, moment)

    def critical_path(self) -> CriticalPath:
        """Return the chain of task runs that the run's time hung on.

        Making one of these faster, or having them begin earlier, makes the run faster; of all
        others only by as much as their neighbours let it. ``print`` shows it in words.

        Returns
        -------
        CriticalPath
            A sequence of steps, and the ``slack`` of every task run by slug: by how many seconds it
            could have ended later without the run ending later, as far as it depends on who waits
            for whom: one that holds a place for longer may also keep others from theirs.

        Raises
        ------
        NotFinished
            The run goes on.
        """
        from dask_taskrunner.insight.paths import critical_path

        return critical_path(self._reading("critical path"))

    def what_if(
        self,
        factors: Mapping[Any, float] | None = None,
        *,
        workers: int | None = None,
        threads: int | None = None,
    ) -> Prediction:
        """Return how long the run would have taken with other bodies, or on other workers.

        The run is replayed: every attempt takes as long as it did, waits for what it waited for,
        and takes a place on a worker; inputs travel as fast as they did. How many bodies a worker
        runs at a time is not in the history: it is taken to be as many as one was ever seen to run;
        and so are the resources that it has for those that need some.
        No place stays empty while something could take it, which Dask does not always bring about:
        the answer is rather too small than too large, and ``unchanged`` shows by how much. What was
        made again because a worker died is not replayed; of a run that was cancelled, what it did.

        Parameters
        ----------
        factors : mapping, optional
            Task -> by what its bodies' durations are multiplied: ``{"fit": 0.5}`` has them twice
            as fast. A mapped task stands for all its children, ``"fit[3]"`` for one.
        workers, threads : int, optional
            How many workers, and bodies at a time on each. Default: as it was.

        Returns
        -------
        Prediction
            Its ``seconds`` are the answer; ``print`` shows it in words.

        Raises
        ------
        OptionError
            A number is wrong.
        UnknownTask
            There is no such task run.
        NotFinished
            The run goes on.
        """
        from dask_taskrunner.insight.replays import predict

        for name, number in (("workers", workers), ("threads", threads)):
            is_whole = isinstance(number, Integral) and not isinstance(number, bool)
            if number is not None and not (is_whole and number >= 1):
                raise OptionError(f"what_if: {name} must be a whole number from 1, not {number!r}")
        named, scaled = self._factors({} if factors is None else factors)
        size = [None if number is None else int(number) for number in (workers, threads)]
        return predict(self._reading("what_if"), named, scaled, *size)

    def _factors(self, factors: Any) -> tuple[dict[str, float], dict[NodeId, float]]:
        if not isinstance(factors, Mapping):
            raise OptionError(
                f"what_if: the first is a dict such as {{'fit': 0.5}}, not {factors!r}"
            )
        named: dict[str, float] = {}
        scaled: dict[NodeId, float] = {}
        for task, factor in factors.items():
            meant = self[task]
            is_number = isinstance(factor, Real) and not isinstance(factor, bool)
            if not is_number or not 0 <= factor < math.inf:
                raise OptionError(
                    f"what_if: {meant.slug!r} can take 0.5 or 2 times as long, but not {factor!r}"
                )
            named[meant.slug] = float(factor)
            for one in meant.with_all_inside():
                scaled[one.record.id, False] = scaled.get((one.record.id, False), 1.0) * factor
        return named, scaled

    def _reading(self, what: str) -> Reading:
        from dask_taskrunner.insight.readings import read

        snapshot = self._snapshot()
        if snapshot.final is None:
            raise exceptions.NotFinished(
                f"the {what} of flow run {self.run_name!r} is known when it has ended: run.wait()"
            )
        return read(snapshot.records, snapshot.history, self._driver.channel.need)
