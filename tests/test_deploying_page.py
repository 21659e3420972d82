"""The page on clusters: each block has options that there are, and what is quoted is said."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import distributed
import pytest

import dask_taskrunner
from dask_taskrunner import DaskTaskRunner, Flow, exceptions, states, task
from dask_taskrunner.dask_backend.versions import Found, problems_of
from dask_taskrunner.machine.endings import crash_text
from dask_taskrunner.machine.events import Loss
from dask_taskrunner.placement import Need, WorkerView, why_nothing_runs

PAGE = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)

#: What cluster classes take, as read in the signatures of distributed 2026.8, dask-jobqueue 0.9,
#: dask-kubernetes 2026.3 and Coiled 1.135; of these, what a page may need.
TAKES = {
    "distributed.SSHCluster": (
        "hosts connect_options worker_options scheduler_options worker_class remote_python"
    ),
    "dask_jobqueue.SLURMCluster": (
        "queue account walltime job_cpu job_mem cores memory processes nanny interface "
        "death_timeout local_directory worker_command worker_extra_args job_extra_directives "
        "job_script_prologue job_directives_skip log_directory shebang python job_name n_workers "
        "scheduler_options shared_temp_directory"
    ),
    "dask_kubernetes.operator.KubeCluster": (
        "name namespace image n_workers resources env worker_command port_forward_cluster_ip "
        "create_mode shutdown_on_close idle_timeout resource_timeout scheduler_service_type "
        "custom_cluster_spec scheduler_forward_port jupyter quiet"
    ),
    "coiled.Cluster": (
        "name software container n_workers worker_class worker_options worker_vm_types worker_cpu "
        "worker_memory scheduler_options region spot_policy idle_timeout no_client_timeout environ"
    ),
}


class Recorder(SimpleNamespace):
    """Stands for a runner: it keeps what it was made with, and runs nothing."""

    made: ClassVar[list[dict[str, object]]] = []

    def __init__(self, **options):
        super().__init__()
        inspect.signature(DaskTaskRunner).bind(**options)
        self.made.append(options)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def run(self, flow):
        return flow


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(dask_taskrunner, "DaskTaskRunner", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    # What the page says is a module of its reader's.
    monkeypatch.setitem(sys.modules, "my_module", SimpleNamespace())
    return Recorder.made


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_block_makes_a_runner_with_options_that_there_are(recorded, block):
    names = {"flow": None, "client": None, "cluster": None, "DaskTaskRunner": Recorder}
    exec(compile(block, "<page>", "exec"), names)
    assert recorded
    for options in recorded:
        if (named := options.get("cluster_class")) is not None:
            assert set(options["cluster_kwargs"]) <= set(TAKES[named].split())
            assert set(options.get("adapt_kwargs", ())) <= {"minimum", "maximum"}


def test_each_kind_of_cluster_has_its_block():
    assert re.findall(r'cluster_class="([^"]*)"', PAGE) == list(TAKES)


@pytest.mark.parametrize("named", TAKES)
def test_a_cluster_class_takes_what_it_is_said_to_take(named):
    module, _, name = named.rpartition(".")
    with contextlib.suppress(ImportError):
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        rest = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        assert rest or set(TAKES[named].split()) <= set(parameters)


def test_the_local_ones_are_told_of_the_options_that_dask_has():
    assert "allowed_failures" in inspect.signature(distributed.Scheduler).parameters
    ssh = next(block for block in BLOCKS if "SSHCluster" in block)
    told = {key.value for node in ast.walk(ast.parse(ssh)) for key in getattr(node, "keys", ())}
    assert set(TAKES["distributed.SSHCluster"].split()) & told >= {"hosts", "worker_options"}
    assert told & {"nthreads"} <= set(inspect.signature(distributed.Worker).parameters)


@pytest.mark.cluster
def test_the_first_block_runs(capsys):
    exec(compile(BLOCKS[0], "<page>", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "hello world\n"


def test_the_lines_of_the_image_bring_back_the_commands(tmp_path):
    (loop,) = re.findall(r"^RUN (for part.*?done)$", PAGE, re.M | re.S)
    loop = loop.replace("\\\n", "").replace("/usr/local/bin/", f"{tmp_path}/")
    subprocess.run(["sh", "-c", loop], check=True, timeout=10)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"dask-{part}": f'#!/bin/sh\nexec dask {part} "$@"\n' for part in ("scheduler", "worker")
    }


# --- what one sees when it does not work ----------------------------------------------------------


def said() -> str:
    """Return what is said where it does not work: by the code, or as it stands in the code."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    worker = WorkerView("tcp://10.0.0.1:4711", "w", 1, {}, 0)
    crashed = SimpleNamespace(deaths=3, crashes=3)
    with pytest.raises(exceptions.ConnectFailed) as refused:
        DaskTaskRunner(address="tcp://127.0.0.1:1", client_kwargs={"timeout": 0.1})
    texts = [
        str(refused.value),
        *problems_of(Found({"w": "2.7"}, {}), ships=False).errors,
        *problems_of(Found({"w": here}, {"w": None}), ships=False).errors,
        why_nothing_runs([Need("fit", {"GPU": 1}, None)], []),
        why_nothing_runs([Need("fit", {"GPU": 1}, None)], [worker]),
        crash_text(crashed, Loss("killed", "", "tcp://10.0.0.1:4711")),
    ]
    for name in ("main_guard", "dask_backend.channel", "dask_backend.held"):
        source = inspect.getsource(importlib.import_module(f"dask_taskrunner.{name}"))
        texts.append(re.sub(r'"\n\s+f?"', "", source).replace("{silence:.0f}", "60"))
    return "\n".join(texts)


def test_what_one_sees_is_what_is_said():
    _, _, table = PAGE.partition("| what you see |")
    seen = [line.split(" | ")[0] for line in table.splitlines()[2:] if line.startswith("|")]
    quoted = [text for cell in seen for text in re.findall(r"`([^`]+)`", cell)]
    known = said()
    for text in quoted:
        if hasattr(states, text) or hasattr(exceptions, text) or text.startswith("ModuleNotFound"):
            continue
        assert text in known
    assert len(seen) == 11


def test_a_module_that_is_only_here_is_named():
    @task
    def imports():
        import my_module  # noqa: F401

    with Flow("modules") as flow:
        imports()
    run = dask_taskrunner.testing.InProcessRunner().run(flow)
    assert run["imports"].state.message == "ModuleNotFoundError: No module named 'my_module'"
