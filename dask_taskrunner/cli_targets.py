"""Finds the flow that stands on a command line, and reads its parameters from texts."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import cloudpickle

from dask_taskrunner import Flow, Parameter, exceptions
from dask_taskrunner.cli_errors import loading
from dask_taskrunner.graph.parameters import NO_DEFAULT


def find_flow(target: str) -> Flow:
    """Return the flow that ``FILE.py:FLOW`` or ``MODULE:FLOW`` names.

    Raises
    ------
    click.UsageError
        There is no such file, module or flow.
    BrokenFile
        The file, or the module, cannot be loaded.
    """
    place, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    module = load_file(Path(place)) if place.endswith(".py") else _import(place)
    flows = {key: value for key, value in vars(module).items() if isinstance(value, Flow)}
    if name in flows:
        return flows[name]
    if not name and len(flows) == 1:
        return next(iter(flows.values()))
    known = f"it has {', '.join(flows)}" if flows else "it has none"
    wanted = f"no flow {name!r}" if name else "no single flow"
    raise click.UsageError(f"{place} has {wanted} at its top level: {known}")


def place_of(target: str) -> Path:
    """Return the file in which the flow of a target lies.

    Raises
    ------
    click.UsageError
        There is no such file or module.
    """
    place = target.rpartition(":")[0] if ":" in target else target
    file = place if place.endswith(".py") else _origin(place)
    if file is None or not Path(file).is_file():
        raise click.UsageError(f"there is no file {place}")
    return Path(file).resolve()


def load_file(path: Path) -> ModuleType:
    """Import a file that need not be importable anywhere else.

    Raises
    ------
    click.UsageError
        There is no such file.
    BrokenFile
        It cannot be loaded.
    """
    if not path.is_file():
        raise click.UsageError(f"there is no file {path}")
    # A name that no other module has, for the file may be called like one that its tasks import.
    spec = importlib.util.spec_from_file_location(f"flow_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    _search_first(str(path.resolve().parent))  # as `python FILE.py` has it
    try:
        with loading(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        # As Python does with what it has not got to the end of.
        del sys.modules[module.__name__]
        raise
    # Workers have no module of this name, and perhaps not even the file.
    cloudpickle.register_pickle_by_value(module)
    return module


def _import(name: str) -> ModuleType:
    _search_first("")  # as `python -m` has it
    with loading(name), _missing_as_usage(name):
        return importlib.import_module(name)


def _origin(name: str) -> str | None:
    """Return the file of a module, which is not loaded for that; its packages are."""
    _search_first("")
    with loading(name), _missing_as_usage(name):
        spec = importlib.util.find_spec(name)
    return None if spec is None else spec.origin


@contextmanager
def _missing_as_usage(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        # A module that the flow's own module lacks is no wrong usage.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(f"there is no module {error.name!r}") from error


def _search_first(place: str) -> None:
    if place not in sys.path:
        sys.path.insert(0, place)


def read_parameters(flow: Flow, assignments: Sequence[str]) -> dict[str, Any]:
    """Return the values that ``NAME=VALUE`` texts give to the flow's parameters.

    Raises
    ------
    click.UsageError
        A text is no assignment, its name is no parameter's, or its value cannot be read.
    """
    parameters = flow.parameters()
    values = {}
    for assignment in assignments:
        name, is_assignment, text = assignment.partition("=")
        if not is_assignment:
            raise click.UsageError(f"-p takes NAME=VALUE, not {assignment!r}")
        if name not in parameters:
            known = f"it has {', '.join(parameters)}" if parameters else "it has none"
            raise click.UsageError(f"flow {flow.name!r} has no parameter {name!r}: {known}")
        try:
            values[name] = parameters[name].parse(text)
        except exceptions.ParameterError as error:
            raise click.UsageError(str(error)) from error
    return values


def parameter_help(parameter: Parameter) -> tuple[str, str]:
    """Return a parameter's name with its type, and what people are told of it."""
    kind = parameter.text_type
    if parameter.required:
        given = "[required]"
    elif parameter.default is NO_DEFAULT:
        given = "[default: None]"
    else:
        given = f"[default: {parameter.default!r}]"
    return f"{parameter.name} {kind.__name__}", f"{parameter.help or ''} {given}".strip()
