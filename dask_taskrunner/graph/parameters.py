"""Parameters: values of a flow that each run may set anew."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from dask_taskrunner.exceptions import OptionError, ParameterError
from dask_taskrunner.graph.building import current_flow
from dask_taskrunner.graph.options import check_name
from dask_taskrunner.graph.suggestions import did_you_mean
from dask_taskrunner.graph.tasks import Node
from dask_taskrunner.states import same_value


class _NoDefault:
    def __repr__(self) -> str:
        return "<no default>"

    def __reduce__(self) -> str:
        # There is one of it, also after a trip through a pickle.
        return "NO_DEFAULT"


NO_DEFAULT = _NoDefault()


class Parameter(Node):
    """A value that a run of the flow is given; belongs to the flow in whose block it is made.

    Parameters
    ----------
    name : str
    default : object, optional
        What a run gets that is given no value.
    required : bool, optional
        Whether each run must be given a value; by default, where there is no default. A parameter
        that is not required and has no default is None.
    type : type, optional
        What a value must be an instance of. Text from a command line is turned into this type,
        else into the default's.
    help : str, optional
        One line for people.

    Raises
    ------
    OutsideFlow
        No flow is being built.
    ParameterError
        The flow has a parameter of this name already, or the default is not of the type.
    """

    def __init__(
        self,
        name: str,
        default: Any = NO_DEFAULT,
        *,
        required: bool | None = None,
        type: type[Any] | None = None,
        help: str | None = None,
    ) -> None:
        check_name(name, "Parameter")
        if not (type is None or isinstance(type, _CLASS)):
            raise OptionError(f"Parameter {name!r}: type must be a class, not {type!r}")
        flow = current_flow(f"Parameter({name!r}) was made", "")
        self.name = self.slug = name
        self.default = default
        self.required = default is NO_DEFAULT if required is None else required
        self.type = type
        self.help = help
        if default is not NO_DEFAULT:
            self.check(default)
        flow.add_task(self)

    def check(self, value: object) -> None:
        """Refuse a value that is not of the type that was asked for.

        Raises
        ------
        ParameterError
        """
        # An int is a float to everybody but `isinstance`.
        wanted = (float, int) if self.type is float else self.type
        if value is None and not self.required:
            return
        if wanted is not None and not isinstance(value, wanted):
            raise ParameterError(
                f"parameter {self.name!r} takes {_name(self.type)}, not {value!r} "
                f"({_name(_CLASS(value))})"
            )

    @property
    def text_type(self) -> Any:
        """The class that a command line's text is read as: `type`, else the default's type."""
        has_example = self.default is not NO_DEFAULT and self.default is not None
        return self.type or (_CLASS(self.default) if has_example else str)

    def parse(self, text: str) -> Any:
        """Return the value that a command line's `text` stands for.

        Raises
        ------
        ParameterError
            It cannot be read as the parameter's type.
        """
        wanted = self.text_type
        try:
            value = _read(text, wanted)
        except (ValueError, TypeError, KeyError, SyntaxError, ArithmeticError) as error:
            raise ParameterError(
                f"parameter {self.name!r} takes {_name(wanted)}; {text!r} cannot be read as one"
            ) from error
        return value

    def unbound(self) -> Parameter:
        """Return a copy that may be added to another flow."""
        new = object.__new__(Parameter)
        vars(new).update({key: value for key, value in vars(self).items() if key != "flow"})
        return new

    def is_like(self, other: Parameter) -> bool:
        """Whether two flows' parameters of one name can be one parameter."""
        return self.type is other.type and same_value(self.default, other.default)

    def __repr__(self) -> str:
        return f"<Parameter {self.slug!r}>"


#: ``type``, which the class above uses as the name of an argument.
_CLASS = type

_BOOLS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_LITERALS = (list, tuple, dict, set, frozenset, bytes)


def _name(cls: Any) -> str:
    return str(cls.__name__)


def _read(text: str, wanted: Any) -> Any:
    if wanted is bool:
        return _BOOLS[text.strip().lower()]
    if issubclass(wanted, Enum):
        return wanted[text]
    if issubclass(wanted, (datetime, date, time)):
        return wanted.fromisoformat(text)
    if wanted in _LITERALS:
        value = ast.literal_eval(text)
        if isinstance(value, str):
            raise ValueError("a text in quotes is no collection")
        return wanted(value)
    return wanted(text)


def resolve_parameters(
    flow_name: str, parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the value of each parameter in a run that is given `values`.

    Raises
    ------
    ParameterError
        A value is missing, belongs to no parameter, or is of another type.
    """
    for name in values:
        if name not in parameters:
            raise ParameterError(
                f"flow {flow_name!r} has no parameter {name!r}{did_you_mean(name, parameters)}"
            )
    missing = [p.name for p in parameters.values() if p.required and p.name not in values]
    if missing:
        names = ", ".join(map(repr, missing))
        are = "parameters" if len(missing) > 1 else "parameter"
        raise ParameterError(f"flow {flow_name!r} was given no value for its {are} {names}")
    resolved: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in values:
            parameter.check(values[name])
            resolved[name] = values[name]
        else:
            resolved[name] = None if parameter.default is NO_DEFAULT else parameter.default
    return resolved
