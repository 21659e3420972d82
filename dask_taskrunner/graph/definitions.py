"""What is run: the body of a task with its options, as it travels to workers.

It knows no flows; what a user does with a task is in :mod:`~dask_taskrunner.graph.tasks`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from inspect import Signature
from typing import Any, Generic, Literal, Self, TypeVar, Unpack

from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.graph.bodies import settle
from dask_taskrunner.graph.options import (
    DEFAULTS,
    OPTIONS,
    TaskOptions,
    check_name,
    check_options,
)
from dask_taskrunner.graph.signatures import Shape, count_outputs, read_shape, read_signature
from dask_taskrunner.name_templates import NameTemplate
from dask_taskrunner.retries import RetryDelay, RetryOn
from dask_taskrunner.triggers import Trigger

R = TypeVar("R")


class Definition(Generic[R]):
    """A body with options. It is not changed after it is made: one serves many task runs.

    Attributes
    ----------
    name, slug : str
        The slug of a task outside of flows is its name.
    explicit_options : dict
        The options that were given to this task itself; they beat all defaults.
    """

    name: str
    slug: str
    explicit_options: dict[str, Any]
    max_retries: int
    retry_delay: RetryDelay
    retry_jitter: float
    retry_on: RetryOn
    max_crash_retries: int
    trigger: Trigger
    skip_on_upstream_skip: bool
    cache_for: timedelta | None
    cache_validator: Callable[..., bool]
    state_handlers: tuple[Callable[..., Any], ...]
    nout: int | None
    tags: tuple[str, ...]
    record_inputs: bool
    task_run_name: NameTemplate | None
    resources: Mapping[str, float] | Callable[[int], Mapping[str, float]] | None
    priority: float
    workers: str | tuple[str, ...] | None
    timeout: timedelta | float | None
    isolate: Literal["process"] | None
    memory_limit: int | str | None
    rerun_on_loss: bool
    check_result: bool
    log_prints: bool
    log_level: str | int
    zip_shortest: bool
    split_above: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # So that a wrong parameter is found where it is written, not where the class is used.
        read_signature(cls.run, cls.__name__)

    def __init__(self, name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        where = type(self).__name__
        if type(self).run is Definition.run:
            raise OptionError(f"{where} does not define run: a task needs `def run(self, ...)`")
        self.name = self.slug = check_name(where if name is None else name, where)
        explicit = check_options(_class_options(type(self)) | {**options}, where=self.name)
        promised = count_outputs(self.signature)
        if promised and "nout" not in explicit:
            explicit["nout"] = promised
        self._set_options(explicit, explicit)

    def _set_options(self, explicit: dict[str, Any], resolved: Mapping[str, Any]) -> None:
        self.explicit_options = explicit
        vars(self).update({**DEFAULTS, **resolved})

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work: subclasses define this, with the parameters that they need."""
        raise NotImplementedError(f"{type(self).__name__} does not define run")

    def with_options(self, *, name: str | None = None, **options: Unpack[TaskOptions]) -> Self:
        """Return a new task: this one with other options."""
        new = copy.copy(self)
        if name is not None:
            new.name = new.slug = check_name(name, self.name)
        explicit = self.explicit_options | check_options({**options}, where=self.name)
        new._set_options(explicit, explicit)
        return new

    def with_defaults(
        self, flow_defaults: Mapping[str, Any], runner_defaults: Mapping[str, Any]
    ) -> Self:
        """Return this task as it is run: what it leaves open comes from the nearest defaults.

        Both must have been checked by :func:`~dask_taskrunner.graph.options.check_options`.

        Raises
        ------
        OptionError
            Options of it do not go together.
        """
        defaults = {**runner_defaults, **flow_defaults}
        new = self
        if defaults.keys() - self.explicit_options.keys():
            new = copy.copy(self)
            new._set_options(self.explicit_options, defaults | self.explicit_options)
        if not new.rerun_on_loss and "max_crash_retries" not in {*defaults, *self.explicit_options}:
            new = copy.copy(new)
            new.max_crash_retries = 0
        new._check_isolation()
        return new

    def _check_isolation(self) -> None:
        if self.memory_limit is not None and self.isolate is None:
            raise OptionError(
                f"{self.name}: memory_limit bounds a process, and this task has none of its own; "
                "add isolate='process'"
            )
        if self.isolate is not None and os.name != "posix":
            raise OptionError(f"{self.name}: isolate='process' needs Linux or macOS")

    @property
    def body(self) -> Callable[..., Any]:
        """What a run executes."""
        return self.run

    @functools.cached_property
    def signature(self) -> Signature:
        """The signature of the body."""
        return read_signature(self.body, self.name)

    @functools.cached_property
    def shape(self) -> Shape | None:
        """How the inputs are passed to the body; None: all by name."""
        return read_shape(self.signature)

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Run the body, and return its value.

        Parameters
        ----------
        inputs : mapping
            The arguments by parameter name; a tuple for ``*args``, a dict for ``**kwargs``.
        """
        if self.shape is None:
            return settle(self.body(**inputs))
        args, kwargs = self.shape.split(inputs)
        return settle(self.body(*args, **kwargs))

    def __getstate__(self) -> dict[str, Any]:
        # The shape is all that a worker needs to know of the signature, and the function's own
        # attributes, which a decorated task shows as its own, are in the function.
        state = {key: value for key, value in vars(self).items() if not key.startswith("__")}
        state.pop("signature", None)
        return state | {"shape": self.shape}

    def __copy__(self) -> Self:
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        return new

    def __deepcopy__(self, memo: object) -> Self:
        # Flows are looked up by their tasks' identity: a copied flow still uses the same tasks.
        return self


def _class_options(cls: type) -> dict[str, Any]:
    """Return the options that a subclass sets as class attributes."""
    found = {}
    for name in OPTIONS:
        # Not by getattr: a function would come as a bound method.
        value = inspect.getattr_static(cls, name, inspect.Parameter.empty)
        if value is not inspect.Parameter.empty:
            found[name] = value.__func__ if isinstance(value, staticmethod) else value
    return found
