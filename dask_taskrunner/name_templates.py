"""Names for people, made anew for each run: by a template, or by a function of what the run gets.

It knows neither tasks nor flows, and never looks into a value: what a field shows is the value's
own word.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

#: A `str.format` template, or a callable of the dict that would fill it.
NameTemplate: TypeAlias = str | Callable[[Mapping[str, Any]], str]

#: How many characters of a name are kept.
_LENGTH: Final = 200


def field_names(template: str) -> list[str]:
    """Return the names of a template's fields, without the attributes and items behind them.

    Raises
    ------
    ValueError
        It is no template, or has a field without a name.
    """
    names = []
    for _, field, spec, _ in string.Formatter().parse(template):
        if field is None:
            continue
        name = field.partition(".")[0].partition("[")[0]
        if not name or name.isdecimal():
            raise ValueError("a field needs a name, as in '{date}', and '{{' stands for a brace")
        names += [name, *field_names(spec or "")]
    return names


def is_template(value: object) -> bool:
    """Whether a value is a text whose fields all have names."""
    if not isinstance(value, str) or not value:
        return False
    try:
        field_names(value)
    except ValueError:
        return False
    return True


def make_name(template: NameTemplate, values: Mapping[str, Any]) -> str:
    """Return one line of at most 200 characters.

    Raises
    ------
    Exception
        Whatever the template's fields, or the function, raise.
    """
    made: Any = template.format_map(values) if isinstance(template, str) else template(values)
    if not isinstance(made, str):
        raise TypeError(f"it gave a {type(made).__name__}, and a name is a text")
    line = " ".join(made.split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 3]}..."
