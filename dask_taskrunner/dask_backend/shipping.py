"""Packs modules so that they can be sent along, for workers that do not have them."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from dask_taskrunner.exceptions import OptionError

#: What is sent with each flow run must stay small.
_MOST_BYTES: Final = 20_000_000
#: Files that are changed within such a time may bear the same one.
_TICK_NS: Final = 2_000_000_000
_LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".ipynb_checkpoints"})


class Parcel(NamedTuple):
    """A module as it travels."""

    name: str
    #: Of the bytes.
    digest: str
    data: bytes


def check_ship(ship: Any) -> tuple[ModuleType, ...]:
    """Return the modules that are to be sent along.

    Raises
    ------
    OptionError
        They are no modules, or none that can be packed.
    """
    if isinstance(ship, (str, ModuleType)) or not isinstance(ship, Iterable):
        raise OptionError(f"ship is a list of modules, as in ship=[my_module], not {ship!r}")
    modules = tuple(ship)
    for module in modules:
        if not isinstance(module, ModuleType):
            raise OptionError(f"ship takes modules, not {module!r}: write `import` before")
        if "." in module.__name__:
            top = module.__name__.partition(".")[0]
            raise OptionError(f"ship takes whole packages: ship=[{top}], not {module.__name__}")
        _source_of(module)
    return modules


class Shipment:
    """Modules that are sent along, as their files are whenever somebody asks.

    Parameters
    ----------
    modules : iterable of module
        Which.

    Attributes
    ----------
    owner : str
        By which name workers know whose they are.
    was_sent : bool
        Whether they are on workers, maybe.
    """

    was_sent = False

    def __init__(self, modules: Iterable[ModuleType] = ()) -> None:
        self._modules = tuple(modules)
        self.owner = uuid.uuid4().hex
        self._packed: dict[str, tuple[_Stamps, Parcel]] = {}
        self._parcels: tuple[Parcel, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._modules)

    @property
    def has_package(self) -> bool:
        """Whether this package is among them."""
        return any(module.__name__ == "dask_taskrunner" for module in self._modules)

    def pack(self) -> tuple[Parcel, ...]:
        """Return the modules as their files are now; the same object where nothing has changed.

        Raises
        ------
        OptionError
            There is too much of one.
        """
        parcels = tuple(map(self._pack, self._modules))
        if any(new is not old for new, old in zip_longest(parcels, self._parcels)):
            self._parcels = parcels
        return self._parcels

    def _pack(self, module: ModuleType) -> Parcel:
        stamps, parcel = self._packed.get(module.__name__, (None, None))
        # The first copy of this package stays on a worker, for its tasks run: once is enough.
        if parcel is not None and module.__name__ == "dask_taskrunner":
            return parcel
        files = list(_files_of(module))
        now = {name: file.stat() for name, file in files}
        found = _Stamps({name: (stat.st_mtime_ns, stat.st_size) for name, stat in now.items()})
        if parcel is not None and stamps == found and not stamps.is_fresh:
            return parcel
        new = _zip(module.__name__, files)
        if parcel is not None and new.digest == parcel.digest:
            new = parcel
        self._packed[module.__name__] = found, new
        return new


class _Stamps:
    """When the files of a module were changed."""

    def __init__(self, stamps: dict[Path, tuple[int, int]]) -> None:
        self._stamps = stamps
        newest = max((changed for changed, _ in stamps.values()), default=0)
        #: True where a file may have been changed once more since, and bear the same time.
        self.is_fresh = abs(time.time_ns() - newest) < _TICK_NS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stamps) and self._stamps == other._stamps

    __hash__ = None  # type: ignore[assignment]


def _zip(name: str, files: Iterable[tuple[Path, Path]]) -> Parcel:
    buffer = io.BytesIO()
    content = hashlib.sha1(usedforsecurity=False)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, file in files:
            data = file.read_bytes()
            content.update(f"{part}\0{len(data)}\0".encode() + data)
            archive.writestr(str(part), data)
    if buffer.tell() > _MOST_BYTES:
        raise OptionError(f"ship: {name} is {buffer.tell() / 1e6:.0f} MB large; install it there")
    return Parcel(name, content.hexdigest(), buffer.getvalue())


def _files_of(module: ModuleType) -> Iterator[tuple[Path, Path]]:
    """Yield a module's files, by their names in the archive."""
    source = _source_of(module)
    for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
        part = file.relative_to(source.parent)
        if file.is_file() and not _LEFT_OUT & set(part.parts) and file.suffix != ".pyc":
            yield part, file


def _source_of(module: ModuleType) -> Path:
    """Return the file or the directory that a module lies in."""
    file = getattr(module, "__file__", None)
    if file is None or not str(file).endswith(".py"):
        raise OptionError(
            f"ship: {module.__name__!r} is not made of Python files, and cannot be sent along; "
            "install it on the workers"
        )
    path = Path(file)
    return path.parent if path.name == "__init__.py" else path
