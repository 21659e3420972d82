"""What a notebook shows in its own way. How is known above; a hook does it."""

from __future__ import annotations

from dask_taskrunner import hooks


class Shown:
    """Has a form in HTML, beside its repr."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(hooks.call("html", self))


class ShownLive(Shown):
    """May be drawn again while it is shown."""

    __slots__ = ()

    def _ipython_display_(self) -> None:
        # What IPython is told so is that the other forms will do.
        if not hooks.call("show", self):
            raise NotImplementedError
