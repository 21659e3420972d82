"""Cache validators: whether the result of an earlier run may stand for a run of now.

A validator takes ``(state, inputs, parameters)``: the `CachedState` that is offered, and what the
run would get. Values are compared by Dask's tokens, never by ``==``; what has no lasting token
compares unequal, so the run is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dask_taskrunner.states import CachedState, same_value

Values: TypeAlias = Mapping[str, Any] | None
CacheValidator: TypeAlias = Callable[[CachedState, Values, Values], bool]


def never_use(state: CachedState, inputs: Values, parameters: Values) -> bool:  # noqa: ARG001
    """Never take the earlier result."""
    return False


def duration_only(state: CachedState, inputs: Values, parameters: Values) -> bool:  # noqa: ARG001
    """Take the earlier result until it expires."""
    return not state.is_expired()


def all_inputs(state: CachedState, inputs: Values, parameters: Values) -> bool:  # noqa: ARG001
    """Take the earlier result until it expires, if it came of the same inputs."""
    return not state.is_expired() and _same(state.cached_inputs, inputs)


def all_parameters(state: CachedState, inputs: Values, parameters: Values) -> bool:  # noqa: ARG001
    """Take the earlier result until it expires, if the flow's parameters were the same."""
    return not state.is_expired() and _same(state.cached_parameters, parameters)


def partial_inputs_only(validate_on: Iterable[str] | None = None) -> CacheValidator:
    """Take the earlier result until it expires, if it came of the same inputs of these names.

    Parameters
    ----------
    validate_on : iterable of str, optional
        Names of inputs; without any, no input is looked at.
    """
    return _Partial("inputs", _names(validate_on))


def partial_parameters_only(validate_on: Iterable[str] | None = None) -> CacheValidator:
    """Take the earlier result until it expires, if the parameters of these names were the same.

    Parameters
    ----------
    validate_on : iterable of str, optional
        Names of parameters; without any, no parameter is looked at.
    """
    return _Partial("parameters", _names(validate_on))


@dataclass(frozen=True)
class _Partial:
    kind: Literal["inputs", "parameters"]
    names: tuple[str, ...]

    @property
    def __name__(self) -> str:
        return f"partial_{self.kind}_only({list(self.names)!r})"

    def __call__(self, state: CachedState, inputs: Values, parameters: Values) -> bool:
        if self.kind == "inputs":
            then, now = state.cached_inputs, inputs
        else:
            then, now = state.cached_parameters, parameters
        return not state.is_expired() and _same(self._part_of(then), self._part_of(now))

    def _part_of(self, values: Values) -> dict[str, Any]:
        return {name: value for name, value in (values or {}).items() if name in self.names}

    def __repr__(self) -> str:
        return self.__name__


def _names(validate_on: Iterable[str] | None) -> tuple[str, ...]:
    # A single name is an iterable of letters, and never meant so.
    return (validate_on,) if isinstance(validate_on, str) else tuple(validate_on or ())


def _same(then: Values, now: Values) -> bool:
    then, now = then or {}, now or {}
    return then.keys() == now.keys() and all(same_value(then[name], now[name]) for name in then)
