"""Triggers: whether a task may run, given the final states of what is upstream of it.

A trigger returns ``True``, or raises `TRIGGERFAIL`; one of a user's own may raise any signal. It is
asked only when every upstream state is final, and need not care. It sees states, never results.

With nothing upstream every trigger but `manual_only` passes. A mapped upstream counts as its
children do, so one that has none is not there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from dask_taskrunner.exceptions import OptionError, describe
from dask_taskrunner.signals import PAUSE, TRIGGERFAIL, Signal
from dask_taskrunner.states import (
    STATE_CLASSES,
    Failed,
    Finished,
    Mapped,
    Skipped,
    State,
    Success,
)

#: Slug, or edge, of each upstream run -> its state.
UpstreamStates: TypeAlias = Mapping[Any, State]
Trigger: TypeAlias = Callable[[UpstreamStates], bool]


def all_successful(upstream_states: UpstreamStates) -> bool:
    """Run if every upstream run succeeded; a skip is a success."""
    # The trigger of nearly every run is answered without counting anything.
    for state in upstream_states.values():
        if not state.is_successful():
            break
    else:
        return True
    counts = _count(upstream_states)
    others = _without(counts, Success)
    raise _refusal("all_successful", others, counts, "were not successful", upstream_states)


def all_failed(upstream_states: UpstreamStates) -> bool:
    """Run if every upstream run failed."""
    counts = _count(upstream_states)
    others = _without(counts, Failed)
    if others:
        raise _refusal("all_failed", others, counts, "did not fail")
    return True


def any_successful(upstream_states: UpstreamStates) -> bool:
    """Run if at least one upstream run succeeded."""
    counts = _count(upstream_states)
    if counts and not _only(counts, Success):
        raise _refusal("any_successful", counts, counts, "were not successful", upstream_states)
    return True


def any_failed(upstream_states: UpstreamStates) -> bool:
    """Run if at least one upstream run failed."""
    counts = _count(upstream_states)
    if counts and not _only(counts, Failed):
        raise _refusal("any_failed", counts, counts, "did not fail")
    return True


def all_finished(upstream_states: UpstreamStates) -> bool:
    """Run whatever became of the upstream runs."""
    counts = _count(upstream_states)
    others = _without(counts, Finished)
    if others:
        raise _refusal("all_finished", others, counts, "were not finished")
    return True


def not_all_skipped(upstream_states: UpstreamStates) -> bool:
    """Run if no upstream run failed, and not all were skipped.

    A task that is to be asked this needs ``skip_on_upstream_skip=False``.
    """
    counts = _count(upstream_states)
    failed = _only(counts, Failed)
    if failed:
        raise _refusal("not_all_skipped", failed, counts, "failed", upstream_states)
    if counts and not _without(counts, Skipped):
        raise _refusal("not_all_skipped", counts, counts, "were skipped")
    return True


def manual_only(upstream_states: UpstreamStates) -> bool:  # noqa: ARG001 (a trigger's signature)
    """Never run by itself: pause until somebody lets the run go on."""
    raise PAUSE("manual_only: waits until somebody lets it run")


@dataclass(frozen=True)
class _Some:
    """A trigger that bounds how many upstream runs are in a kind of state."""

    name: str
    kind: type[State]
    at_least: float | None
    at_most: float | None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if not bounds:
            raise OptionError(f"{self.name}: say at_least=..., at_most=... or both")
        if not all(_is_bound(bound) for bound in bounds):
            raise OptionError(
                f"{self.__name__}: a bound is a number of runs, or a fraction from 0.0 to 1.0"
            )

    @property
    def __name__(self) -> str:
        bounds = (("at_least", self.at_least), ("at_most", self.at_most))
        given = (f"{name}={bound!r}" for name, bound in bounds if bound is not None)
        return f"{self.name}({', '.join(given)})"

    @property
    def runs_after_failures(self) -> bool:
        return self.kind is Failed

    def __call__(self, upstream_states: UpstreamStates) -> bool:
        counts = _count(upstream_states)
        total = counts.total()
        if not total:
            return True
        hits = _only(counts, self.kind)
        n = hits.total()
        # Quotients are compared: 7 / 100 is 0.07, but 0.07 * 100 is more than 7.
        enough = self.at_least is None or _scaled(n, total, self.at_least) >= self.at_least
        few = self.at_most is None or _scaled(n, total, self.at_most) <= self.at_most
        if enough and few:
            return True
        # Too few successes are the fault of failures, and so are too many failures.
        blame = upstream_states if (self.kind is Success) != enough else None
        what = "failed" if self.kind is Failed else "were successful"
        raise _refusal(self.__name__, hits, counts, what, blame)

    def __repr__(self) -> str:
        return self.__name__


def _is_bound(bound: Any) -> bool:
    limit = 1 if isinstance(bound, float) else math.inf
    return isinstance(bound, (int, float)) and 0 <= bound <= limit


def _scaled(n: int, total: int, bound: float) -> float:
    return n if isinstance(bound, int) else n / total


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Run if so many upstream runs succeeded.

    Parameters
    ----------
    at_least, at_most : int or float, optional
        An int is a number of runs, a float from 0.0 to 1.0 a fraction of all.

    Raises
    ------
    OptionError
        Neither is given, or one is out of range.
    """
    return _Some("some_successful", Success, at_least, at_most)


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Run if so many upstream runs failed.

    Parameters
    ----------
    at_least, at_most : int or float, optional
        An int is a number of runs, a float from 0.0 to 1.0 a fraction of all.

    Raises
    ------
    OptionError
        Neither is given, or one is out of range.
    """
    return _Some("some_failed", Failed, at_least, at_most)


always_run = all_finished
never_run = manual_only

# Whether a task with this trigger may run after failures: it then watches or cleans up, and does
# not by itself tell whether the flow succeeded.
for _trigger in (all_failed, any_failed, all_finished):
    _trigger.runs_after_failures = True  # type: ignore[attr-defined]


def name_of(key: Any) -> str:
    """Return the slug that a key of the upstream states stands for."""
    return getattr(getattr(key, "upstream_task", key), "slug", None) or str(key)


def root_cause(upstream_states: UpstreamStates) -> tuple[str, str] | None:
    """Return slug and ``TypeName: text`` of the first upstream run to blame, if there is one.

    What kept that run itself from running is passed on: the slug is then of a run further up.
    """
    failed = [(key, state) for key, state in upstream_states.items() if state.is_failed()]
    cancelled = [(key, state) for key, state in upstream_states.items() if state.is_cancelled()]
    for key, state in failed + cancelled:
        return getattr(state, "root_cause", None) or (name_of(key), _what_failed(state))
    return None


def _what_failed(state: State) -> str:
    exception = getattr(state, "exception", None)
    if exception is not None and not isinstance(exception, Signal):
        return state.message or describe(exception)
    kind = type(state).__name__
    return f"{kind}: {state.message}" if state.message else kind


# --- counting ------------------------------------------------------------------------------------

_Counts: TypeAlias = Counter[type[State]]


def _count(upstream_states: UpstreamStates) -> _Counts:
    counts: _Counts = Counter()
    for state in upstream_states.values():
        if isinstance(state, Mapped):
            counts.update({STATE_CLASSES[name]: n for name, n in state.counts.items() if n})
        else:
            counts[type(state)] += 1
    return counts


def _only(counts: _Counts, kind: type[State]) -> _Counts:
    return Counter({cls: n for cls, n in counts.items() if issubclass(cls, kind)})


def _without(counts: _Counts, kind: type[State]) -> _Counts:
    return Counter({cls: n for cls, n in counts.items() if not issubclass(cls, kind)})


def _refusal(
    trigger: str,
    concerned: _Counts,
    counts: _Counts,
    what: str,
    blame: UpstreamStates | None = None,
) -> TRIGGERFAIL:
    """Return the signal that says how many runs `what`, and in which states these are."""
    text = f"{trigger}: {concerned.total()} of {counts.total()} upstream runs {what}"
    kinds = ", ".join(f"{n} {cls.__name__}" for cls, n in concerned.items())
    if kinds:
        text += f" ({kinds})"
    cause = root_cause(blame) if blame is not None else None
    if cause is not None:
        text += f"; root cause: {cause[0]}: {cause[1]}"
    return TRIGGERFAIL(text, root_cause=cause)
