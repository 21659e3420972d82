"""What travels about a task run, without its result: the header, and its form on the wire.

A header is written where a state is made, on a worker or, for a lost or cancelled task run, on
the client; it is read by everybody else. It knows no Dask: on the wire it is a list of plain
values, which msgpack takes as it is.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import cloudpickle

from dask_taskrunner.exceptions import RemoteTaskError
from dask_taskrunner.short_texts import (
    format_bytes,
    sendable,
    shorten_message,
    shorten_traceback,
    size_on_the_wire,
)
from dask_taskrunner.states import (
    STATE_CLASSES,
    CachedState,
    Cancelled,
    Elsewhere,
    Failed,
    Finished,
    Looped,
    Mapped,
    Pending,
    State,
    Success,
    TimedOut,
)
from dask_taskrunner.tracebacks import loads

#: The position of the task in its flow, and the index of the mapped child, -1 where not mapped.
TaskRunId: TypeAlias = tuple[int, int]

#: Results of these types ride in the header where they are small enough.
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
_SMALL_BYTES: Final = 512
#: A pickled exception up to this size rides in the header, so that the client can raise it.
_EXCEPTION_BYTES: Final = 4096
#: A header takes at most so many bytes on the wire, of which its own fields take some.
_MESSAGE_BYTES: Final = 16_000
_FIELD_BYTES: Final = 400


def child_slug(slug: str, map_index: int) -> str:
    """Return the name of a mapped run's child."""
    return f"{slug}[{map_index}]"


class Header(NamedTuple):
    """What is known of a task run's state where its result is not.

    Attributes
    ----------
    n, map_index : int
        Which task run of its flow run.
    submission : int
        Which send of the task run to the cluster this is news of, from 1.
    execution : int
        A random number for one execution of one submission: Dask may execute a submission twice.
    state : str
        The name of the state's class.
    message : str or None
        The state's message.
    worker : str
        The address of the worker; empty where the client made the state.
    run_number : int
        What ``max_retries`` counts, from 1.
    started : float or None
        When the body began, in epoch seconds by the worker's clock; None where none ran.
    seconds : float or None
        How long the body ran, by the worker's monotonic clock.
    at : float
        When the state was made, in epoch seconds by the clock of the process that made it.
    kind : str
        The name of the result's type, empty where there is no result.
    nbytes : int
        The size of the result by :func:`dask.sizeof.sizeof`.
    small : bytes or None
        The pickled result, where it is small and plain.
    more : dict
        What only some states have: ``delay``, ``scheduled_time``, ``inputs``, ``traceback``,
        ``type``, ``exception``, ``root_cause``, ``waits_for``, ``outcome``, ``cached_until``;
        ``name``, where the task has its runs named; ``length`` or ``no_length``, where the result
        is mapped over, and ``offset``, where only a piece of it is at hand; of a mapped run
        ``expands``, ``children`` and ``counts``; ``loop_count``; ``fetched``, where inputs came
        from other workers: when each of the last transfers began and ended.
    """

    n: int
    map_index: int
    submission: int
    execution: int
    state: str
    message: str | None
    worker: str
    run_number: int
    started: float | None
    seconds: float | None
    at: float
    kind: str
    nbytes: int
    small: bytes | None
    more: Mapping[str, Any]

    @property
    def id(self) -> TaskRunId:
        """Which task run this is about."""
        return (self.n, self.map_index)

    @property
    def state_class(self) -> type[State]:
        """The class of the state."""
        return STATE_CLASSES[self.state]

    @property
    def is_finished(self) -> bool:
        """True for a final state."""
        return issubclass(self.state_class, Finished)

    @property
    def is_complete(self) -> bool:
        """True where nothing is left on the worker that somebody could ask for."""
        if issubclass(self.state_class, Failed):
            return "exception" in self.more or not self.more.get("has_exception", False)
        return self.small is not None or not self.kind

    @property
    def is_successful(self) -> bool:
        """True for a success, a skip among them; for a mapped run, where all children succeeded."""
        return self._is(Success, all)

    @property
    def is_failed(self) -> bool:
        """True for a failure; for a mapped run, where any child failed."""
        return self._is(Failed, any)

    @property
    def is_cancelled(self) -> bool:
        """True where it was cancelled; for a mapped run, where any child was."""
        return self._is(Cancelled, any)

    def _is(self, kind: type[State], of_children: Callable[[Iterable[bool]], bool]) -> bool:
        if self.state != "Mapped":
            return issubclass(self.state_class, kind)
        return of_children(issubclass(STATE_CLASSES[name], kind) for name in self.more["counts"])

    @property
    def stands_alone(self) -> bool:
        """True where whoever reads the run needs no more than :func:`standing_alone` gives."""
        return self.is_complete or issubclass(self.state_class, Failed)

    def to_wire(self) -> list[Any]:
        """Return the header as msgpack takes it: plain values, and text that is UTF-8."""
        values: list[Any] = list(self)
        if self.message is not None:
            values[5] = sendable(self.message)
        if self.more:
            values[14] = sendable(self.more)
        return values

    @classmethod
    def from_wire(cls, values: Sequence[Any]) -> Header:
        """Rebuild a header; the names that many headers share are shared again."""
        header = cls._make(values)
        # A name that nobody here knows must not end the flow run.
        state = header.state if header.state in STATE_CLASSES else State.__name__
        return header._replace(
            state=sys.intern(state),
            worker=sys.intern(header.worker),
            kind=sys.intern(header.kind),
        )


def state_name(state: State) -> str:
    """Return the name of the state's class, or of what a class of a user's own derives from."""
    names = (kind.__name__ for kind in type(state).__mro__)
    return next(name for name in names if name in STATE_CLASSES)


#: Shared by all headers that have nothing more to say.
NOTHING_MORE: Final[Mapping[str, Any]] = {}


def small_result(value: object) -> bytes | None:
    """Return the pickle of a small result of plain built-in type, else None.

    Plain means None, bool, int, float, complex, str, bytes, and tuples, lists and dicts of
    them; small, that the pickle has at most 512 bytes.
    """
    if not _is_plain(value, _SMALL_BYTES + 1):
        return None
    data = pickle.dumps(value, protocol=5)
    return data if len(data) <= _SMALL_BYTES else None


def _is_plain(value: object, budget: int) -> int:
    """Return what is left of the budget of elements, 0 where the value is not plain."""
    kind = type(value)
    if kind in _PLAIN:
        too_long = kind in (str, bytes) and len(value) > _SMALL_BYTES  # type: ignore[arg-type]
        return 0 if too_long else budget
    if kind is dict:
        parts: list[object] = [*value.keys(), *value.values()]  # type: ignore[attr-defined]
    elif kind is list or kind is tuple:
        parts = list(value)  # type: ignore[call-overload]
    else:
        return 0
    # An element takes a byte of a pickle at least, so a long container is not looked through.
    if len(parts) > _SMALL_BYTES:
        return 0
    for part in parts:
        budget = _is_plain(part, budget - 1) if budget > 1 else 0
        if not budget:
            return 0
    return budget


def describe(state: State, name: str | None = None) -> Mapping[str, Any]:
    """Return what a header of this state says beyond its fields; ``name`` is the run's own."""
    more: dict[str, Any] = {} if name is None else {"name": name}
    if isinstance(state, Failed):
        _describe_failure(state, more)
    elif isinstance(state, Mapped):
        more["counts"] = dict(state.counts)
    elif isinstance(state, Looped):
        more["loop_count"] = state.loop_count
    elif isinstance(state, Pending):
        # As stored: a time is epoch seconds there, and nobody looks at it here.
        fields = state.fields()
        for name in ("delay", "scheduled_time", "last_run_number"):
            value = fields.get(name)
            # A state handler may have made the state, of anything.
            if isinstance(value, (int, float)) and math.isfinite(value):
                more[name] = value
    elif isinstance(state, Success) and isinstance(state.cached, CachedState):
        until = state.cached.fields()["cached_result_expiration"]
        if until is not None:
            more["cached_until"] = until
    return more or NOTHING_MORE


def _describe_failure(state: Failed, more: dict[str, Any]) -> None:
    if isinstance(state, TimedOut):
        more["stopped"] = state.stopped
    if state.inputs:
        more["inputs"] = dict(state.inputs)
    if state.root_cause is not None:
        more["root_cause"] = [shorten_message(text) for text in state.root_cause]
    if state.exception is not None:
        more["type"] = type_name(state.exception)
        more["has_exception"] = True
    room = (
        _MESSAGE_BYTES
        - _FIELD_BYTES
        - size_on_the_wire(shorten_message(state.message))
        - size_on_the_wire(more)
    )
    if state.traceback:
        more["traceback"] = shorten_traceback(state.traceback, room)
        room -= size_on_the_wire(more["traceback"])
    if state.exception is not None:
        data = pickled_exception(state.exception)
        if data is not None and len(data) <= min(_EXCEPTION_BYTES, room):
            more["exception"] = data


def type_name(exception: BaseException) -> str:
    """Return the name of the exception's type, the original's where it did not survive."""
    if isinstance(exception, RemoteTaskError):
        return exception.original_type
    return type(exception).__name__


def pickled_exception(exception: BaseException) -> bytes | None:
    """Return the pickle of an exception that survives the round trip, else None.

    A user's exception may fail to pickle, or pickle and fail to unpickle, in any way it
    likes; what does not survive travels as text.
    """
    # The class of a script or a notebook has no module here; cloudpickle carries it along, and
    # where it came from, it becomes the very class again.
    for dumps in (pickle.dumps, cloudpickle.dumps):
        try:
            data: bytes = dumps(exception, protocol=5)
            survivor = pickle.loads(data)
        except BaseException:  # noqa: BLE001 (see above)
            continue
        if type(survivor) is type(exception):
            return data
    return None


#: What a header says beyond its fields that a state has a field for.
_STATE_FIELDS: Final = (
    *("delay", "scheduled_time", "last_run_number", "stopped", "inputs", "traceback", "counts"),
    "loop_count",
)


def to_state(header: Header, slug: str, source: object = None) -> State:
    """Return the state that a header stands for.

    Parameters
    ----------
    header : Header
        What came from the worker, or was made on the client.
    slug : str
        The name of the task run, for the text of
        :class:`~dask_taskrunner.exceptions.ResultNotHere`.
    source : object, optional
        Finds the result for a later run.

    Returns
    -------
    State
        Same class, message and time. Its result is the small result, else not here.
    """
    more = header.more
    fields: dict[str, Any] = {name: more[name] for name in _STATE_FIELDS if name in more}
    if "root_cause" in more:
        fields["root_cause"] = tuple(more["root_cause"])
    if more.get("has_exception"):
        fields["exception"] = open_exception(header)
    state = header.state_class(_result_of(header, slug, source), header.message, **fields)
    state.at = header.at
    return state


def _result_of(header: Header, slug: str, source: object) -> object:
    if header.small is not None:
        return pickle.loads(header.small)
    if header.state == "Mapped" and source is not None:
        return Elsewhere(
            f"the results of {slug} are its children's; run[{slug!r}].result() fetches them", source
        )
    if not header.kind:
        return None
    where = f"is on {header.worker}" if header.worker else "was given to the run"
    what = f"{slug} ({header.kind}, {format_bytes(header.nbytes)})"
    return Elsewhere(f"the result of {what} {where}; run[{slug!r}].result() fetches it", source)


def open_exception(header: Header) -> BaseException:
    """Return the exception of a failed run, or what is known of it."""
    more = header.more
    if "exception" in more:
        try:
            exception: BaseException = loads(more["exception"])
            return exception
        except Exception:  # noqa: BLE001 (its class may exist on the worker only)
            pass
    # The message begins with the type's name, which the error says by itself.
    kind = more.get("type", header.state)
    text = (header.message or "").removeprefix(kind).removeprefix(": ")
    return RemoteTaskError(kind, text, more.get("traceback", ""))


def standing_alone(header: Header) -> Header:
    """Return a header that says everything, for those who get it instead of a future.

    What a failed run raised may lie on a worker that is gone. No body is run again for that: its
    type, text and traceback are here.
    """
    if header.is_complete:
        return header
    return header._replace(
        more={**header.more, "exception": pickle.dumps(open_exception(header), protocol=5)}
    )
