"""In which form a run is shown while somebody waits for it."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

from dask_taskrunner.exceptions import OptionError

Style: TypeAlias = Literal["rich", "plain", "json", "none"]
#: True is what fits the place, also where nobody looks; None, where somebody looks.
Progress: TypeAlias = bool | Style | None

STYLES: Final[tuple[str, ...]] = get_args(Style)


def check_progress(progress: Any) -> None:
    """Find out whether there is such a form.

    Raises
    ------
    OptionError
        There is none.
    """
    if progress is not None and not isinstance(progress, bool) and progress not in STYLES:
        raise OptionError(
            f"progress is True, False, or one of {', '.join(map(repr, STYLES))}, not {progress!r}"
        )
