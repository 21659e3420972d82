"""The envelope: a state with its live value, pickled only when Dask asks for its wire form.

A consumer in the same process gets the very object, as with raw Dask. What does not pickle becomes
a marker, and what does not unpickle is found out here, in our code: inside Dask either would leave
the dependents pending for ever.
"""

from __future__ import annotations

import pickle
import threading
from typing import Any, cast

import cloudpickle
from dask.sizeof import sizeof

from dask_taskrunner.exceptions import ResultNotSerializable
from dask_taskrunner.headers import Header, open_exception, to_state
from dask_taskrunner.states import CachedState, Failed, State
from dask_taskrunner.tracebacks import loads
from dask_taskrunner.worker.wire import PROTOCOL, WireState

#: From this size on a pickle is handed to Dask out of band, so that it is not copied once more.
_OUT_OF_BAND = 65_536
_OPENING = tuple(threading.RLock() for _ in range(16))


class Envelope:
    """A state on the worker that made it.

    Parameters
    ----------
    header : Header
        What is known of the state.
    slug : str
        The task run's name.
    state : State
        The state itself, with its value.
    """

    __slots__ = ("header", "slug", "state")

    def __init__(self, header: Header, slug: str, state: State) -> None:
        self.header = header
        self.slug = slug
        self.state = state

    def __sizeof__(self) -> int:
        cached = self.cached
        # What a later run is compared with stays here as long as the result.
        beside = 0 if cached is None else size_of((cached.cached_inputs, cached.cached_parameters))
        return self.header.nbytes + beside + 200

    @property
    def cached(self) -> CachedState | None:
        """What a later run may take instead of running, where this body made it."""
        # A run that took an earlier result made nothing that is newer.
        if "cached_until" not in self.header.more or self.header.started is None:
            return None
        cached: CachedState | None = getattr(self.state, "cached", None)
        return cached

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return tuple, (self.to_wire(protocol),)

    def __getitem__(self, index: int) -> Any:
        # So that what asks for a header need not know which of the two forms it meets.
        return self.to_wire()[index]

    def to_wire(self, protocol: int = 5) -> WireState:
        """Return the state as a tuple of plain values that any process with Dask can hold.

        Parameters
        ----------
        protocol : int
            Of the pickle around it: 4 where the scheduler gathers for a client.
        """
        value = self.state.exception if isinstance(self.state, Failed) else self.state.result
        header = self.header
        parts: tuple[Any, list[Any]] = (b"", [])
        # What is small rides in the header; what does not survive the trip stays behind.
        if not header.is_complete:
            try:
                parts = pickle_value(value, protocol)
            except Exception as error:  # noqa: BLE001 (whatever a user's __reduce__ raises)
                text = f"{type(error).__name__}: {error}"
                header = header._replace(more={**header.more, "not_serializable": text})
        wire: WireState = (PROTOCOL, pickle.dumps((header.to_wire(), self.slug)), [parts])
        if self.cached is None:
            return wire
        return (*wire, [self._pickle_cached(protocol)])

    def _pickle_cached(self, protocol: int) -> tuple[Any, list[Any]]:
        assert self.cached is not None
        fields = self.cached.fields()
        # It lies beside it already.
        del fields["cached_result"]
        try:
            return pickle_value(fields, protocol)
        except Exception:  # noqa: BLE001 (inputs that do not pickle: elsewhere it is run again)
            return b"", []


class Opened:
    """A value that was opened in this process; it pickles as what it was opened from."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return tuple, (pickle_value(self.value, protocol),)

    def __sizeof__(self) -> int:
        # The tuple was measured when it arrived, as bytes.
        return 0


def wire_of(header: Header, slug: str) -> WireState:
    """Return the wire form of a state whose header says all of it."""
    return _wire(header.to_wire(), slug)


def _wire(fields: list[Any], slug: str) -> WireState:
    return (PROTOCOL, pickle.dumps((fields, slug)), [(b"", [])])


def open_parts(holder: list[Any]) -> Any:
    """Return the value whose pickle and buffers a list holds, and put it there in their place.

    Later consumers in this process share it, as they do with raw Dask.
    """
    if not isinstance(holder[0], Opened):
        # Two threads that need it at once must not both make one. The locks are few, and may be
        # taken twice: what is opened may have to open something itself.
        with _OPENING[id(holder) // 16 % len(_OPENING)]:
            parts = holder[0]
            if not isinstance(parts, Opened):
                holder[0] = Opened(loads(parts[0], parts[1]))
    return holder[0].value


def pickle_value(value: object, protocol: int) -> tuple[Any, list[Any]]:
    """Return the pickle of a value and its buffers.

    From protocol 5 on they are to go out of band, below it they are copied.

    As Dask does it: cloudpickle where pickle fails, or would refer to a ``__main__`` that another
    process does not have.
    """
    buffers: list[Any] = []
    try:
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        by_reference = b"__main__" in data
    except Exception:  # noqa: BLE001 (cloudpickle's own word counts)
        by_reference = True
    if by_reference:
        buffers.clear()
        data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    if protocol < 5:
        return data, [_copied(buffer) for buffer in buffers]
    return (pickle.PickleBuffer(data) if len(data) > _OUT_OF_BAND else data), buffers


def _copied(buffer: pickle.PickleBuffer) -> bytes | bytearray:
    raw = buffer.raw()
    # What was writable must be so again.
    return bytes(raw) if raw.readonly else bytearray(raw)


class Received:
    """An upstream state where it is consumed: an envelope of this process, or its wire form.

    Parameters
    ----------
    source : Envelope or tuple
        What Dask hands over.
    """

    __slots__ = ("_cached", "_parts", "header", "slug", "state")

    def __init__(self, source: Envelope | WireState) -> None:
        self._parts: list[Any] | None = None
        self._cached: list[Any] | None = None
        if isinstance(source, Envelope):
            self.header, self.slug, self.state = source.header, source.slug, source.state
            return
        fields, self.slug = pickle.loads(source[1])
        self.header = Header.from_wire(fields)
        self.state = to_state(self.header, self.slug)
        if not self.header.is_complete:
            self._parts = source[2]
        if len(source) > 3:
            self._cached = source[3]

    @classmethod
    def by_value(cls, fields: list[Any], slug: str) -> Received:
        """Return a state that came with the call, because no future holds it."""
        received = cls(_wire(fields, slug))
        # Where its result is gone, who gets it so is passed none: there is nothing to open.
        received._parts = None
        return received

    def open(self) -> None:
        """Put the value into the state.

        Raises
        ------
        ResultNotSerializable
            It could not be pickled by its producer, or cannot be unpickled here.
        """
        if self._parts is None:
            return
        header = self.header
        if "not_serializable" in header.more:
            raise ResultNotSerializable(self._text("pickled", header.more["not_serializable"]))
        try:
            value = open_parts(self._parts)
        except Exception as error:  # Whatever a user's class does when it is rebuilt.
            raise ResultNotSerializable(
                self._text("opened here", f"{type(error).__name__}: {error}")
            ) from error
        self._parts = None
        if isinstance(self.state, Failed):
            self.state.exception = cast(BaseException, value)
        else:
            self.state = self.state.copy_with(result=value)

    def open_cached(self) -> CachedState | None:
        """Return what may be taken instead of running, or None where nothing may.

        Raises
        ------
        ResultNotSerializable
            As :meth:`open`.
        """
        self.open()
        if self._cached is None:
            return getattr(self.state, "cached", None)
        if self._cached[0] == (b"", []):
            return None
        return CachedState(cached_result=self.state.result, **open_parts(self._cached))

    def _text(self, verb: str, why: str) -> str:
        return (
            f"the result of {self.slug}, a {self.header.kind}, cannot be {verb}: {why}. "
            "Return something that pickles, or keep the two tasks in one."
        )


def size_of(value: object) -> int:
    """Return a value's size as Dask estimates it; 0 where its class gets in the way."""
    try:
        return int(sizeof(value))
    except Exception:  # noqa: BLE001 (a user's `__sizeof__` may do anything)
        return 0


def plain_value(source: Envelope | WireState) -> Any:
    """Return the value of a state where it lies, for Dask code that knows nothing of states.

    Raises
    ------
    Exception
        What the task run failed with.
    """
    received = open_result(source)
    state = received.state
    if isinstance(state, Failed):
        raise state.exception if state.exception is not None else open_exception(received.header)
    return state.result


def open_result(source: Envelope | WireState) -> Received:
    """Return a finished run's state with its value, for the client.

    Raises
    ------
    ResultNotSerializable
        The value cannot be had here.
    """
    received = Received(source)
    received.open()
    return received
