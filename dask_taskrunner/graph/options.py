"""The options of a task: one table of their defaults and of what each takes.

It knows no tasks and no flows: whoever takes options (a decorator, ``with_options``, ``task_args``,
``task_defaults`` of a flow or a runner) has them checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypedDict

from dask.utils import parse_bytes

from dask_taskrunner.cache_validators import all_inputs
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.graph.suggestions import did_you_mean
from dask_taskrunner.name_templates import NameTemplate, is_template
from dask_taskrunner.retries import RetryDelay, RetryOn
from dask_taskrunner.triggers import Trigger, all_successful


class TaskOptions(TypedDict, total=False):
    """The options of a task: what a type checker knows; :data:`OPTIONS` says it at run time.

    Attributes
    ----------
    max_retries : int
        How often a failed run is tried again; 0 by default.
    retry_delay : timedelta, float, list of such, or callable
        The time before a retry, in seconds where it is a number; 10 s by default. Of a list the
        last one repeats; a callable gets ``(run_number, exception)``.
    retry_jitter : float
        The fraction by which a delay is made longer at most, at random; 0 by default.
    retry_on : exception type, tuple of such, or callable
        Which exceptions are worth a retry; ``Exception`` by default.
    max_crash_retries : int
        How often a run is tried again whose worker died under it; 2 by default.
    trigger : callable
        Whether the task runs, given the final states upstream; `triggers.all_successful`.
    skip_on_upstream_skip : bool
        Whether the task is skipped when something upstream was; True by default.
    cache_for : timedelta
        How long a result may stand for a later run's; by default it may not.
    cache_validator : callable
        Whether a cached result may be used; `cache_validators.all_inputs` by default.
    state_handlers : list of callables
        Each is told of every change of state, as ``(task, old, new)``.
    nout : int
        How many values the task returns, so that it can be unpacked where the flow is built; by
        default what a ``-> tuple[A, B]`` promises.
    tags : list of str
        Words for people.
    record_inputs : bool
        Whether a failure keeps a line on each input; set it to False where these are secrets.
    task_run_name : str or callable
        What people call a run of the task, by default its slug: a `str.format` template over the
        inputs, ``map_index`` and the flow's parameters, or a callable of a dict of these. It is
        made on the worker, before the body; where it fails, the run fails.
    resources : mapping or callable
        Dask's worker resources, or a callable of the attempt number that returns them.
    priority : float
        Dask's priority: the higher, the earlier.
    workers : str or list of str
        The only workers that may run the task.
    timeout : timedelta or float
        How long one attempt's body may take, in seconds where it is a number; by default as long
        as it likes. What takes longer is `TimedOut` at that moment, and tried again like any
        failure. Its code is asked to end, and a thread can do no more: see ``isolate``.
    isolate : str
        ``"process"``: the body is run in a process of its own, which is killed at its deadline, or
        when the run is cancelled; and which may crash without its worker. By default it is run in
        a thread of the worker. For Linux and macOS.
    memory_limit : int or str
        How much memory an isolated body may ask for, in bytes or as ``"4 GiB"``.
    rerun_on_loss : bool
        False for a task that must not run twice: a second start of the same attempt, after a
        worker's death or the loss of a result, is a failure in place of an execution, and
        ``max_crash_retries`` is 0 by default. True by default.
    check_result : bool
        Whether to find out at once if a result can be sent to other workers, which costs the time
        to pickle it; by default whoever gets it there finds out.
    log_prints : bool
        Whether what the body prints is among its run's ``logs``; False by default.
    log_level : str or int
        The lowest level of what the body logs that is among its run's ``logs``; ``"INFO"`` by
        default. Where somebody has set a higher one for a logger, that holds.
    zip_shortest : bool
        Whether a ``map`` over several things ends with the shortest of them; by default it is an
        error that they are not equally long.
    split_above : float
        Of a ``map``: a list of more bytes than this is cut into pieces where it lies, so that the
        workers get the elements that they need and not the whole; 16 MB by default.
    """

    max_retries: int
    retry_delay: RetryDelay
    retry_jitter: float
    retry_on: RetryOn
    max_crash_retries: int
    trigger: Trigger
    skip_on_upstream_skip: bool
    cache_for: timedelta | None
    cache_validator: Callable[..., bool]
    state_handlers: Sequence[Callable[..., Any]]
    nout: int | None
    tags: Sequence[str] | set[str] | frozenset[str]
    record_inputs: bool
    task_run_name: NameTemplate | None
    resources: Mapping[str, float] | Callable[[int], Mapping[str, float]] | None
    priority: float
    workers: str | Sequence[str] | set[str] | frozenset[str] | None
    timeout: timedelta | float | None
    isolate: Literal["process"] | None
    memory_limit: int | str | None
    rerun_on_loss: bool
    check_result: bool
    log_prints: bool
    log_level: str | int
    zip_shortest: bool
    split_above: float


class Option(NamedTuple):
    """One row of the table."""

    default: Any
    #: What a value must be, in words for an error's text.
    wants: str
    fits: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 0


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_delay(value: Any) -> bool:
    if isinstance(value, timedelta):
        return value >= timedelta(0)
    return _is_number(value) and bool(value >= 0)


def _is_retry_delay(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_delay, value))
    return _is_delay(value) or callable(value)


def _is_exception_type(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _is_retry_on(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_exception_type, value))
    return _is_exception_type(value) or (callable(value) and not isinstance(value, type))


def _is_tuple_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(fits, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_bytes(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = parse_bytes(value)
        except ValueError:
            return False
    return _is_count(value) and value > 0


def _is_resources(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_text(name) and _is_number(n) and n >= 0 for name, n in value.items())
    return callable(value)


def _is_level(value: Any) -> bool:
    if isinstance(value, str):
        return value.upper() in _LEVELS
    return _is_count(value) and value > 0


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


#: Those that every process knows.
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TIMES = "a timedelta or a number of seconds, not negative"

OPTIONS: dict[str, Option] = {
    "max_retries": Option(0, "a whole number, 0 or more", _is_count),
    "retry_delay": Option(
        timedelta(seconds=10),
        f"{_TIMES}; a list of such; or a callable (run_number, exception) -> delay",
        _is_retry_delay,
    ),
    "retry_jitter": Option(0.0, "a fraction between 0 and 1", _is_fraction),
    "retry_on": Option(
        Exception,
        "an exception type, a tuple of such, or a callable (exception) -> bool",
        _is_retry_on,
    ),
    "max_crash_retries": Option(2, "a whole number, 0 or more", _is_count),
    "trigger": Option(all_successful, "a trigger: a callable (upstream_states) -> bool", callable),
    "skip_on_upstream_skip": Option(True, "True or False", _is_bool),
    "cache_for": Option(
        None,
        "a timedelta of more than zero",
        _or_none(lambda value: isinstance(value, timedelta) and value > timedelta(0)),
    ),
    "cache_validator": Option(
        # The one that cannot hand out the result of other inputs.
        all_inputs,
        "a callable (state, inputs, parameters) -> bool",
        callable,
    ),
    "state_handlers": Option(
        (), "a list of callables (task, old, new) -> state or None", _is_tuple_of(callable)
    ),
    "nout": Option(
        None, "a whole number, 1 or more", _or_none(lambda value: _is_count(value) and value > 0)
    ),
    "tags": Option((), "a list of texts", _is_tuple_of(_is_text)),
    "record_inputs": Option(True, "True or False", _is_bool),
    "task_run_name": Option(
        None,
        "a template with named fields such as 'clean {region}', or a callable (inputs) -> text",
        _or_none(lambda value: callable(value) or is_template(value)),
    ),
    "resources": Option(
        None, "a dict such as {'GPU': 1}, or a callable (attempt) -> dict", _or_none(_is_resources)
    ),
    "priority": Option(0, "a number", _is_number),
    "workers": Option(
        None,
        "a worker's address or name, or a list of such",
        _or_none(lambda value: _is_text(value) or (value != () and _is_tuple_of(_is_text)(value))),
    ),
    "timeout": Option(
        None,
        "a timedelta or a number of seconds, more than zero",
        _or_none(lambda value: _is_delay(value) and bool(value)),
    ),
    "isolate": Option(None, "'process'", _or_none(lambda value: value == "process")),
    "memory_limit": Option(
        None, "a number of bytes, more than zero, or a text such as '4 GiB'", _or_none(_is_bytes)
    ),
    "rerun_on_loss": Option(True, "True or False", _is_bool),
    "check_result": Option(False, "True or False", _is_bool),
    "log_prints": Option(False, "True or False", _is_bool),
    "log_level": Option(
        "INFO", f"a level of logging: {', '.join(_LEVELS)}, or a number from 1 on", _is_level
    ),
    "zip_shortest": Option(False, "True or False", _is_bool),
    "split_above": Option(
        16_000_000,
        "a number of bytes, 0 or more; float('inf') for never",
        lambda value: _is_delay(value) or value == math.inf,
    ),
}

DEFAULTS: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}


def check_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `options` with their collections frozen to tuples.

    Parameters
    ----------
    options : mapping
        Name of an option -> its value.
    where : str
        Who took them; the errors begin with it.

    Raises
    ------
    OptionError
        There is no such option, or it does not take this value.
    """
    checked = {}
    for name, given in options.items():
        if name not in OPTIONS:
            raise OptionError(f"{where}: there is no option {name!r}{did_you_mean(name, OPTIONS)}")
        value = _frozen(given)
        if not OPTIONS[name].fits(value):
            raise OptionError(f"{where}: {name} must be {OPTIONS[name].wants}, not {given!r}")
        checked[name] = value
    return checked


def check_name(name: object, where: str) -> str:
    """Return the name of a task or a flow.

    Raises
    ------
    OptionError
        It is no text, or has characters that slugs need for themselves: ``load[3]``, ``etl/load``.
    """
    if not isinstance(name, str) or not name.strip() or set(name) & set("[]/\n"):
        raise OptionError(
            f"{where}: name must be a text without any of '[', ']', '/', not {name!r}"
        )
    return name


def _frozen(value: Any) -> Any:
    # A definition is shared by many uses: nobody may change its options through a list kept.
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(value, key=str))
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value
