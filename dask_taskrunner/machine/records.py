"""What the client knows of each task run, and the plan that it comes from.

The records are the truth about the run. Only the machine changes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.plans import InnerPlan, Plan, PlannedRun

#: Where a task run stands with respect to the cluster. ``waiting``: not sent, an upstream run
#: is not there yet; ``queued``: goes out with one of the next slices; ``submitted``: sent and
#: not heard of; ``delayed``: a retry is due at a known time; ``paused``; ``foreign``: it belongs to
#: another run, which goes on; ``growing``: its body has returned a graph that is being planned;
#: ``expanded``: a mapped one whose children go on, or one that has grown, whose inner runs do;
#: ``finished``.
Phase: TypeAlias = Literal[
    "waiting", "queued", "submitted", "delayed", "paused", "foreign", "growing", "expanded",
    "finished",
]  # fmt: skip

#: Phases that a downstream run may stand behind.
OPEN: frozenset[Phase] = frozenset({"queued", "submitted", "finished"})
#: Phases in which something is under way.
ACTIVE: frozenset[Phase] = frozenset({"queued", "submitted", "delayed", "foreign", "growing"})
#: Phases in which a run reads no more of what is upstream: an expanded one's children do, if any.
READ: frozenset[Phase] = frozenset({"expanded", "finished"})


class Attempt(NamedTuple):
    """One execution of a task run's body.

    Attributes
    ----------
    number : int
        From 1, in the order in which they are known to have begun.
    run_number, submission : int
        What ``max_retries`` counts, and which send to the cluster it was.
    worker : str
        The worker's address.
    started, ended : float or None
        Epoch seconds by the worker's clock.
    outcome : str
        ``running success failed retrying skipped paused timed-out crashed cancelled looped
        worker-lost re-executed``.
    error : str or None
        ``TypeName: text`` of what went wrong.
    fetched : tuple of (float, float)
        When inputs came from other workers, by the worker's clock; what was fetched earlier, for
        others as well, is among them.
    """

    number: int
    run_number: int
    submission: int
    worker: str
    started: float | None
    ended: float | None
    outcome: str
    error: str | None
    fetched: tuple[tuple[float, ...], ...] = ()


class Running(NamedTuple):
    """What a start report said."""

    worker: str
    execution: int
    submission: int
    run_number: int
    started: float


class Shared:
    """How long the result of a run is needed: also of one that is a part of another's."""

    __slots__ = (
        "failed_readers",
        "family",
        "holders",
        "inner",
        "length",
        "outer",
        "paused_children",
        "plan",
        "stands_for",
        "unfinished_children",
        "unfinished_readers",
    )

    def __init__(self, plan: PlannedRun, holders: int) -> None:
        self.plan = plan
        #: How many ask for the result to be kept, besides its readers.
        self.holders = holders
        #: Direct downstream runs that read it and are in no READ phase, and those that failed or
        #: were cancelled: a resume needs their inputs.
        self.unfinished_readers = self.failed_readers = 0
        #: The mapped run whose child this is, and how many children a mapped run has, once known.
        self.family: TaskRunRecord | None = None
        self.length: int | None = None
        #: What it is made of, once it has grown; the run that has grown to this one; and the one
        #: whose result this one's is.
        self.inner: InnerPlan | None = None
        self.outer: TaskRunRecord | None = None
        self.stands_for: TaskRunRecord | None = None
        #: Of its children or its inner runs.
        self.unfinished_children = self.paused_children = 0

    @property
    def id(self) -> TaskRunId:
        """Which task run this is about."""
        return self.plan.id

    @property
    def is_counted(self) -> bool:
        """False where others are counted in its place: children, or inner runs."""
        return self.length is None and self.inner is None

    @property
    def has_readers(self) -> bool:
        """True while a run that reads this one, or what it is a part of, has not finished."""
        family, whole = self.family, self.stands_for
        return (
            self.unfinished_readers > 0
            or (family is not None and family.has_readers)
            or (whole is not None and whole.has_readers)
        )

    @property
    def is_read(self) -> bool:
        """True while somebody reads its value; a mapped run has none, but its children have."""
        return self.plan.maps is None and self.has_readers

    @property
    def is_held(self) -> bool:
        """True where somebody asked for the result to be kept."""
        family, whole = self.family, self.stands_for
        return (
            self.holders > 0
            or (family is not None and family.is_held)
            or (whole is not None and whole.is_held)
        )

    @property
    def is_kept(self) -> bool:
        """True where the result is held although nobody reads it now: a resume needs it, too."""
        family, whole = self.family, self.stands_for
        return (
            self.failed_readers > 0
            or self.holders > 0
            or (family is not None and family.is_kept)
            or (whole is not None and whole.is_kept)
        )


class TaskRunRecord(Shared):
    """What the client knows of one task run."""

    __slots__ = (
        "by_value",
        "crashes",
        "deaths",
        "downstream",
        "future",
        "header",
        "innocent",
        "is_approved",
        "last_execution",
        "left_running",
        "loop_count",
        "loop_from",
        "phase",
        "queued_at",
        "retry_header",
        "run_number",
        "running",
        "submission",
        "unfinished_upstream",
        "unopened_upstream",
        "values",
    )

    def __init__(self, plan: PlannedRun, holders: int = 0) -> None:
        super().__init__(plan, holders)
        #: A tuple where it was known from the beginning, which is smaller.
        self.downstream: Collection[TaskRunId] = ()
        self.phase: Phase = "waiting"
        #: The number of the newest send; news of older ones changes no state.
        self.submission, self.run_number = 0, 1
        #: Which iteration of a loop comes next, and the submission that has the last one's result.
        self.loop_count, self.loop_from = 1, 0
        #: The first finished state, for good.
        self.header: Header | None = None
        #: True where somebody let it go on, whatever its trigger says.
        self.is_approved = False
        #: The newest unfinished state that a worker answered with.
        self.retry_header: Header | None = None
        self.by_value: Header | None = None  # For dependents, where no future holds it.
        #: True while a future of the newest submission is held.
        self.future = False
        #: What runs; and what ran when its future was let go, until its end is heard of.
        self.running: Running | None = None
        self.left_running: Running | None = None
        self.queued_at: float | None = None  # Epoch seconds of the first send.
        #: Headers of executions with a body, oldest first, and what is known of lost ones.
        self.values: tuple[Header | Attempt, ...] = ()
        #: Submissions that are charged to the crash budget; that died although not known to be
        #: running; and worker deaths under this task run, as far as known.
        self.crashes = self.innocent = self.deaths = 0
        #: That of the newest header, so that the same news twice is news once.
        self.last_execution = 0
        #: Upstream runs in no open phase, and those in another phase than finished.
        self.unopened_upstream = self.unfinished_upstream = len(plan.upstream)

    def add_reader(self, id: TaskRunId) -> None:
        """Take in a downstream run that came later."""
        if isinstance(self.downstream, dict):
            self.downstream[id] = None
        elif isinstance(self.downstream, list):
            self.downstream.append(id)
        else:
            # One is the rule, in a chain of mapped tasks.
            self.downstream = [*self.downstream, id] if self.downstream else (id,)

    def drop_reader(self, id: TaskRunId) -> None:
        """Forget a downstream run that came later."""
        assert isinstance(self.downstream, dict)
        del self.downstream[id]

    @property
    def is_gone(self) -> bool:
        """True where a run that reads this one could not be sent, because its value is nowhere."""
        return (
            self.header is not None
            and self.phase == "finished"
            # What a grown one comes to, others have.
            and self.inner is None
            and not self.future
            and self.by_value is None
            and not self.header.stands_alone
        )

    @property
    def is_missing(self) -> bool:
        """True where whoever is made again and reads this one needs it to be made again, too."""
        never_had = self.plan.has_no_result and self.by_value is not None
        return self.is_gone or (never_had and self.phase == "finished")

    def is_open_in(self, phase: Phase) -> bool:
        """Return whether a downstream run may stand behind this one in a phase.

        Behind a mapped run only when it has ended: what is sent of it has no result.
        """
        return phase in OPEN if self.plan.maps is None else phase == "finished"

    @property
    def is_paused(self) -> bool:
        """True where it waits until somebody lets it go on."""
        return self.phase == "paused" and self.plan.role != "outside" and self.header is None

    @property
    def goes_on(self) -> bool:
        """True where its next iteration, which is not sent yet, begins with the future held."""
        return 0 < self.loop_from == self.submission and self.phase in ("waiting", "queued")

    @property
    def may_be_sent(self) -> bool:
        """True where the run has not finished, or its value may have to be made again."""
        return self.phase != "finished" or self.future or self.is_gone

    @property
    def needs_upstream(self) -> bool:
        """True where the records upstream are still of use to this one."""
        if self.may_be_sent:
            return True
        # Who asks why a trigger failed is told by the record of the root cause.
        return self.header is not None and self.header.state == "TriggerFailed"

    @property
    def is_unneeded(self) -> bool:
        """True where the run has finished, and nobody will ask for it."""
        return self.phase == "finished" and not self.holders and not self.downstream

    def is_awaiting(self, submission: int) -> bool:
        """Return whether news of a submission is what is waited for."""
        return self.phase in ("submitted", "growing") and submission == self.submission

    def has_heard(self, execution: int) -> bool:
        """Return whether an execution's end is known: the same news twice is news once."""
        if execution == self.last_execution:
            return True
        headers = (self.header, *self.values)
        return any(isinstance(h, Header) and h.execution == execution for h in headers)

    def write(self, header: Header) -> None:
        """Write down an execution whose end was heard of."""
        # It may have been given up for lost: then it is that one.
        lost = [
            place
            for place, value in enumerate(self.values)
            if isinstance(value, Attempt)
            and (value.submission, value.worker, value.started)
            == (header.submission, header.worker, header.started)
        ]
        at = lost[0] if lost else len(self.values)
        self.values = (*self.values[:at], header, *self.values[at + 1 :])

    def has_lost_attempt(self, worker: str | None = None) -> bool:
        """Return whether a lost execution of the newest submission is written down already."""
        return any(
            isinstance(value, Attempt)
            and value.submission == self.submission
            and worker in (None, value.worker)
            for value in self.values
        )

    @property
    def shown(self) -> str:
        """The name of the class of the state that a user sees."""
        if self.header is not None:
            return self.header.state
        if self.running is not None:
            return "Running"
        if self.phase == "growing" or (self.phase == "expanded" and self.retry_header is None):
            return "Running"
        if self.retry_header is not None and self.retry_header.state == "Looped":
            return "Looped"
        if self.phase in ("delayed", "paused", "expanded") and self.retry_header is not None:
            return self.retry_header.state
        return "Pending"

    def attempts(self) -> list[Attempt]:
        """Return the executions of the body, in the order in which they are known to have begun."""
        attempts = [
            value if isinstance(value, Attempt) else attempt_of(value) for value in self.values
        ]
        attempts += [
            Attempt(
                0, running.run_number, running.submission, running.worker,
                running.started, None, "running", None,
            )
            for running in (self.left_running, self.running)
            if running is not None
        ]  # fmt: skip
        return [attempt._replace(number=n) for n, attempt in enumerate(attempts, start=1)]


_OUTCOMES = {
    "Success": "success",
    "Skipped": "skipped",
    "Retrying": "retrying",
    "Paused": "paused",
    "TimedOut": "timed-out",
    "Crashed": "crashed",
    "Cancelled": "cancelled",
    "Looped": "looped",
}


def attempt_of(header: Header) -> Attempt:
    """Return what a header says of the execution that it comes from."""
    outcome = header.more.get("outcome") or _OUTCOMES.get(header.state, "failed")
    # A header that tells of a body has both.
    ended = None if header.started is None else header.started + (header.seconds or 0.0)
    failed = outcome in ("failed", "timed-out", "crashed")
    error = header.message if failed else header.more.get("error")
    return Attempt(
        0, header.run_number, header.submission, header.worker,
        header.started, ended, outcome, error, tuple(map(tuple, header.more.get("fetched", ()))),
    )  # fmt: skip


def make_records(plan: Plan) -> dict[TaskRunId, TaskRunRecord]:
    """Return a record for each planned run, with its downstream runs filled in."""
    records = {
        run.id: TaskRunRecord(run, int(run.is_held or plan.keeps(run.id))) for run in plan.runs
    }
    downstream: dict[TaskRunId, list[TaskRunId]] = {id: [] for id in records}
    for id, record in records.items():
        for upstream in record.plan.upstream:
            downstream[upstream].append(id)
        for source in read_by(record.plan, records):
            source.unfinished_readers += 1
    for id, readers in downstream.items():
        # Of an open plan the readers come and go.
        records[id].downstream = dict.fromkeys(readers) if plan.is_open else tuple(readers)
    return records


def read_by(
    plan: PlannedRun, records: Mapping[TaskRunId, TaskRunRecord]
) -> Iterator[TaskRunRecord]:
    """Yield the runs upstream of which a run reads more than a state that is told by value."""
    for position, id in enumerate(plan.upstream):
        source = records[id]
        if source.plan.maps is None or plan.reads_children(position):
            yield source
