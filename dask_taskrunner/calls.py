"""From a call to task runs: what ``submit`` and ``map`` were given, and what is to be sent for it.

What can be wrong is found here, in the caller's line. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, overload

from dask_taskrunner.awaiting import Awaited
from dask_taskrunner.exceptions import ArgumentError, OptionError
from dask_taskrunner.graph import signatures
from dask_taskrunner.graph.arguments import find, replace
from dask_taskrunner.graph.binding import read_task_args
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.mapping import (
    ARGUMENT,
    Each,
    Unmapped,
    check_lengths,
    columns_of,
    elements_at,
    elements_of,
    has_own_length,
    mark_columns,
)
from dask_taskrunner.graph.tasks import FunctionTask, Node, Task
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures
from dask_taskrunner.worker.placeholders import ItemPlaceholder, Placeholder

#: What stands for a result among the arguments, and is ours.
OURS: Final = (TaskRunFuture, TaskRunFutures, TaskRun, Node)


@dataclass(frozen=True, slots=True)
class Item:
    """An element of a result that stays on the cluster.

    A dataclass, so that what looks for futures in arguments finds the one in it.
    """

    source: TaskRunFuture[Any]
    index: int
    length: int


class Items(Sequence[Item]):
    """The elements of a result that stays on the cluster."""

    def __init__(self, source: TaskRunFuture[Any], length: int) -> None:
        self._source = source
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        return Item(self._source, index, self._length)


class Call(NamedTuple):
    """A task, and the arguments of one run of it."""

    arguments: Mapping[str, Any]
    #: What it waits for, each once: futures and task runs, ours and the cluster's own.
    upstream: tuple[Any, ...]


def make_task(f: Any, task_args: Mapping[str, Any] | None) -> tuple[str, Task[Any]]:
    """Return what is called and under which name, as a task with the options of this one use.

    Raises
    ------
    OptionError
        It cannot be called, or an option is wrong.
    """
    if isinstance(f, Node):
        raise OptionError(
            f"{f.slug!r} is a task of flow {f.flow.name!r}, bound to its arguments there; submit "
            f"the task itself, runner.submit({f.name}, ...), or go on from a run of the flow: "
            f"runner.submit(f, run[{f.slug!r}])"
        )
    if isinstance(f, Coroutine):
        # It is said here, and Python need not warn of it as well.
        f.close()
        name = "f" if isinstance(f, Awaited) else getattr(f, "__name__", "f")
        raise OptionError(
            f"a coroutine that nobody awaited was submitted; submit the function, without calling "
            f"it: runner.submit({name}, ...), not runner.submit({name}(...))"
        )
    if not isinstance(f, Task):
        _check_callable(f)
        f = FunctionTask(f)
    name, options = read_task_args(f, task_args)
    return name, f.with_options(**options) if options else f


def _check_callable(f: Any) -> None:
    if isinstance(f, type) and issubclass(f, Task):
        name = f.__name__
        raise OptionError(f"{name} is a class of tasks; make one: runner.submit({name}(), ...)")
    if isinstance(f, Flow):
        raise OptionError(f"{f.name!r} is a flow, which is run: runner.run(flow)")
    if not callable(f):
        raise OptionError(f"submit and map take a task or a function first, not {f!r}")


def open_runs(value: Any) -> Any:
    """Return arguments with what has the result in the place of each task run that has not.

    For a mapped one it is the list of its children: waits until it is known how many there are,
    where that is not. For one that has grown, it is what that comes to.
    """

    def opened(found: Any) -> Any:
        if isinstance(found, Unmapped):
            inside = open_runs(found.value)
            return found if inside is found.value else Unmapped(inside)
        if not isinstance(found, TaskRun):
            return found
        record, driver = found.record, found.driver
        if record.inner is not None:
            driver.wait_for(lambda: driver.has_ended(record.id), None)
            results = found.results
            return found if results is found else open_runs(results)
        if record.plan.maps is None:
            return found
        driver.wait_for(lambda: record.length is not None or driver.has_ended(record.id), None)
        # Where it ended without any, whoever is given it sees how.
        return found if record.length is None else [open_runs(child) for child in found.children]

    return replace(value, (Unmapped, *OURS), opened)


def read_call(
    definition: Task[Any],
    name: str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    upstream_tasks: Iterable[Any],
    foreign_types: tuple[type, ...],
) -> Call:
    """Return the call of ``submit``.

    Raises
    ------
    ArgumentError
        The arguments do not fit the signature, or hold what has no result here.
    """
    arguments = signatures.bind(definition.signature, name, args, kwargs)
    upstream = read_upstream(name, upstream_tasks, foreign_types)
    return with_upstream(name, arguments, upstream, foreign_types)


def read_upstream(
    name: str, upstream_tasks: Any, foreign_types: tuple[type, ...]
) -> tuple[Any, ...]:
    """Return what a call is to wait for without getting its result.

    Raises
    ------
    ArgumentError
        There is something among it that never ends.
    """
    wanted = (*OURS, *foreign_types)
    if not isinstance(upstream_tasks, Iterable) or isinstance(upstream_tasks, (str, *wanted)):
        upstream_tasks = (upstream_tasks,)
    upstream = tuple(upstream_tasks)
    if any(isinstance(source, TaskRun) for source in upstream):
        opened = map(open_runs, upstream)
        upstream = tuple(one for o in opened for one in (o if isinstance(o, list) else (o,)))
    for source in upstream:
        if not isinstance(source, wanted):
            raise ArgumentError(
                f"{name}: upstream_tasks takes futures and task runs, not {source!r}"
            )
    return upstream


def with_upstream(
    name: str,
    arguments: Mapping[str, Any],
    upstream: tuple[Any, ...],
    foreign_types: tuple[type, ...],
) -> Call:
    """Return a call with all that it waits for.

    Raises
    ------
    ArgumentError
        It is given a task, bound or not, which has no result.
    """
    for key, value in arguments.items():
        if isinstance(value, Task):
            raise ArgumentError(
                f"argument {key!r} of {name} is the task {value.name!r} itself; to pass its "
                f"result, submit it: runner.submit({value.name}, ...)"
            )
    found: dict[int, Any] = {}
    for source in (*find(dict(arguments), (*OURS, *foreign_types)), *upstream):
        if isinstance(source, Node):
            raise ArgumentError(
                f"{name} was given {source.slug!r}, a task of flow {source.flow.name!r}, which has "
                f"no result by itself. Run the flow, and pass run[{source.slug!r}]."
            )
        for one in source if isinstance(source, TaskRunFutures) else (source,):
            found.setdefault(id(one), one)
    return Call(arguments, tuple(found.values()))


def fill(call: Call, places: Mapping[int, int], foreign_types: tuple[type, ...]) -> dict[str, Any]:
    """Return the arguments with placeholders; ``places`` has the place of each upstream by id."""
    if not call.upstream:
        return dict(call.arguments)

    def stand_in(source: Any) -> object:
        if isinstance(source, Item):
            return ItemPlaceholder(places[id(source.source)], source.index, source.length)
        if isinstance(source, TaskRunFutures):
            return [Placeholder(places[id(future)]) for future in source]
        return Placeholder(places[id(source)])

    wanted = (Item, TaskRunFuture, TaskRunFutures, TaskRun, *foreign_types)
    return {name: replace(value, wanted, stand_in) for name, value in call.arguments.items()}


# -- mapping ------------------------------------------------------------------------------


class Columns(NamedTuple):
    """The arguments of ``map``: columns of elements, and what is the same for all.

    Attributes
    ----------
    name : str
        What is called, for errors.
    definition : Task
        What is called.
    arguments : mapping
        Those that are mapped over as :class:`~dask_taskrunner.graph.mapping.Each`.
    foreign_types : tuple of type
        What the cluster has of its own kind.
    """

    name: str
    definition: Task[Any]
    arguments: Mapping[str, Any]
    foreign_types: tuple[type, ...]

    @property
    def _each(self) -> dict[str, Each]:
        return columns_of(self.arguments, self.definition.shape)

    @property
    def unknown(self) -> dict[str, Any]:
        """What is mapped over and has a length that nobody knows yet, by the argument's name."""
        found = {label: each.values for label, each in self._each.items()}
        kinds = (TaskRunFuture, TaskRun, *self.foreign_types)
        return {label: values for label, values in found.items() if isinstance(values, kinds)}

    def length(self) -> int:
        """Return how many calls there are.

        Raises
        ------
        ArgumentError
            The lengths differ.
        """
        lengths = {label: len(each.values) for label, each in self._each.items()}
        check_lengths(self.name, lengths, zip_shortest=self.definition.zip_shortest)
        return min(lengths.values())

    def check_known(self) -> None:
        """Find out whether those lengths that are known differ.

        Raises
        ------
        ArgumentError
            They do.
        """
        unknown = self.unknown
        lengths = {
            label: len(each.values) for label, each in self._each.items() if label not in unknown
        }
        check_lengths(self.name, lengths, zip_shortest=self.definition.zip_shortest)

    def same_for_all(self) -> dict[str, Any]:
        """Return the arguments without what is mapped over, and without results."""
        wanted = (Each, *OURS, *self.foreign_types)
        return {k: replace(v, wanted, lambda _: None) for k, v in self.arguments.items()}

    def replaced(self, measured: Mapping[int, TaskRunFuture[Any]]) -> Columns:
        """Return the columns with elements for what had no length.

        Parameters
        ----------
        measured : mapping
            By the id of what is mapped over: the ended future that has its elements.

        Raises
        ------
        Exception
            What the future raises.
        ArgumentError
            It has no elements; the text shows the right line.
        """
        items = {
            id(source): Items(measured[id(source)], self._count(label, measured[id(source)]))
            for label, source in self.unknown.items()
        }

        def known(each: Each) -> Each:
            return Each(items.get(id(each.values), each.values))

        arguments = {key: replace(value, Each, known) for key, value in self.arguments.items()}
        return self._replace(arguments=arguments)

    def _count(self, label: str, measured: TaskRunFuture[Any]) -> int:
        error = measured.exception()
        if error is not None:
            raise error
        header = measured.task_run.record.header
        assert header is not None
        if "length" in header.more:
            length: int = header.more["length"]
            return length
        if not header.kind:
            raise ArgumentError(f"map: {self.name} has nothing to map over: {header.message}")
        why = header.more["no_length"].replace(ARGUMENT, label)
        text = f"map: {self.name} cannot be mapped over {label}, of type {header.kind}. {why}"
        raise ArgumentError(text)

    def of(self, i: int) -> dict[str, Any]:
        """Return the arguments of one call."""
        return elements_at(self.arguments, self.definition.shape, i)


def read_columns(
    definition: Task[Any],
    name: str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    foreign_types: tuple[type, ...],
) -> Columns:
    """Return the arguments of ``map``.

    Raises
    ------
    ArgumentError
        Something cannot be mapped over, or nothing is.
    """
    given = signatures.bind(definition.signature, name, args, kwargs)

    def column(label: str, value: Any) -> Each:
        return Each(_elements_of(name, label, value, foreign_types))

    arguments = mark_columns(given, definition.shape, column)
    columns = Columns(name, definition, arguments, foreign_types)
    if not columns_of(columns.arguments, definition.shape):
        raise ArgumentError(
            f"map: {name} has no argument to map over; runner.submit({name}, ...) calls it once"
        )
    return columns


def _elements_of(name: str, label: str, value: Any, foreign_types: tuple[type, ...]) -> Any:
    """Return the elements of what is mapped over, or a future that has them.

    Raises
    ------
    ArgumentError
        It is never mapped over; the text shows the right line.
    """
    if isinstance(value, (TaskRunFutures, TaskRunFuture, TaskRun, *foreign_types)):
        return value
    right = None
    if isinstance(value, Node):
        right = f"Run flow {value.flow.name!r}, and map over run[{value.slug!r}]."
    elif not has_own_length(value):
        right = "Write unmapped(...) to pass the whole to each, or compute it first."
    if right is not None:
        kind = type(value).__name__
        raise ArgumentError(f"map: {name} cannot be mapped over {label}, of type {kind}. {right}")
    # They are sent from here one by one: as iteration gives them, plain numbers of a Series.
    return list(elements_of(name, label, value))
