"""What is packed to be sent along, and what is said of versions."""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile

import pytest

import dask_taskrunner
from dask_taskrunner.dask_backend.shipping import Shipment, check_ship
from dask_taskrunner.dask_backend.versions import Found, problems_of
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.worker.wire import PROTOCOL

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def module(tmp_path, monkeypatch):
    package = tmp_path / "a_package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (package / "table.csv").write_text("1,2\n")
    (package / "__pycache__" / "old.pyc").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    import a_package

    yield a_package
    del sys.modules["a_package"]


def names_in(parcel):
    return sorted(zipfile.ZipFile(io.BytesIO(parcel.data)).namelist())


def test_a_package_is_packed_with_its_data_and_without_bytecode(module):
    (parcel,) = Shipment([module]).pack()
    assert parcel.name == "a_package"
    assert names_in(parcel) == ["a_package/__init__.py", "a_package/table.csv"]


def test_what_has_not_changed_is_the_same_object(module, tmp_path):
    file = tmp_path / "a_package" / "__init__.py"
    ship = Shipment([module])
    before = ship.pack()
    assert ship.pack() is before
    # Of the same size, and maybe within the same tick of the file system.
    file.write_text("x = 2\n")
    after = ship.pack()
    assert after[0].digest != before[0].digest
    assert ship.pack() is after


def test_files_that_were_long_left_alone_are_not_read_again(module, tmp_path):
    for file in (tmp_path / "a_package").glob("*.*"):
        os.utime(file, (0, 0))
    ship = Shipment([module])
    before = ship.pack()
    file = tmp_path / "a_package" / "__init__.py"
    file.write_text("x = 2\n")
    os.utime(file, (0, 0))
    assert ship.pack() is before
    os.utime(file, (1, 1))
    assert ship.pack() is not before


def test_two_of_the_same_modules_have_owners_of_their_own(module):
    assert Shipment([module]).owner != Shipment([module]).owner


def test_a_module_of_one_file_is_packed_too():
    (parcel,) = (
        Shipment([zipfile]).pack() if not hasattr(zipfile, "__path__") else Shipment([io]).pack()
    )
    assert parcel.name in ("zipfile", "io")
    assert len(names_in(parcel)) == 1


def test_this_package_is_small_enough():
    (parcel,) = Shipment([dask_taskrunner]).pack()
    assert len(parcel.data) < 1_000_000


@pytest.mark.parametrize(
    ("ship", "text"),
    [
        ("my_module", "ship is a list of modules"),
        (dask_taskrunner, "ship is a list of modules"),
        (["my_module"], "ship takes modules, not 'my_module'"),
        ([math], "'math' is not made of Python files"),
        ([dask_taskrunner.states], r"ship takes whole packages: ship=\[dask_taskrunner\]"),
        (5, "ship is a list of modules"),
    ],
)
def test_what_cannot_be_sent_along_is_refused(ship, text):
    with pytest.raises(OptionError, match=text):
        check_ship(ship)


def test_nothing_is_said_where_all_is_well():
    found = Found({"w0": HERE, "w1": HERE}, {"w0": PROTOCOL, "w1": PROTOCOL})
    assert problems_of(found, ships=False) == ([], [])
    assert problems_of(Found({}, {}), ships=False) == ([], [])


def test_another_python_is_named_with_what_to_do():
    errors, warnings = problems_of(Found({"w0": "2.7"}, {}), ships=True)
    assert errors == [
        (
            f"Python 2.7 runs on worker w0 and {HERE} here, and functions cannot be sent from "
            f"one to the other: use Python {HERE} there, or 2.7 here"
        )
    ]
    assert not warnings


def test_another_python_of_the_scheduler_is_told_too():
    found = Found({"w0": HERE}, {"w0": PROTOCOL}, scheduler="2.7")
    (error,), warnings = problems_of(found, ships=False)
    assert error.startswith(f"Python 2.7 runs on the scheduler and {HERE} here")
    assert not warnings


def test_what_some_workers_lack_is_a_warning_and_what_all_lack_an_error():
    some = Found({"w0": HERE, "w1": HERE}, {"w0": PROTOCOL, "w1": None})
    errors, warnings = problems_of(some, ships=False)
    assert not errors
    assert warnings[0].startswith("dask_taskrunner is not installed on worker w1: pip install")
    errors, warnings = problems_of(Found({"w0": HERE}, {"w0": None}), ships=False)
    assert "ship=[dask_taskrunner]" in errors[0]
    assert problems_of(Found({"w0": HERE}, {"w0": None}), ships=True) == ([], [])


def test_another_protocol_is_told_also_where_the_package_is_sent_along():
    errors, _ = problems_of(Found({"w0": HERE}, {"w0": "dtr0"}), ships=True)
    assert errors[0].startswith("another version of dask_taskrunner is installed on worker w0: pip")
