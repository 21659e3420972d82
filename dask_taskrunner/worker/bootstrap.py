"""What is called in the graph: short bootstraps that any process with Dask can receive.

The scheduler unpickles what it is sent, and so does a worker before it runs a task. A function that
refers to this package would leave a task pending for ever on a worker that lacks it. So a
bootstrap travels by value, imports the package only when it is called, and where that fails
answers with a failed state made of plain values.

To open one takes a tenth of a millisecond, so none is part of a task: what runs the tasks of a flow
run are its definitions, which come once to a worker. A task calls what it stands behind first.

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


class Define(ByValue):
    """Makes the definitions of a flow run of dask_taskrunner of their parts."""

    __slots__ = ()

    def __call__(self, parts):
        definition = Definition(parts)
        definition.define = self
        return definition


class Definition(list):
    """Definitions: when called, they run a task run, or say that the package is missing here."""

    __slots__ = ("define",)

    def __call__(self, call, *references):
        with install(self):
            try:
                from dask_taskrunner.worker.run_task import run_task
            except ImportError as error:
                return answer(call, self, error)
            return run_task(call, self, references)

    def __reduce_ex__(self, protocol):
        import pickle

        def packed(part):
            if not isinstance(part, (bytes, bytearray, memoryview)):
                return part
            is_apart = protocol > 4 and len(part) > 65_536
            return pickle.PickleBuffer(part) if is_apart else bytes(part)

        return self.define, ([packed(part) for part in self],)


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


class Leave(ByValue):
    """Takes away what was sent along by somebody who has no use for it any more."""

    __slots__ = ()

    def __call__(self, owner):
        import sys

        shelf = sys.modules.get(SHIPPED)
        if shelf is not None:
            with shelf.lock:
                # What of its still runs takes them away at its end.
                shelf.gone.add(owner)
                clear(shelf)


def install(definition):
    """Put the modules that were sent along where Python finds them, while a task runs.

    A copy is unpacked once per process. Returns a context manager.
    """
    return Visit(definition) if len(definition) > 1 else NOTHING


class Nothing:
    """Nothing was sent along."""

    def __enter__(self):
        pass

    def __exit__(self, *exc_info):
        pass


NOTHING = Nothing()


class Visit:
    """A task that may import what was sent along, which stays meanwhile."""

    def __init__(self, definition):
        import pickle

        self.owner, names = pickle.loads(definition[1])
        self.parcels = [(*name, data) for name, data in zip(names, definition[2:])]
        self.is_first = isinstance(definition[0], (bytes, bytearray, memoryview))

    def __enter__(self):
        import sys

        while True:
            shelf = sys.modules.setdefault(SHIPPED, new_shelf())
            with shelf.lock:
                # Somebody may have taken the last thing from it meanwhile, and it as well.
                if sys.modules.get(SHIPPED) is shelf:
                    break
        self.shelf = shelf
        with shelf.lock:
            shelf.visits[self.owner] = shelf.visits.get(self.owner, 0) + 1
            for parcel in self.parcels:
                put(shelf, self.owner, self.is_first, *parcel)

    def __exit__(self, *exc_info):
        shelf = self.shelf
        with shelf.lock:
            shelf.visits[self.owner] -= 1
            if not shelf.visits[self.owner]:
                del shelf.visits[self.owner]
                clear(shelf)


def new_shelf():
    """Return where this process keeps what was sent along: a module, which all copies find.

    This source is executed anew in each copy of a bootstrap.
    """
    import threading
    import types

    shelf = types.ModuleType(SHIPPED)
    shelf.lock = threading.RLock()
    # By module: its copies, of which Python sees the last one.
    shelf.copies = {}
    # By owner: how many tasks run that may import something.
    shelf.visits = {}
    # Owners who have left.
    shelf.gone = set()
    return shelf


def put(shelf, owner, is_first, name, digest, data):
    import io
    import tempfile
    import types
    import zipfile

    from distributed import get_worker

    copies = shelf.copies.get(name, [])
    copy = next((copy for copy in copies if copy.digest == digest), None)
    if name == "dask_taskrunner":
        if not copies and can_import(name):
            # One that was installed here is there on purpose.
            return
        if copies:
            # Tasks of it may be running.
            copy, is_first = copies[-1], False
    if copy is None:
        # Where the worker has its own files: they go with it.
        place = tempfile.mkdtemp(prefix=SHIPPED + "-", dir=get_worker().local_directory)
        zipfile.ZipFile(io.BytesIO(data)).extractall(place)
        copy, is_first = types.SimpleNamespace(digest=digest, place=place, owners=set()), True
    copy.owners.add(owner)
    # Not each time: two that differ would be imported anew for each task.
    if is_first:
        show(shelf, name, [*(other for other in copies if other is not copy), copy])


def clear(shelf):
    """Take away what belongs only to those who have left, and run nothing any more."""
    import shutil
    import sys

    gone = {owner for owner in shelf.gone if owner not in shelf.visits}
    shelf.gone -= gone
    for name, copies in list(shelf.copies.items()):
        for copy in copies:
            copy.owners -= gone
        show(shelf, name, [copy for copy in copies if copy.owners])
        for copy in copies:
            if not copy.owners:
                shutil.rmtree(copy.place, ignore_errors=True)
    if not shelf.copies and not shelf.visits:
        sys.modules.pop(SHIPPED, None)


def show(shelf, name, copies):
    """Have Python see the last one of the copies of a module."""
    import importlib
    import sys

    before, after = shelf.copies.pop(name, []), [copy.place for copy in copies]
    if copies:
        shelf.copies[name] = copies
    places = [copy.place for copy in before]
    if places[-1:] == after[-1:]:
        return
    if places:
        sys.path.remove(places[-1])
        sys.path_importer_cache.pop(places[-1], None)
    if after:
        sys.path.insert(0, after[-1])
    for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[loaded]
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

    #: Makes definitions, which are called to run a task run's pipeline.
    define: Callable[[list[Any]], Callable[..., Any]]
    #: Opens the value of a state.
    open_value: Callable[..., Any]
    #: Cuts a piece out of a list.
    cut_piece: Callable[..., Any]
    #: Returns the protocol of the package where it is called.
    look: Callable[[], str | None]
    #: Takes away what was sent along by somebody.
    leave: Callable[[str], None]


def make_bootstraps() -> Bootstraps:
    """Return new ones."""
    namespace: dict[str, Any] = {"__name__": "dask_taskrunner_bootstrap"}
    exec(_SOURCE, namespace)  # our own source, right above
    kinds = [namespace[name] for name in ("Define", "OpenValue", "CutPiece", "Look", "Leave")]
    return Bootstraps._make(kind(cloudpickle.dumps(kind)) for kind in kinds)
