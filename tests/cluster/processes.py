"""Processes of their own: a scheduler, its workers, and scripts as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client
from marks import eventually

import dask_taskrunner

#: Where the package lies, for interpreters that were started elsewhere.
HOME = str(Path(dask_taskrunner.__file__).parents[1])

#: Makes a process one that has Dask only.
WITHOUT_PACKAGE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        # What workers need is Dask, and nothing else of ours or of what we need.
        top = name.partition(".")[0]
        if top in ("pendulum", "rich"):
            raise ImportError(f"No module named {top!r}")
        if top == "dask_taskrunner" and not any("dask_taskrunner_shipped" in p for p in sys.path):
            raise ImportError("No module named 'dask_taskrunner'")

sys.meta_path.insert(0, Missing())
"""


def environment(*paths, **more) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), HOME]), **more}


@contextmanager
def started(command, **options):
    """A process that is killed at the end, with all that it has started."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class ForeignCluster:
    """``dask scheduler`` and ``dask worker``, started as anybody starts them."""

    def __init__(self, directory: Path, processes) -> None:
        self._directory = directory
        self._processes = processes
        self._file = directory / "scheduler.json"
        self.address = ""

    def start_scheduler(self, *, has_package=True) -> None:
        self.scheduler = self._start("scheduler", has_package, "--port", "0", "--no-dashboard")
        self.address = eventually(self._read_address)
        assert self.address, "no scheduler"

    def _read_address(self) -> str:
        # It is there before it is written.
        with suppress(OSError, ValueError):
            return json.loads(self._file.read_text())["address"]
        return ""

    def start_worker(self, name, *, has_package=True) -> None:
        self._start(
            "worker", has_package, "--no-nanny", "--nthreads", "1", "--name", name, "--no-dashboard"
        )

    def wait_for(self, workers) -> None:
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(workers)

    def _start(self, kind, has_package, *options) -> subprocess.Popen:
        paths = [] if has_package else [self._without_package()]
        return self._processes.enter_context(
            started(
                [
                    sys.executable, "-m", "dask", kind, *options,
                    "--scheduler-file", str(self._file),
                ],
                cwd=self._directory,
                env=environment(*paths),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip

    def _without_package(self) -> Path:
        path = self._directory / "without"
        path.mkdir(exist_ok=True)
        (path / "sitecustomize.py").write_text(WITHOUT_PACKAGE)
        return path


@contextmanager
def script(directory, text, *args, name="script.py"):
    """A script that runs, with both its streams piped; it leads a process group of its own."""
    path = Path(directory) / name
    path.write_text(textwrap.dedent(text))
    with started(
        [sys.executable, str(path), *map(str, args)],
        cwd=directory,
        env=environment(PYTHONWARNINGS="error"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
