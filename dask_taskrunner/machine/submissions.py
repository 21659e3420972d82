"""What one task run is sent with: the runs behind which it stands, and states by value. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dask_taskrunner.headers import Header, TaskRunId, standing_alone
from dask_taskrunner.machine.commands import NO_NUMBERS, Submission
from dask_taskrunner.machine.records import TaskRunRecord
from dask_taskrunner.machine.sources import Records, Tree, elements_of, tree_of, tree_of_element


def submission_of(record: TaskRunRecord, records: Records) -> Submission:
    """Return what is to be sent of a run: behind what it stands, and what it gets by value."""
    plan = record.plan
    ids: tuple[TaskRunId, ...] = plan.upstream
    widths: Mapping[int, int] = NO_NUMBERS
    trees: Mapping[int, Tree] = NO_NUMBERS
    picked: set[int] = set()
    if plan.maps is not None:
        # Only its trigger is asked: no value is opened, and none need travel for it. What it
        # is mapped over child by child, each child asks about by itself.
        apart = expanded_by_index(record, records)
        widths = dict.fromkeys(apart, 0)
        ids = tuple(id for position, id in enumerate(ids) if position not in apart)
        states: tuple[int | Header, ...] = tuple(_told(id, records) for id in ids)
    elif plan.lists or any(records[id].inner is not None for id in ids):
        widths, ids, trees, picked = _spread(record, records)
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
        _promised(record, records, picked),
        record.loop_from,
        record.loop_count,
        record.is_approved,
        plan.maps is not None,
        _sizes(record, records, picked),
        trees,
    )


def expanded_by_index(record: TaskRunRecord, records: Records) -> set[int]:
    """Return the positions of what is mapped over child by child, where there are children."""
    plan = record.plan
    assert plan.maps is not None
    places = plan.maps.by_index
    return {position for position in places if records[plan.upstream[position]].length is not None}


def expands_at_once(record: TaskRunRecord, records: Records) -> bool:
    """Return whether a mapped run needs no word of a worker to become its children.

    Its lengths are known here, and each child asks its own trigger. Where there are none the run
    has to ask, if there is anything to ask about: it may stand in a branch that is not taken.
    """
    plan, maps = record.plan, record.plan.maps
    assert maps is not None
    apart = expanded_by_index(record, records)
    if maps.elements or len(apart) < len(maps.by_index):
        return False
    lengths = {*maps.lengths.values(), *(records[plan.upstream[at]].length for at in apart)}
    return 0 not in lengths or len(apart) == len(plan.upstream)


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
) -> tuple[dict[int, int], tuple[TaskRunId, ...], dict[int, Tree], set[int]]:
    """Return what a run stands behind: children, or inner runs, in the place of others.

    Per position in the plan, how many there are and how they belong together, where that is not one
    or a list; and at which positions there is an element already, and not a list.
    """
    widths: dict[int, int] = {}
    ids: list[TaskRunId] = []
    trees: dict[int, Tree] = {}
    picked: set[int] = set()
    elements = elements_of(record)
    for position, id in enumerate(record.plan.upstream):
        found: list[TaskRunId] = []
        if position in elements:
            tree, is_element = tree_of_element(records[id], record.id[1], records, found)
            picked |= {position} if is_element else set()
        else:
            is_list = position in record.plan.lists
            tree = tree_of(records[id], records, found, is_list=is_list)
        ids += found
        if tree is None:
            continue
        widths[position] = len(found)
        if not isinstance(tree, list) or any(part is not None for part in tree):
            trees[position] = tree
    return widths, tuple(ids), trees, picked


def _promised(record: TaskRunRecord, records: Records, picked: set[int]) -> Mapping[int, int]:
    """Return the lengths of what a child takes its elements of; -1 for what is one already."""
    promised = {}
    for position in elements_of(record):
        # As it was when there came to be so many children; it may be another now.
        header = records[record.plan.upstream[position]].header
        assert header is not None
        promised[position] = -1 if position in picked else header.more["length"]
    return promised or NO_NUMBERS


def _sizes(record: TaskRunRecord, records: Records, picked: set[int]) -> Mapping[int, int]:
    """Return the bytes of what a child takes its elements of."""
    sizes = {}
    for position in elements_of(record):
        header = records[record.plan.upstream[position]].header
        assert header is not None
        sizes[position] = 0 if position in picked else header.nbytes
    return sizes or NO_NUMBERS
