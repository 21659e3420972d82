"""The envelope: a state with its live value, pickled only when Dask asks for its wire form.

A consumer in the same process gets the very object, as with raw Dask. What does not pickle becomes
a marker, and what does not unpickle is found out here, in our code: inside Dask either would leave
the dependents pending for ever.
"""

from __future__ import annotations

import pickle
from typing import Any, cast

import cloudpickle

from dask_taskrunner.exceptions import ResultNotSerializable
from dask_taskrunner.headers import Header, open_exception, to_state
from dask_taskrunner.states import Failed, State
from dask_taskrunner.tracebacks import loads
from dask_taskrunner.worker.wire import PROTOCOL, WireState

#: From this size on a pickle is handed to Dask out of band, so that it is not copied once more.
_OUT_OF_BAND = 65_536


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
        return self.header.nbytes + 200

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
        return (PROTOCOL, pickle.dumps((header.to_wire(), self.slug)), [parts])


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
    (parts,) = holder
    if not isinstance(parts, Opened):
        parts = holder[0] = Opened(loads(parts[0], parts[1]))
    return parts.value


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

    __slots__ = ("_parts", "header", "slug", "state")

    def __init__(self, source: Envelope | WireState) -> None:
        self._parts: list[Any] | None = None
        if isinstance(source, Envelope):
            self.header, self.slug, self.state = source.header, source.slug, source.state
            return
        fields, self.slug = pickle.loads(source[1])
        self.header = Header.from_wire(fields)
        self.state = to_state(self.header, self.slug)
        if not self.header.is_complete:
            self._parts = source[2]

    @classmethod
    def by_value(cls, fields: list[Any], slug: str) -> Received:
        """Return a state that came with the call, because no future holds it."""
        return cls(_wire(fields, slug))

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

    def _text(self, verb: str, why: str) -> str:
        return (
            f"the result of {self.slug}, a {self.header.kind}, cannot be {verb}: {why}. "
            "Return something that pickles, or keep the two tasks in one."
        )


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
