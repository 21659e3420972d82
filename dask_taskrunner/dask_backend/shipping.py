"""Packs modules so that they can be sent along, for workers that do not have them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from dask_taskrunner.exceptions import OptionError

#: What is sent with each flow run must stay small.
_MOST_BYTES: Final = 20_000_000
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


def pack(modules: Iterable[ModuleType]) -> tuple[Parcel, ...]:
    """Return modules as their files are now: an edited one is another one.

    Raises
    ------
    OptionError
        There is too much of it.
    """
    return tuple(_pack(module) for module in modules)


def _pack(module: ModuleType) -> Parcel:
    source = _source_of(module)
    root = source.parent
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    buffer = io.BytesIO()
    content = hashlib.sha1(usedforsecurity=False)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            name = file.relative_to(root)
            if not file.is_file() or _LEFT_OUT & set(name.parts) or file.suffix == ".pyc":
                continue
            data = file.read_bytes()
            content.update(f"{name}\0{len(data)}\0".encode() + data)
            archive.writestr(str(name), data)
    if buffer.tell() > _MOST_BYTES:
        raise OptionError(
            f"ship: {module.__name__} is {buffer.tell() / 1e6:.0f} MB large; install it there"
        )
    return Parcel(module.__name__, content.hexdigest(), buffer.getvalue())


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
