"""What is told of a task run: why it is as it is, why it ran more than once, what took its time.

Plain data and its text; who makes it, and from what, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from dask_taskrunner.view.html import badge, box, escaped, pre
from dask_taskrunner.view.text import format_duration

#: Why something is as it is. Of what ended: ``failed timed-out crashed cancelled trigger skipped
#: upstream-skipped rejected succeeded cached given``. Of what has not: ``waits sending submitted
#: no-worker limit busy running retry-due paused outside foreign growing stalled run-ended``. Of
#: the parts of a mapped task run, and of those of one that has grown, or of a flow used as a task:
#: ``parts``. Why it ran again: ``retried lost looped approved crashed-alone made-again given-up``.
#: What took its time: ``running delayed queued fetching overhead``, ``parts``, and ``longer`` than
#: its siblings.
Kind: TypeAlias = Literal[
    "failed", "timed-out", "crashed", "cancelled", "trigger", "skipped", "upstream-skipped",
    "rejected", "succeeded", "cached", "given", "waits", "sending", "submitted", "no-worker",
    "limit", "busy", "running", "retry-due", "paused", "outside", "foreign", "growing", "parts",
    "stalled", "run-ended", "retried", "lost", "looped", "approved", "crashed-alone", "made-again",
    "given-up", "delayed", "queued", "fetching", "overhead", "longer",
]  # fmt: skip

#: So many reasons are written out.
_SHOWN: Final = 20

_RESUME: Final = "runner.run(flow, resume=run) runs what is left"
#: What can be done about a root cause, with the slug that it is about.
_ADVICE: Final[dict[Kind, str]] = {
    "failed": f"see run[{{slug!r}}].logs and its state's traceback; once it is mended, {_RESUME}",
    "timed-out": f"make it faster, or its timeout longer; then {_RESUME}",
    "crashed": (
        "if it needs more memory than its worker has, give it more; with isolate='process' it dies "
        f"alone, and max_crash_retries forgives more deaths; then {_RESUME}"
    ),
    "cancelled": _RESUME,
    "run-ended": _RESUME,
    "cached": "runner.clear_cache() has the next run run it",
    "no-worker": "start a worker that suits it, if none is to come, or change what it asks for",
    "limit": "it begins when one of those ends; more of it on the workers lets more run at a time",
    "busy": "it begins when one is free; more workers, or threads, let more run at a time",
}


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
        The same in seconds: ``running delayed queued fetching overhead``.
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

    @property
    def advice(self) -> str:
        """What can be done about the root cause; empty where nothing need be, or the text says."""
        cause = self.root_cause
        # What failed and was made up for, or runs at last, is nobody's concern.
        return _ADVICE.get(cause.kind, "").format(slug=cause.task_run)

    def __str__(self) -> str:
        return "\n".join([f"{self.slug} is {self.state}", *self._lines()])

    def _lines(self) -> Iterator[str]:
        yield from _indented(self.reasons)
        if self.again:
            yield "it ran more than once"
            yield from _indented(self.again)
        if self.time:
            yield f"it took {format_duration(sum(self.spent.values()))}"
            yield from _indented(self.time)
        if self.advice:
            yield f"what to do: {self.advice}"

    def __repr__(self) -> str:
        return f"<Explanation {self.slug} is {self.state}: {self.root_cause.text}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return box(
            f"<b>{escaped(self.slug)}</b> {badge(self.state)}", pre("\n".join(self._lines()))
        )


def _indented(reasons: Sequence[Reason]) -> Iterator[str]:
    shown = [*reasons] if len(reasons) <= _SHOWN else [*reasons[: _SHOWN // 2]]
    for reason in shown:
        yield _line(reason)
    if len(shown) < len(reasons):
        yield f"  ... {len(reasons) - _SHOWN} more"
        for reason in reasons[-_SHOWN // 2 :]:
            yield _line(reason)


def _line(reason: Reason) -> str:
    # What a task has raised may have many lines.
    return "  " + reason.text.replace("\n", "\n    ")
