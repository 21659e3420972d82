"""What a message to Dask is made of: keys, priorities, placement, references. Pure functions."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, cast

# Alias says "the value of that key" inside a message, also for keys of the same message. The
# public ways are a Future, which a message's own keys do not have yet, and legacy tuples, which
# Dask converts slowly. tests/cluster/test_private_names.py fails when it changes.
from dask._task_spec import Alias
from dask.base import annotate

from dask_taskrunner.backend import Code, RunSpec, spec_of
from dask_taskrunner.headers import Header, TaskRunId, child_slug
from dask_taskrunner.machine.commands import Submission
from dask_taskrunner.worker.wire import NARROW, Call

#: Name, flow run and position; index of the mapped child, -1 where not mapped; submission.
Key: TypeAlias = tuple[str, int, int]


def key_name(run: str, id: TaskRunId, name: str) -> str:
    """Return the part of a task run's keys that all its submissions share.

    Dask makes one prefix of the words before the digits, for all uses of a task in all runs, and
    one group of all keys with this part: a task's own, so that no group depends on itself.
    """
    return f"{re.sub(r'[^0-9A-Za-z_]', '_', name)}-{run}-{id[0]}"


def resources_of(spec: RunSpec, run: Submission) -> dict[str, float] | None:
    """Return what a worker must have for a body; a trigger alone needs nothing."""
    if run.expands:
        return None
    resources = spec.resources(run.attempt) if callable(spec.resources) else spec.resources
    return dict(resources) if resources else None


def priority_of(keys: list[Key], priorities: list[float]) -> Any:
    """Return one number, or a function of the key where the runs of a message differ.

    Dask calls what is callable in an annotation with the key, on the scheduler; a dict's own
    ``get`` can be received by any process.
    """
    if len(set(priorities)) == 1:
        return priorities[0]
    return dict(zip(keys, priorities, strict=True)).get


def preferring(workers: Mapping[Key, list[str]]) -> AbstractContextManager[None]:
    """Send something of which each key has workers of its own to prefer; empty for none.

    Dask calls what is callable in an annotation with the key, on the scheduler; see
    :func:`priority_of`. What it may not run on it does not say: a worker may go.
    """
    if not any(workers.values()):
        return nullcontext()
    return cast(
        AbstractContextManager[None],
        annotate(workers=dict(workers).get, allow_other_workers=True),
    )


def columns(references: list[list[Alias]], calls: list[bytes]) -> list[list[Any]]:
    """Return rows of references as arguments of ``client.map``, padded with None.

    The first of each row is the definition's, which all have, and which is called with what
    follows: the call, and the others, of which more than a few are one list.
    """
    rows = [row if len(row) <= NARROW + 1 else [row[0], cast(Any, row[1:])] for row in references]
    width = max(map(len, rows))
    first, *others = ([row[i] if i < len(row) else None for row in rows] for i in range(width))
    return [first, calls, *others]


def segments(
    runs: Sequence[Submission], specs: Mapping[TaskRunId, RunSpec]
) -> Iterator[list[tuple[Submission, RunSpec]]]:
    """Cut a slice where the placement changes, for a message has one; the order stays."""
    segment: list[tuple[Submission, RunSpec]] = []
    placement: object = None
    for run in runs:
        spec = spec_of(specs, run.id)
        assert spec is not None
        own = (resources_of(spec, run), spec.workers)
        if segment and own != placement:
            yield segment
            segment = []
        placement = own
        segment.append((run, spec))
    if segment:
        yield segment


def copies_for(
    runs: Sequence[tuple[Submission, RunSpec]],
    copy_of: Callable[[TaskRunId], int | None],
    count_of: Callable[[Code], int],
    first: int = 0,
) -> tuple[list[int], int]:
    """Return behind which copy of the definitions each run of a message is to stand.

    That of its own submission before, if there was one, or of a run upstream: a result that it
    reads lies on the same worker. What stands behind none, or takes an element of a list, is
    divided among all, neighbors together: who reads of one of them often reads of the next, too.

    Parameters
    ----------
    runs : sequence of (Submission, RunSpec)
        In topological order.
    copy_of : callable
        Returns behind which one a run of an earlier message stands, if that is known.
    count_of : callable
        Returns how many copies of definitions there are.
    first : int
        Behind which one the first of those stands that are divided.

    Returns
    -------
    copies : list of int
        They go round: the one that comes after the last is the first.
    first : int
        That of the next message: what is sent one by one is divided as well.
    """
    inside = {run.id for run, _ in runs}
    kin: list[TaskRunId | None] = []
    for run, _ in runs:
        # Of a child, the child of the same index.
        near = (id for id in run.upstream_ids if run.id[1] in (-1, id[1]))
        known = (id for id in near if id in inside or copy_of(id) is not None)
        kin.append(run.id if copy_of(run.id) is not None else next(known, None))
    alone, turn = max(1, kin.count(None)), 0
    chosen: dict[TaskRunId, int] = {}
    for (run, spec), upstream in zip(runs, kin, strict=True):
        if upstream is None:
            chosen[run.id] = first + turn * count_of(spec.code) // alone
            turn += 1
        else:
            chosen[run.id] = chosen[upstream] if upstream in chosen else copy_of(upstream) or 0
    return [chosen[run.id] for run, _ in runs], first + turn


def _upstream_names(run: Submission, spec: RunSpec) -> Sequence[str]:
    """Return the names of what a run stands behind: of a mapped run, those of its children."""
    if not run.widths:
        return spec.upstream_slugs
    names: list[str] = []
    for position, slug in enumerate(spec.upstream_slugs):
        if position in run.trees:
            names += _leaf_names(slug, run.trees[position])
        elif position in run.widths:
            names += [child_slug(slug, i) for i in range(run.widths[position])]
        else:
            names.append(slug)
    return names


def _leaf_names(slug: str, tree: Any) -> list[str]:
    """Return the names of what is read in the place of one run."""
    if tree is None:
        return [slug]
    parts = (
        {f"{slug}/{name}": part for name, part in tree.items()}
        if isinstance(tree, dict)
        else {child_slug(slug, i): part for i, part in enumerate(tree)}
    )
    return [name for part_name, part in parts.items() for name in _leaf_names(part_name, part)]


def pickle_call(
    flow_run: str, run: Submission, spec: RunSpec, *, references: int, cached: bool = False
) -> bytes:
    """Return a :class:`~dask_taskrunner.worker.wire.Call` as it travels."""
    by_value: dict[int, tuple[list[Any], str]] = {}
    if any(isinstance(state, Header) for state in run.upstream):
        names = _upstream_names(run, spec)
        by_value = {
            place: (state.to_wire(), name)
            for place, (state, name) in enumerate(zip(run.upstream, names, strict=True))
            if isinstance(state, Header)
        }
    ignores_trigger = spec.ignores_trigger or run.ignores_trigger
    trees = {n: (spec.upstream_slugs[n], tree) for n, tree in run.trees.items()}
    constants = 0 if run.expands else len(spec.constants)
    call = Call(
        flow_run, *run.id, run.submission, run.run_number, run.attempt, spec.slug,
        spec.name, spec.definition, spec.arguments, by_value, references, constants,
        cached, spec.foreign is not None, ignores_trigger, spec.initial, spec.known_as,
        run.widths, run.promised, spec.own, spec.template, run.loop_count, run.expands,
        spec.is_mapped_over, trees,
    )  # fmt: skip
    # As a plain tuple: the bootstrap reads it where this package is missing.
    return pickle.dumps(tuple(call), protocol=5)
