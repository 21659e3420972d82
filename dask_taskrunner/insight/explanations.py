"""What is told of a task run: why it is as it is, why it ran more than once, what took its time.

Plain data and its text; who makes it, and from what, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from dask_taskrunner.view.text import format_duration

#: Why something is as it is. Of what ended: ``failed timed-out crashed cancelled trigger skipped
#: upstream-skipped rejected succeeded cached given``. Of what has not: ``waits sending submitted
#: running retry-due paused outside foreign growing parts stalled run-ended``. Of the parts of a
#: mapped task run, and of those of one that has grown, or of a flow used as a task: ``parts``.
#: Why it ran again: ``retried lost looped approved crashed-alone made-again given-up``. What took
#: its time: ``running delayed queued fetching overhead``, ``parts``, and ``longer`` than siblings.
Kind: TypeAlias = Literal[
    "failed", "timed-out", "crashed", "cancelled", "trigger", "skipped", "upstream-skipped",
    "rejected", "succeeded", "cached", "given", "waits", "sending", "submitted", "running",
    "retry-due", "paused", "outside", "foreign", "growing", "parts", "stalled", "run-ended",
    "retried", "lost", "looped", "approved", "crashed-alone", "made-again", "given-up",
    "delayed", "queued", "fetching", "overhead", "longer",
]  # fmt: skip


class Reason(NamedTuple):
    """One thing that is part of why.

    Attributes
    ----------
    kind : str
        What sort of thing: see the page on explanations.
    task_run : str
        The slug of the task run that it is about; empty where it is about the whole run.
    text : str
        In words.
    """

    kind: Kind
    task_run: str
    text: str


class Explanation(NamedTuple):
    """Why a task run is as it is; ``print`` shows it in words.

    Attributes
    ----------
    slug : str
        Of which task run.
    state : str
        The name of its state's class.
    reasons : tuple of Reason
        Why it is so, the root cause first, and itself last.
    again : tuple of Reason
        Why it ran more than once, for each time; empty where it did not.
    time : tuple of Reason
        What its time went to, what took longest first; empty where it has not ended here. Of what
        has parts, such as a mapped task run, that of the part which ended last.
    spent : mapping
        The same in seconds: ``running delayed queued overhead``.
    """

    slug: str
    state: str
    reasons: tuple[Reason, ...]
    again: tuple[Reason, ...] = ()
    time: tuple[Reason, ...] = ()
    spent: Mapping[str, float] = {}

    @property
    def root_cause(self) -> Reason:
        """What it comes down to."""
        return self.reasons[0]

    def __str__(self) -> str:
        lines = [f"{self.slug} is {self.state}", *(f"  {one.text}" for one in self.reasons)]
        if self.again:
            lines += ["it ran more than once", *(f"  {one.text}" for one in self.again)]
        if self.time:
            total = format_duration(sum(self.spent.values()))
            lines += [f"it took {total}", *(f"  {one.text}" for one in self.time)]
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))
