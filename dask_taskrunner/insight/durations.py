"""What the time of a task run went to, and whether that is much. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Final, cast

from dask_taskrunner.insight.explanations import Kind, Reason
from dask_taskrunner.insight.paths import WORDS
from dask_taskrunner.insight.pending import SIBLINGS, SLOW
from dask_taskrunner.insight.readings import Node, NodeId, Reading
from dask_taskrunner.insight.waits import Places, Spent, places_of, spent
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import Records, children_of
from dask_taskrunner.view.text import format_duration

#: What takes less is not worth a word.
_PART: Final = 0.01


def time_of(
    record: TaskRunRecord, id: NodeId, records: Records, reading: Reading
) -> tuple[tuple[Reason, ...], Mapping[str, float]]:
    """Return what the time of a task run went to, in words and in seconds.

    Parameters
    ----------
    record : TaskRunRecord
        Of the task run.
    id : NodeId
        What stands for it in the reading.
    records : mapping
        All of the flow run's.
    reading : Reading
        Of the flow run.
    """
    node = reading.nodes[id]
    if node.ended is None or not (node.is_here or node.is_whole):
        return (), {}
    places = places_of(reading)
    told: list[Reason] = []
    while node.is_whole:
        parts = [reading.nodes[part] for part in node.waits_for]
        ended = [one for one in parts if one.ended is not None]
        if not ended:
            return (), {}
        node = max(ended, key=lambda one: one.ended or 0.0)
        told.append(Reason("parts", node.slug, f"{node.slug} ended last of what is inside"))
    took = spent(node, places)
    told += _parts(node, took)
    told += _among_siblings(record, node, took, records, reading, places)
    return tuple(told), took._asdict()


def _parts(node: Node, took: Spent) -> list[Reason]:
    parts = sorted(zip(took, Spent._fields, strict=True), reverse=True)
    least = took.seconds * _PART
    return [
        Reason(cast(Kind, kind), node.slug, f"{format_duration(seconds)} {WORDS[kind]}")
        for seconds, kind in parts
        if seconds > least
    ]


def _among_siblings(
    record: TaskRunRecord,
    node: Node,
    took: Spent,
    records: Records,
    reading: Reading,
    places: Places,
) -> list[Reason]:
    """Return whether a child ran much longer than the middle one of its family."""
    family = record if record.length is not None else record.family
    if family is None:
        return []
    nodes = [reading.nodes[one.id, False] for one in children_of(family, records)]
    others = [
        spent(one, places).running for one in nodes if one is not node and one.ended is not None
    ]
    if len(others) < SIBLINGS:
        return []
    middle = statistics.median(others)
    if took.running < SLOW * middle or took.running == 0:
        return []
    text = f"the middle one of its {len(others)} siblings ran for {format_duration(middle)}"
    return [Reason("longer", node.slug, text)]
