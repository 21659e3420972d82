"""What comes with an execution, on its way to the inputs of the body and the states upstream."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dask_taskrunner.exceptions import ArgumentError, MissingResult
from dask_taskrunner.graph.arguments import replace
from dask_taskrunner.graph.mapping import element_of
from dask_taskrunner.states import State
from dask_taskrunner.worker.envelope import Received, open_parts
from dask_taskrunner.worker.gathering import Upstream, leaves_of, named_state, value_of
from dask_taskrunner.worker.placeholders import (
    ConstantPlaceholder,
    ElementPlaceholder,
    ItemPlaceholder,
    OwnPlaceholder,
    Placeholder,
)
from dask_taskrunner.worker.wire import Call

_PLACEHOLDERS = (
    Placeholder,
    ConstantPlaceholder,
    ElementPlaceholder,
    ItemPlaceholder,
    OwnPlaceholder,
)


class LengthChanged(ArgumentError):
    """What is mapped over was made again, and has another length now."""


class Arguments(NamedTuple):
    """What comes with an execution."""

    call: Call
    #: By the position in the plan.
    upstream: list[Upstream]
    constants: tuple[list[Any], ...]
    #: The plain value of somebody else's future, alone.
    foreign: tuple[Any, ...]
    #: True where a skip that has a result, and a mapped run that was skipped or has failed, are
    #: passed as a missing one.
    wants_ends: bool = False

    def received(self) -> Iterator[Received]:
        """Yield the state of every run upstream."""
        for source in self.upstream:
            yield from leaves_of(source)

    def open(self) -> None:
        """Open the values upstream.

        Raises
        ------
        ResultNotSerializable
            One of them cannot be opened here.
        """
        for received in self.received():
            received.open()

    def states(self) -> dict[str, State]:
        """Return the states upstream, for the trigger: a mapped run's is one that counts."""
        named = (named_state(source) for source in self.upstream)
        return dict(pair for pair in named if pair is not None)

    def inputs(self) -> dict[str, Any]:
        """Return the arguments by parameter name.

        Raises
        ------
        LengthChanged
            What is mapped over has not as many elements as there are children.
        """
        call = self.call
        if call.is_foreign:
            return {"value": self.foreign[0]}
        data = call.arguments
        if call.template >= 0:
            data = open_parts(self.constants[call.template])
        arguments: dict[str, Any] = pickle.loads(data)
        own: Mapping[int, Any] = {}
        if call.own:
            own = self._filled(pickle.loads(call.own), {})
        return self._filled(arguments, own)

    def _filled(self, arguments: Mapping[Any, Any], own: Mapping[int, Any]) -> dict[Any, Any]:
        def value_of(placeholder: Any) -> Any:
            if isinstance(placeholder, OwnPlaceholder):
                return own[placeholder.position]
            return self._value_of(placeholder)

        return {name: replace(value, _PLACEHOLDERS, value_of) for name, value in arguments.items()}

    def large_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flow's parameters, where large ones come beside the arguments."""
        if not any(isinstance(value, ConstantPlaceholder) for value in parameters.values()):
            return {}
        return {
            "parameters": {
                name: self._value_of(value) if isinstance(value, ConstantPlaceholder) else value
                for name, value in parameters.items()
            }
        }

    def _value_of(self, placeholder: Any) -> Any:
        position = placeholder.position
        if isinstance(placeholder, ConstantPlaceholder):
            return open_parts(self.constants[position])
        source = self.upstream[position]
        if not isinstance(source, Received):
            return self._value_of_several(source)
        if isinstance(placeholder, ElementPlaceholder):
            promised = self.call.promised[position]
            # Of what a run has grown to, it may be the element already.
            if promised >= 0:
                return self._element_of(source, self.call.map_index, promised)
        if isinstance(placeholder, ItemPlaceholder):
            return self._element_of(source, placeholder.index, placeholder.length)
        return self._result_of(source)

    def _value_of_several(self, source: Upstream) -> Any:
        named = named_state(source) if self.wants_ends else None
        if named is not None and (named[1].is_skipped() or not named[1].is_successful()):
            return MissingResult(*named)
        return value_of(source, self._result_of)

    def _result_of(self, source: Received) -> Any:
        # A header without a kind has no result; None has one: NoneType.
        if source.header.kind and not (self.wants_ends and source.state.is_skipped()):
            return source.state.result
        return MissingResult(source.slug, source.state)

    def _element_of(self, source: Received, index: int, promised: int) -> Any:
        values = self._result_of(source)
        if isinstance(values, MissingResult):
            return values
        more = source.header.more
        # Of a large one it is only a piece.
        length = more["length"] if "offset" in more else len(values)
        if length != promised:
            # It was made again after its worker had died, and came to something else.
            raise LengthChanged(
                f"{source.slug} had {promised} elements when {self.call.slug} was mapped over it, "
                f"and was made again with {length}"
            )
        return element_of(values, index - more.get("offset", 0))
