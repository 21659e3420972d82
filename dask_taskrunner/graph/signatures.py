"""How a task's arguments are bound to its signature, and taken apart again to call its body.

It knows no tasks. Binding happens on the client, in the user's line; on a worker there are only
the inputs by parameter name and a :class:`Shape`, for ``inspect`` would be too slow there.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any, NamedTuple, get_args, get_origin

from dask_taskrunner.exceptions import ArgumentError, OptionError
from dask_taskrunner.graph.suggestions import did_you_mean

#: Names that every call of a task takes for itself.
RESERVED = ("upstream_tasks", "task_args")

# What builtins such as `max` and `dict` have, which do not tell their signature.
_ANYTHING = Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)


def read_signature(body: Callable[..., Any], where: str) -> Signature:
    """Return the signature of a task's body.

    Raises
    ------
    OptionError
        It has a parameter whose name calls need for themselves.
    """
    try:
        signature = _signature(body)
    except ValueError:
        return _ANYTHING
    for name in RESERVED:
        if name in signature.parameters:
            raise OptionError(
                f"{where}: no parameter of a task may be called {name!r}, for every call of a "
                "task takes that one itself; give it another name"
            )
    return signature


def _signature(body: Callable[..., Any]) -> Signature:
    if sys.version_info >= (3, 14):  # pragma: no cover
        # There annotations are evaluated when asked for, and some exist for type checkers only.
        import annotationlib

        return inspect.signature(body, annotation_format=annotationlib.Format.STRING)
    return inspect.signature(body)


def count_outputs(signature: Signature) -> int | None:
    """Return how many values a ``-> tuple[A, B]`` promises, None where there is no such promise."""
    annotation = signature.return_annotation
    if isinstance(annotation, str):
        return _count_elements(annotation)
    elements = get_args(annotation)
    if get_origin(annotation) is not tuple or Ellipsis in elements:
        return None
    return len(elements) or None


def _count_elements(annotation: str) -> int | None:
    # Read, not evaluated: its names may be imported for type checkers only.
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.Subscript) or ast.unparse(tree.value) not in _TUPLES:
        return None
    elements = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
    if any(isinstance(element, ast.Constant) and element.value is ... for element in elements):
        return None
    return len(elements) or None


_TUPLES = frozenset({"tuple", "Tuple", "typing.Tuple", "t.Tuple"})


def bind(
    signature: Signature, name: str, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by parameter name, without defaults.

    Raises
    ------
    ArgumentError
        They do not fit.
    """
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise _misfit(signature, name, kwargs, error) from None


def bind_more(
    signature: Signature, name: str, arguments: Mapping[str, Any], key: str, value: Any
) -> dict[str, Any]:
    """Return `arguments` and one more, passed by its name.

    Raises
    ------
    ArgumentError
        There is no such parameter, or it has its argument already.
    """
    try:
        more = signature.bind_partial(**{key: value}).arguments
    except TypeError as error:
        raise _misfit(signature, name, {key: value}, error) from None
    ((parameter, new),) = more.items()
    if signature.parameters[parameter].kind is Parameter.VAR_KEYWORD:
        earlier = arguments.get(parameter, {})
        if key not in earlier:
            return {**arguments, parameter: {**earlier, **new}}
    elif parameter not in arguments:
        return {**arguments, parameter: new}
    raise ArgumentError(f"{name}{signature_text(signature)}: {key!r} has its argument already")


def find_missing(signature: Signature, arguments: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that need an argument and have none."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name not in arguments
        and parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]


def signature_text(signature: Signature) -> str:
    """Return the parameters without annotations and defaults, as in ``(rows, threshold=...)``."""
    stars: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}
    shown = [
        stars.get(parameter.kind, "")
        + parameter.name
        + ("" if parameter.default is Parameter.empty else "=...")
        for parameter in signature.parameters.values()
    ]
    return f"({', '.join(shown)})"


def _misfit(
    signature: Signature, name: str, kwargs: Mapping[str, Any], error: TypeError
) -> ArgumentError:
    parameters = signature.parameters
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [] if takes_any else [key for key in kwargs if key not in parameters]
    what = str(error)
    if unknown:
        what = f"there is no parameter {unknown[0]!r}{did_you_mean(unknown[0], parameters)}"
    return ArgumentError(f"{name}{signature_text(signature)}: {what}")


class Shape(NamedTuple):
    """Which inputs of a body are not passed by name."""

    positional_only: tuple[str, ...]
    #: These and those that go by position when there is something for ``*args`` behind them.
    positional: tuple[str, ...]
    #: The names of ``*args`` and ``**kwargs``; empty where the body has none.
    var_positional: str
    var_keyword: str

    def split(self, inputs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments of a call with `inputs`."""
        kwargs = dict(inputs)
        more = kwargs.pop(self.var_positional, ())
        names = self.positional if more else self.positional_only
        args = [kwargs.pop(name) for name in names if name in kwargs]
        return [*args, *more], kwargs | kwargs.pop(self.var_keyword, {})


def read_shape(signature: Signature) -> Shape | None:
    """Return the shape of a signature; None for a plain one, whose inputs all go by name."""

    def names(*kinds: Any) -> tuple[str, ...]:
        return tuple(p.name for p in signature.parameters.values() if p.kind in kinds)

    shape = Shape(
        names(Parameter.POSITIONAL_ONLY),
        names(Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD),
        "".join(names(Parameter.VAR_POSITIONAL)),
        "".join(names(Parameter.VAR_KEYWORD)),
    )
    is_plain = not (shape.positional_only or shape.var_positional or shape.var_keyword)
    return None if is_plain else shape
