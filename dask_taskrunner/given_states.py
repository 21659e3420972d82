"""What a user gives as the state of a task run: as a header, and where its result is.

It knows no flow; which task runs are run at all is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import cloudpickle

from dask_taskrunner.backend import Constant
from dask_taskrunner.exceptions import (
    OptionError,
    ResultReleased,
    UnpicklableArgument,
)
from dask_taskrunner.exceptions import (
    describe as describe_error,
)
from dask_taskrunner.graph.mapping import measure
from dask_taskrunner.headers import (
    NOTHING_MORE,
    Header,
    TaskRunId,
    describe,
    small_result,
    standing_alone,
    state_name,
)
from dask_taskrunner.packing import LARGE, Packer
from dask_taskrunner.short_texts import shorten_message
from dask_taskrunner.states import CachedState, Elsewhere, Skipped, State, Success
from dask_taskrunner.worker.envelope import pickle_value, size_of
from dask_taskrunner.worker.wire import PROTOCOL

#: Makes one more future of a future; None where it is gone, or another client's.
Share: TypeAlias = Callable[[Any], Any]


class Source(Protocol):
    """Finds the result that a header of an earlier run stands for."""

    @property
    def header(self) -> Header:
        """The header."""

    def share(self) -> Any:
        """Return one more future of the state, or None where it is gone."""

    def children(self) -> Sequence[tuple[str, Header, Source]] | None:
        """Return slug, header and source of each child of a mapped run; None if it is gone."""


class Given(NamedTuple):
    """The state that a task run is given.

    Attributes
    ----------
    slug : str
        The task run's.
    state : State
        What the user passed.
    is_mapped_over : bool
        Whether others take elements of the result.
    children : tuple of Given or None
        Of a mapped task run that has children: their states.
    """

    slug: str
    state: State
    is_mapped_over: bool = False
    children: tuple[Given, ...] | None = None

    @property
    def is_finished(self) -> bool:
        """True where the task is not to be run."""
        return self.state.is_finished()

    @property
    def value(self) -> Any:
        """The result as it is stored: it may be an `Elsewhere`."""
        return self.state.fields()["result"]

    @property
    def source(self) -> Source | None:
        """What finds a result that is not here; None where nothing does."""
        value = self.value
        source: Source | None = value.source if isinstance(value, Elsewhere) else None
        return source

    def header(self, id: TaskRunId) -> Header:
        """Return the state as the header of a task run of this flow run."""
        message = shorten_message(self.state.message)
        if self.source is not None:
            known = self.source.header
            return known._replace(
                n=id[0], map_index=id[1], submission=1, message=message,
                more=self._with_length(known.more),
            )  # fmt: skip
        kind, nbytes, small = self._result()
        more = dict(self._with_length(describe(self.state)))
        # A delay runs from the end of an attempt, and that one was another run's.
        more.pop("delay", None)
        header = Header(
            *id, 1, 0, state_name(self.state), message, "", 1, None, None, self.state.at, kind,
            nbytes, small, more or NOTHING_MORE,
        )  # fmt: skip
        return standing_alone(header) if self.state.is_failed() else header

    def _with_length(self, more: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a header says besides, with how many elements the result has."""
        if not self.is_mapped_over or not self.state.is_successful() or "length" in more:
            return more
        if self.state.result_is_here:
            return {**more, **measure(self.value)}
        if "no_length" in more:
            return more
        raise OptionError(
            f"task_states[{self.slug!r}]: how many elements its result has is not known here, for "
            f"nothing was mapped over it in its own run; pass the value: "
            f"task_states={{{self.slug!r}: Success(result=run[{self.slug!r}].result())}}"
        )

    def _result(self) -> tuple[str, int, bytes | None]:
        """Return the kind and the size of the result, and its pickle where it is small."""
        value = self.value
        if isinstance(value, Elsewhere):
            return "result", 0, None
        # A skip without a result has none, which is not the same as None.
        if not isinstance(self.state, Success) or (
            value is None and isinstance(self.state, Skipped)
        ):
            return "", 0, None
        small = small_result(value)
        return type(value).__name__, len(small) if small else size_of(value), small

    def share(self, share: Share) -> Any:
        """Return a future of the state, which an earlier run's header stands for.

        Raises
        ------
        ResultReleased
            There is none that this run could use.
        """
        future = None if self.source is None else self.source.share()
        shared = None if future is None else share(future)
        if shared is None:
            raise ResultReleased(self._why_gone(future))
        return shared

    def _why_gone(self, future: Any) -> str:
        slug = self.slug
        text = f"the state given for {slug!r} is a header, and its result "
        if self.source is None:
            text += "stayed behind when the state was pickled or copied"
        elif future is None:
            text += (
                "is not held on the cluster any more; keep it with "
                f"return_tasks=[{slug!r}] while the earlier FlowRun and its runner live"
            )
        else:
            text += "is lost, or belongs to another Dask client than this run's"
        return (
            f"{text}. Run it again: leave {slug!r} out of task_states; or pass the value: "
            f"task_states={{{slug!r}: Success(result=...)}}"
        )

    def wire(self, header: Header, packer: Packer) -> tuple[Any, ...]:
        """Return the state with its value, as it travels.

        Raises
        ------
        UnpicklableArgument, LargeArgument
            It cannot be sent.
        """
        # Copied: from now on the value may be changed.
        data, buffers = self._pickled(lambda: pickle_value(self.value, 4))
        size = len(data) + sum(map(len, buffers))
        packer.weigh(f"task_states[{self.slug!r}]", self.value, size, self.slug, "task_states")
        stamp = cloudpickle.dumps((header.to_wire(), self.slug))
        return (PROTOCOL, stamp, [(data, buffers)])

    def to_begin_with(self, packer: Packer) -> bytes | Constant | None:
        """Return what travels of a state that goes to the first attempt; None for nothing.

        Raises
        ------
        OptionError
            It is a cached state without its result.
        UnpicklableArgument, LargeArgument
            It cannot be sent.
        """
        # Of any other the run number and the time say all, and the client keeps both.
        if not isinstance(self.state, CachedState):
            return None
        if isinstance(self.state.fields()["cached_result"], Elsewhere):
            raise OptionError(
                f"task_states[{self.slug!r}]: the cached result is not here; "
                f"pass CachedState(cached_result=run[{self.slug!r}].result(), ...)"
            )
        data: bytes = self._pickled(lambda: cloudpickle.dumps(self.state, protocol=5))
        packer.weigh(f"task_states[{self.slug!r}]", self.state, len(data), self.slug, "task_states")
        return data if len(data) <= LARGE else Constant(data)

    def _pickled(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # Whatever the user's objects raise.
            raise UnpicklableArgument(
                f"task_states[{self.slug!r}], {self.state!r}, cannot be pickled: "
                f"{describe_error(error)}",
                task=self.slug,
                argument="task_states",
            ) from error
