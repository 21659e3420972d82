"""What one task run is sent with: the runs behind which it stands, and states by value. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from dask_taskrunner.headers import Header, TaskRunId, standing_alone
from dask_taskrunner.machine.commands import NO_NUMBERS, Submission
from dask_taskrunner.machine.records import TaskRunRecord

Records: TypeAlias = Mapping[TaskRunId, TaskRunRecord]


def children_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the children of a mapped run, in their order."""
    for map_index in range(record.length or 0):
        yield records[record.id[0], map_index]


def sources_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the runs whose values a run is passed."""
    for position, id in enumerate(record.plan.upstream):
        source = records[id]
        if source.length is not None and position in record.plan.lists:
            yield from children_of(source, records)
        else:
            yield source


def submission_of(record: TaskRunRecord, records: Records) -> Submission:
    """Return what is to be sent of a run: behind what it stands, and what it gets by value."""
    plan = record.plan
    ids: tuple[TaskRunId, ...] = plan.upstream
    widths: Mapping[int, int] = NO_NUMBERS
    if plan.maps is not None:
        # Only its trigger is asked: no value is opened, and none need travel for it. What it
        # is mapped over child by child, each child asks about by itself.
        apart = expanded_by_index(record, records)
        widths = dict.fromkeys(apart, 0)
        ids = tuple(id for position, id in enumerate(ids) if position not in apart)
        states: tuple[int | Header, ...] = tuple(_told(id, records) for id in ids)
    elif plan.lists:
        widths, ids = _spread(record, records)
        states = tuple(_handed_over(id, records) for id in ids)
    else:
        states = tuple(_handed_over(id, records) for id in ids)
    return Submission(
        record.id,
        record.submission,
        record.run_number,
        len(record.values) + 1,
        ids,
        states,
        widths,
        NO_NUMBERS if record.family is None else _promised(record, records),
        record.loop_from,
        record.loop_count,
        record.is_approved,
        plan.maps is not None,
        NO_NUMBERS if record.family is None else _sizes(record, records),
    )


def expanded_by_index(record: TaskRunRecord, records: Records) -> set[int]:
    """Return the positions of what is mapped over child by child, where there are children."""
    plan = record.plan
    assert plan.maps is not None
    places = plan.maps.by_index
    return {position for position in places if records[plan.upstream[position]].length is not None}


def _told(id: TaskRunId, records: Records) -> Header:
    """Return what a trigger is told of a run that has finished; its value stays where it is."""
    source = records[id]
    header = source.by_value or source.header
    assert header is not None, source.plan.slug
    return standing_alone(header) if header.stands_alone else header


def _handed_over(id: TaskRunId, records: Records) -> int | Header:
    """Return what a run gets of one upstream run: a submission with a future, or a state."""
    source = records[id]
    if source.by_value is not None:
        return source.by_value
    if source.future and source.plan.maps is None:
        return source.submission
    # Released, and needed again where a lost value is made anew.
    assert source.header is not None, source.plan.slug
    assert not source.is_gone, source.plan.slug
    return standing_alone(source.header)


def _spread(
    record: TaskRunRecord, records: Records
) -> tuple[dict[int, int], tuple[TaskRunId, ...]]:
    """Return the children in the place of mapped runs of which a list is passed."""
    widths: dict[int, int] = {}
    ids: list[TaskRunId] = []
    for position, id in enumerate(record.plan.upstream):
        length = records[id].length
        if length is None or position not in record.plan.lists:
            ids.append(id)
        else:
            widths[position] = length
            ids += [(id[0], map_index) for map_index in range(length)]
    return widths, tuple(ids)


def _promised(record: TaskRunRecord, records: Records) -> Mapping[int, int]:
    """Return the lengths of what a child takes its elements of."""
    assert record.family is not None
    maps = record.family.plan.maps
    assert maps is not None
    promised = {}
    for position in maps.elements:
        # As it was when there came to be so many children; it may be another now.
        header = records[record.plan.upstream[position]].header
        assert header is not None
        promised[position] = header.more["length"]
    return promised or NO_NUMBERS


def _sizes(record: TaskRunRecord, records: Records) -> Mapping[int, int]:
    """Return the bytes of what a child takes its elements of."""
    assert record.family is not None
    maps = record.family.plan.maps
    assert maps is not None
    sizes = {}
    for position in maps.elements:
        header = records[record.plan.upstream[position]].header
        assert header is not None
        sizes[position] = header.nbytes
    return sizes or NO_NUMBERS
