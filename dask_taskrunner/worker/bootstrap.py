"""The function in the graph: a short bootstrap that any process with Dask can receive.

The scheduler unpickles what it is sent, and so does a worker before it runs a task. A function that
refers to this package would leave a task pending for ever on a worker that lacks it. So the
bootstrap travels by value, imports the package only when it is called, and where that fails
answers with a failed state made of plain values.

It is written as source, because only a class of no importable module is pickled by value without
changing the user's own settings of cloudpickle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import cloudpickle

# `Ref` stands for the class in the pickle of an instance: the class's own pickle, made once.
_SOURCE: Final = '''
class ByValue:
    __slots__ = ("blob",)

    def __init__(self, blob):
        self.blob = blob

    def __reduce__(self):
        return Ref(self.blob), (self.blob,)


class RunTask(ByValue):
    """Runs a task run of dask_taskrunner, or says that it is not installed here."""

    __slots__ = ()

    def __call__(self, call, definition, *references):
        try:
            install(definition)
            from dask_taskrunner.worker.run_task import run_task
        except ImportError as error:
            return answer(call, definition, error)
        return run_task(call, definition, references)


class OpenValue(ByValue):
    """Returns the plain value of what a task run of dask_taskrunner ended with."""

    __slots__ = ()

    def __call__(self, source):
        from dask_taskrunner.worker.envelope import plain_value

        return plain_value(source)


class CutPiece(ByValue):
    """Returns the state of a task run of dask_taskrunner with some of its elements."""

    __slots__ = ()

    def __call__(self, start, stop, source):
        try:
            from dask_taskrunner.worker.piece import cut_piece
        except ImportError:
            # Whoever takes an element takes it of the whole.
            return source
        return cut_piece(source, start, stop)


class Look(ByValue):
    """Returns which protocol dask_taskrunner has here; None where there is none of it."""

    __slots__ = ()

    def __call__(self):
        try:
            from dask_taskrunner.worker.wire import PROTOCOL
        except ImportError:
            return None
        return PROTOCOL


class Ref:
    __slots__ = ("blob",)

    def __init__(self, blob):
        self.blob = blob

    def __call__(self, blob):
        import cloudpickle

        return cloudpickle.loads(blob)(blob)

    def __reduce__(self):
        import cloudpickle

        return cloudpickle.loads, (self.blob,)


def install(definition):
    """Put the modules that were sent along where Python finds them, once per process."""
    import pickle

    opened = definition[0]
    if not isinstance(opened, bytes):
        return
    ship = pickle.loads(opened)[4]
    if not ship:
        return
    import importlib
    import io
    import os
    import sys
    import tempfile
    import threading
    import types
    import zipfile

    # This source is executed anew in each copy: what is there already, the process knows.
    shipped = sys.modules.setdefault(SHIPPED, types.ModuleType(SHIPPED))
    lock = shipped.__dict__.setdefault("lock", threading.RLock())
    with lock:
        known = shipped.__dict__.setdefault("known", {})
        for name, digest, data in ship:
            if known.get(name) == digest:
                continue
            if name == "dask_taskrunner" and (name in known or can_import(name)):
                # Its tasks may be running. One that was installed here is there on purpose.
                known[name] = digest
                continue
            place = tempfile.mkdtemp(prefix=SHIPPED + "-")
            zipfile.ZipFile(io.BytesIO(data)).extractall(place)
            sys.path.insert(0, place)
            for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
                del sys.modules[loaded]
            known[name] = digest
        importlib.invalidate_caches()


def can_import(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


SHIPPED = "dask_taskrunner_shipped"


def answer(call, definition, error):
    import pickle
    import random
    import time

    from distributed import get_worker

    run, n, map_index, submission, run_number, _, slug, *_ = pickle.loads(call)
    topic = pickle.loads(definition[0])[1]
    worker = get_worker()
    text = f"dask_taskrunner is not installed on worker {worker.address}: {error}"
    header = [
        n, map_index, submission, random.getrandbits(60), "Failed", text, worker.address,
        run_number, None, None, time.time(), "", 0, None, {"type": type(error).__name__},
    ]
    worker.log_event(topic, ["dtr1-headers", [[run, header]]])
    return ("dtr1", pickle.dumps((header, slug)), [(b"", [])])
'''


class Bootstraps(NamedTuple):
    """Functions that pickle the same way wherever they have travelled to."""

    #: Runs a task run's pipeline.
    run_task: Callable[..., Any]
    #: Opens the value of a state.
    open_value: Callable[..., Any]
    #: Cuts a piece out of a list.
    cut_piece: Callable[..., Any]
    #: Returns the protocol of the package where it is called.
    look: Callable[[], str | None]


def make_bootstraps() -> Bootstraps:
    """Return new ones."""
    namespace: dict[str, Any] = {"__name__": "dask_taskrunner_bootstrap"}
    exec(_SOURCE, namespace)  # our own source, right above
    kinds = [namespace[name] for name in ("RunTask", "OpenValue", "CutPiece", "Look")]
    return Bootstraps._make(kind(cloudpickle.dumps(kind)) for kind in kinds)
