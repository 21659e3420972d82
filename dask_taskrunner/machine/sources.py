"""What a run is made of, and what is read in its place: its children, or its inner runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from dask_taskrunner.headers import Header, TaskRunId
from dask_taskrunner.machine.records import TaskRunRecord, attempt_of, read_by

Records: TypeAlias = Mapping[TaskRunId, TaskRunRecord]

_NONE: Final[Mapping[int, str]] = {}

#: How the states that are read in the place of one run belong together: None for one alone, a list
#: of trees for children, a dict for several results.
Tree: TypeAlias = Any


def tries_of(record: TaskRunRecord) -> int:
    """Return which attempt came to the state of a run, or is the newest one; 0 where none is known.

    What Dask executed once more after the end changed nothing.
    """
    final, newest = record.header, 0
    for number, value in enumerate(record.values, start=1):
        if not isinstance(value, Header):
            newest = number
        elif final is not None and value.execution == final.execution:
            return number
        elif attempt_of(value).outcome != "re-executed":
            newest = number
    # Where the client made the state, the last one was lost.
    return newest


def children_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the children of a mapped run, in their order."""
    for map_index in range(record.length or 0):
        yield records[record.id[0], map_index]


def parts_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the children of a mapped run, or the inner runs of one that has grown."""
    yield from children_of(record, records)
    for id in record.inner.runs if record.inner is not None else ():
        yield records[id]


def all_inside(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the inner runs of a run that has grown, and what these are made of."""
    for id in record.inner.runs if record.inner is not None else ():
        for one in (records[id], *children_of(records[id], records)):
            yield one
            yield from all_inside(one, records)


def has_its_result_elsewhere(record: TaskRunRecord) -> bool:
    """Return whether inner runs are read in the place of a run: not where it says all by itself."""
    return record.inner is not None and record.by_value is None


def record_of_result(record: TaskRunRecord, records: Records) -> TaskRunRecord:
    """Return the run whose result is that of one that has ended: itself, or an inner run.

    Of a list or a dict of several nobody has the result alone.
    """
    if record.inner is None:
        return record
    found: list[TaskRunId] = []
    tree = tree_of(record, records, found, is_list=False)
    return record if tree is not None else records[found[0]]


def tree_of(
    record: TaskRunRecord, records: Records, found: list[TaskRunId], *, is_list: bool
) -> Tree:
    """Return how what is read in the place of a run belongs together, and add it to ``found``.

    ``is_list`` says whether a mapped run is read child by child.
    """
    if has_its_result_elsewhere(record):
        assert record.inner is not None
        results = (records[id] for id in record.inner.results)
        trees = [tree_of(result, records, found, is_list=True) for result in results]
        names = record.inner.names
        return trees[0] if names is None else dict(zip(names, trees, strict=True))
    if is_list and record.length is not None:
        children = children_of(record, records)
        return [tree_of(child, records, found, is_list=True) for child in children]
    found.append(record.id)
    return None


def tree_of_element(
    record: TaskRunRecord, map_index: int, records: Records, found: list[TaskRunId]
) -> tuple[Tree, bool]:
    """Return the same of what one child reads of a list; and whether it is the element already.

    It is where the list is that of a mapped run to which the record has grown.
    """
    while has_its_result_elsewhere(record):
        assert record.inner is not None
        record = records[record.inner.results[0]]
    if record.length is None:
        return tree_of(record, records, found, is_list=False), False
    child = records[record.id[0], map_index]
    return tree_of(child, records, found, is_list=True), True


def sources_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the runs whose values a run is passed."""
    found: list[TaskRunId] = []
    elements = elements_of(record)
    for position, id in enumerate(record.plan.upstream):
        if position in elements:
            tree_of_element(records[id], record.id[1], records, found)
        else:
            tree_of(records[id], records, found, is_list=position in record.plan.lists)
    for id in found:
        yield records[id]


def elements_of(record: TaskRunRecord) -> Mapping[int, str]:
    """Return the positions of what a child takes an element of."""
    maps = None if record.family is None else record.family.plan.maps
    return _NONE if maps is None else maps.elements


def all_are_there(record: TaskRunRecord, records: Records) -> bool:
    """Return whether nothing is being made again that a run reads in the place of another.

    Also after that one has ended: what it has grown to, or one of its children has.
    """
    lists = record.plan.lists
    for position, id in enumerate(record.plan.upstream):
        source = records[id]
        if not _is_there(source, records):
            return False
        children = children_of(source, records) if position in lists else ()
        if not all(_is_there(child, records) for child in children):
            return False
    return True


def _is_there(record: TaskRunRecord, records: Records) -> bool:
    if record.inner is None:
        return True
    found: list[TaskRunId] = []
    tree_of(record, records, found, is_list=True)
    return all(records[id].phase == "finished" for id in found)


def readers_of(record: TaskRunRecord, records: Records) -> Iterator[TaskRunRecord]:
    """Yield the runs that stand behind one.

    A child's list is read behind its mapped run, and what a run has grown to behind that run.
    """
    yield from (records[id] for id in record.downstream)
    yield from _readers_of_whole(record.stands_for, records)
    family = record.family
    # Before, nobody can read it; and there may be very many who will.
    if family is None or family.phase != "finished":
        return
    for id in family.downstream:
        reader = records[id]
        # To be expanded a run reads no value, and for a state alone nobody does.
        if reader.plan.maps is None and family in read_by(reader.plan, records):
            yield reader
    yield from _readers_of_whole(family.stands_for, records)


def _readers_of_whole(whole: TaskRunRecord | None, records: Records) -> Iterator[TaskRunRecord]:
    if whole is not None:
        readers = readers_of(whole, records)
        yield from (reader for reader in readers if reader.plan.maps is None)
