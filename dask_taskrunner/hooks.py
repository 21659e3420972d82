"""The registry through which lower rooms reach upper ones; it knows neither.

``Flow.run`` lives below the runner that does the work, and no file imports upward. So the lower
room says ``call("Flow.run", self, ...)``, and the package's ``__init__`` registers, from above,
the function that answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dask_taskrunner.exceptions import InternalError

#: Name of a hook -> the function that answers it.
_functions: dict[str, Callable[..., Any]] = {}


def register(name: str, function: Callable[..., Any]) -> None:
    """Let `function` answer the calls of `name`, in place of any earlier one."""
    _functions[name] = function


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """Return what the function registered as `name` returns for these arguments.

    Raises
    ------
    InternalError
        Nothing is registered as `name`.
    """
    if name not in _functions:
        raise InternalError(
            f"nothing answers {name!r}; `import dask_taskrunner`, which registers what does"
        )
    return _functions[name](*args, **kwargs)
