"""What is known of a task run: the hierarchy of states, as values.

A state knows no task, flow or cluster, and decides nothing. What it holds of the user's (results,
inputs, exceptions) it never compares, hashes or tests; equality goes by Dask's tokens.

Times are kept as seconds since the epoch, and shown as `pendulum.DateTime` in UTC: many states are
made where nobody looks at their times, and importing pendulum costs more than most tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.exceptions import ResultNotHere, describe
from dask_taskrunner.shown import Shown
from dask_taskrunner.times import epoch_seconds as epoch_seconds
from dask_taskrunner.times import to_seconds as to_seconds
from dask_taskrunner.times import utc as utc

if TYPE_CHECKING:
    import pendulum

#: How a state is drawn, everywhere. A state of a user's own has the color of its parent.
COLORS = {
    "State": "#999999",
    "Pending": "#d3d3d3",
    "Scheduled": "#f0c040",
    "Retrying": "#ff9a1f",
    "Looped": "#c9a0dc",
    "CachedState": "#a6d8a8",
    "Paused": "#8fb7d9",
    "Running": "#3f8fd2",
    "Finished": "#7a7a7a",
    "Success": "#2e9e4f",
    "Skipped": "#9ccc65",
    "Mapped": "#1b7f8c",
    "Failed": "#d62728",
    "TriggerFailed": "#e07b54",
    "TimedOut": "#b5485d",
    "Crashed": "#7b1e3a",
    "Cancelled": "#6d4c8d",
}


def same_value(one: object, other: object) -> bool:
    """Whether two values of the user's are the same, by Dask's tokens: ``==`` may do anything."""
    if one is other:
        return True
    from dask.base import tokenize  # not loaded where no states are compared

    return bool(tokenize(one) == tokenize(other))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Stands in a state for a value that lies on a worker."""

    #: What the value is, where it lies, and how to get it.
    text: str
    #: Finds it for a later run of the same process; it says nothing about the value, and stays
    #: behind when the state is pickled.
    source: Any = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)

    def __dask_tokenize__(self) -> object:
        return type(self).__qualname__, self.text


# --- fields that are not stored as they are shown: each in an attribute of its name after `_` -----


class _Stored:
    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = f"_{name}"


class _Value(_Stored):
    """A value that may lie elsewhere."""

    def __get__(self, state: State | None, owner: type) -> Any:
        if state is None:
            return None  # what a dataclass takes for the default
        stored = getattr(state, self._attribute)
        if isinstance(stored, Elsewhere):
            raise ResultNotHere(stored.text)
        return stored

    def __set__(self, state: State, value: Any) -> None:
        setattr(state, self._attribute, value)


class _Time(_Stored):
    """A time, or ``None`` for never."""

    def __get__(self, state: State | None, owner: type) -> pendulum.DateTime | None:
        stored = None if state is None else getattr(state, self._attribute)
        return None if stored is None else utc(stored)

    def __set__(self, state: State, moment: datetime | float | None) -> None:
        setattr(state, self._attribute, None if moment is None else epoch_seconds(moment))


class _TimeOrNow(_Stored):
    """A time; ``None`` stands for the time at which the state was made."""

    def __get__(self, state: State | None, owner: type) -> pendulum.DateTime:
        # A dataclass takes what the class gives for the default, and never shows it.
        return None if state is None else utc(getattr(state, self._attribute))  # type: ignore[return-value]

    def __set__(self, state: State, moment: datetime | float | None) -> None:
        setattr(state, self._attribute, state.at if moment is None else epoch_seconds(moment))


# --- any state -----------------------------------------------------------------------------------


# `repr` is ours, and equality goes by Dask's tokens; there is no hash, for data may have none.
@dataclass(eq=False, repr=False)
class State(Shown):
    """What is known of a task run: ``State(result=None, message=None)``."""

    color: ClassVar[str]

    #: What came of the run; reading it raises `ResultNotHere` where it lies on a worker.
    result: _Value = _Value()
    #: One line for people.
    message: str | None = None
    #: When the state was made, in seconds since the epoch.
    at: float = field(default_factory=time.time, init=False)

    @property
    def result_is_here(self) -> bool:
        """Whether `result` can be read without asking a worker."""
        return not isinstance(vars(self)["_result"], Elsewhere)

    @property
    def timestamp(self) -> pendulum.DateTime:
        """When the state was made, in UTC."""
        return utc(self.at)

    def fields(self) -> dict[str, Any]:
        """Return the data by the names of the constructor's arguments, as stored, without time."""
        return {name.lstrip("_"): value for name, value in vars(self).items() if name != "at"}

    def copy_with(self, **changes: Any) -> Self:
        """Return the same state of the same time, with some of its data changed."""
        copied = type(self)(**(self.fields() | changes))
        copied.at = self.at
        return copied

    def is_pending(self) -> bool:
        """Whether the run has not begun, or is to begin again."""
        return isinstance(self, Pending)

    def is_running(self) -> bool:
        """Whether the run's body is being executed."""
        return isinstance(self, Running)

    def is_finished(self) -> bool:
        """Whether the state is final."""
        return isinstance(self, Finished)

    def is_successful(self) -> bool:
        """Whether the run succeeded; a skip is a success."""
        return isinstance(self, Success)

    def is_failed(self) -> bool:
        """Whether the run failed; a trigger failure, a timeout and a crash are failures."""
        return isinstance(self, Failed)

    def is_retrying(self) -> bool:
        """Whether the run failed and is to be tried again."""
        return isinstance(self, Retrying)

    def is_skipped(self) -> bool:
        """Whether the run was skipped."""
        return isinstance(self, Skipped)

    def is_mapped(self) -> bool:
        """Whether this is the state of a mapped task, which has children."""
        return isinstance(self, Mapped)

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled, which is neither a success nor a failure."""
        return isinstance(self, Cancelled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        if type(self) is not type(other):
            return False
        mine, theirs = self._public_data(), other._public_data()
        return all(same_value(value, theirs[name]) for name, value in mine.items())

    def __dask_tokenize__(self) -> object:
        # A state inside a state is compared like any other: without its message and time.
        return type(self).__qualname__, self._public_data()

    def _public_data(self) -> dict[str, Any]:
        fields = self.fields()
        del fields["message"]
        return fields

    def __repr__(self) -> str:
        message = "" if self.message is None else f'"{self.message}"'
        return harmless(f"{type(self).__name__}({message})")


# --- not begun yet, or to begin again ------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class Pending(State):
    """The run has not begun."""

    #: The inputs that the run had when it was last looked at, by name.
    cached_inputs: Mapping[str, Any] | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class Scheduled(Pending):
    """The run is to begin at a time."""

    #: In UTC. It is made from a datetime with a timezone, or seconds since the epoch, or ``None``
    #: for now.
    scheduled_time: _TimeOrNow = _TimeOrNow()


@dataclass(eq=False, repr=False, kw_only=True)
class Retrying(Scheduled):
    """The run's last attempt did not succeed, and another one is due."""

    #: The number that attempt ran as; the next one runs as this number plus one.
    last_run_number: int = 1
    #: Seconds from the attempt's end to the next one; ``None`` where the task chose the time.
    delay: float | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class Looped(Pending):
    """The body asked to run again with what it has so far."""

    #: How often the body has run.
    loop_count: int = 1


@dataclass(eq=False, repr=False, kw_only=True)
class CachedState(Pending):
    """The run has not begun, but an earlier run's result is at hand."""

    #: That result; reading it raises `ResultNotHere` where it lies on a worker.
    cached_result: _Value = _Value()
    #: The flow's parameters then, by name.
    cached_parameters: Mapping[str, Any] | None = None
    #: When the result gets too old, in UTC; ``None`` for never.
    cached_result_expiration: _Time = _Time()

    def is_expired(self) -> bool:
        """Whether the result is too old, by the clock of this machine."""
        expiration: float | None = vars(self)["_cached_result_expiration"]
        return expiration is not None and expiration <= time.time()


class Paused(Pending):
    """The run waits until somebody lets it go on."""


class Running(State):
    """The run's body is being executed."""


# --- final ---------------------------------------------------------------------------------------


class Finished(State):
    """The run is over."""


@dataclass(eq=False, repr=False, kw_only=True)
class Success(Finished):
    """The run did what it should."""

    #: What a later run may take instead of running, where the task has ``cache_for``.
    cached: CachedState | None = None


class Skipped(Success):
    """The run had nothing to do."""


@dataclass(eq=False, repr=False, kw_only=True)
class Mapped(Finished):
    """A mapped task was expanded; what it is follows from the states of its children."""

    #: Name of a state's class -> how many children are in it.
    counts: Mapping[str, int] = field(default_factory=dict)
    #: The slug of the first child that failed, or of a run upstream of it that did by itself, and
    #: its ``TypeName: text``.
    root_cause: tuple[str, str] | None = None

    def is_finished(self) -> bool:
        """Whether all children have finished."""
        return all(issubclass(child, Finished) for child in self._child_classes())

    def is_successful(self) -> bool:
        """Whether all children succeeded."""
        return all(issubclass(child, Success) for child in self._child_classes())

    def is_failed(self) -> bool:
        """Whether any child failed."""
        return any(issubclass(child, Failed) for child in self._child_classes())

    def is_skipped(self) -> bool:
        """Whether there are children, and all were skipped."""
        children = self._child_classes()
        return bool(children) and all(issubclass(child, Skipped) for child in children)

    def _child_classes(self) -> list[type[State]]:
        return [STATE_CLASSES[name] for name, count in self.counts.items() if count]


@dataclass(eq=False, repr=False, kw_only=True)
class Failed(Finished):
    """The run did not do what it should."""

    #: What the body raised. Where no message is given, this makes it: ``TypeName: text``.
    exception: BaseException | None = None
    #: As text, from the user's first frame on.
    traceback: str = ""
    #: Name of an argument -> one line about its value.
    inputs: Mapping[str, str] | None = None
    #: The slug of a run upstream that failed by itself, and its ``TypeName: text``, where that is
    #: why this run failed.
    root_cause: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.message is None and self.exception is not None:
            self.message = describe(self.exception)


class TriggerFailed(Failed):
    """The run's trigger did not let it begin."""


@dataclass(eq=False, repr=False, kw_only=True)
class TimedOut(Failed):
    """The attempt took longer than the task's ``timeout``."""

    #: Whether the body is known to have ended.
    stopped: bool = False


class Crashed(Failed):
    """The infrastructure died under the run: killed worker, memory limit, lost data."""


class Cancelled(Finished):
    """The run was stopped, or kept from beginning, by somebody."""


#: Every class of state by its name, parents first.
STATE_CLASSES: dict[str, type[State]] = {name: globals()[name] for name in COLORS}

#: The names of the states of what failed by itself, and not because its trigger said no.
OWN_FAILURES = frozenset(
    name
    for name, cls in STATE_CLASSES.items()
    if issubclass(cls, Failed) and cls is not TriggerFailed
)

for _name, _class in STATE_CLASSES.items():
    _class.color = COLORS[_name]
