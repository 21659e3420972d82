"""The states that are read in the place of one upstream run: its children's, its inner runs'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from dask_taskrunner.headers import child_slug, state_name
from dask_taskrunner.states import Mapped, Skipped, State, Success
from dask_taskrunner.triggers import root_cause
from dask_taskrunner.worker.envelope import Received


class Whole(NamedTuple):
    """What a run has grown to, or the children of a mapped run of which some have grown."""

    slug: str
    #: A state, or a list or a dict of such.
    parts: Any


#: What an upstream run of the plan came to: its state, or those of its children.
Upstream: TypeAlias = Received | list[Received] | Whole


def gathered(
    received: list[Received], widths: Mapping[int, int], trees: Mapping[int, tuple[str, Any]]
) -> list[Upstream]:
    """Return the states by position in the plan: those that stand for one run together."""
    found: list[Upstream] = []
    states = iter(received)
    while len(found) < max(widths) + 1:
        position = len(found)
        if position not in widths:
            found.append(next(states))
            continue
        own = [*islice(states, widths[position])]
        if position in trees:
            slug, tree = trees[position]
            found.append(Whole(slug, _shaped(iter(own), tree)))
        else:
            found.append(own)
    return [*found, *states]


def _shaped(states: Iterator[Received], tree: Any) -> Any:
    if tree is None:
        return next(states)
    if isinstance(tree, dict):
        return {name: _shaped(states, part) for name, part in tree.items()}
    return [_shaped(states, part) for part in tree]


def name_all(source: Upstream, slug: str) -> None:
    """Call an upstream run, and its children, by another name."""
    if isinstance(source, Received):
        source.slug = slug
    elif isinstance(source, list):
        for map_index, child in enumerate(source):
            child.slug = child_slug(slug, map_index)


def leaves_of(source: Any) -> Iterator[Received]:
    """Yield each state that stands for an upstream run."""
    if isinstance(source, Received):
        yield source
        return
    parts = source.parts if isinstance(source, Whole) else source
    for part in parts.values() if isinstance(parts, dict) else parts:
        yield from leaves_of(part)


def named_state(source: Upstream) -> tuple[str, State] | None:
    """Return the name and the state of an upstream run; None where no child stands for it."""
    if isinstance(source, Received):
        return source.slug, source.state
    if isinstance(source, Whole):
        return source.slug, _state_of(source.parts)
    return (source[0].slug.rpartition("[")[0], _state_of(source)) if source else None


def _state_of(parts: Any) -> State:
    if not isinstance(parts, list):
        return _one_of(parts)
    states = {_name_of(part, n): _one_of(part) for n, part in enumerate(parts)}
    counts = Counter(state_name(state) for state in states.values())
    return Mapped(counts=dict(counts), root_cause=root_cause(states))


def _one_of(part: Any) -> State:
    """Return the state of one run, of what stands for it: it succeeded, if none was lost since."""
    states = [received.state for received in leaves_of(part)]
    if len(states) == 1:
        return states[0]
    bad = (state for state in states if not state.is_successful())
    skipped = bool(states) and all(isinstance(state, Skipped) for state in states)
    return next(bad, states[0] if skipped else Success())


def _name_of(part: Any, n: int) -> str:
    return part.slug if isinstance(part, Received) else f"[{n}]"


def value_of(source: Any, result_of: Callable[[Received], Any]) -> Any:
    """Return what a body gets of an upstream run."""
    if isinstance(source, Received):
        return result_of(source)
    parts = source.parts if isinstance(source, Whole) else source
    if isinstance(parts, dict):
        return {name: value_of(part, result_of) for name, part in parts.items()}
    return [value_of(part, result_of) for part in parts]
