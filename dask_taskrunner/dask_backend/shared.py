"""What several task runs need and is sent once: definitions and large arguments, as Dask tasks.

As tasks that return them, for scattered data is lost for good with its worker. One that ended
badly is sent again under a new key: Dask would hand its error on to whatever stands behind it.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import dask
from distributed import Client, Future

from dask_taskrunner.backend import Code, Constant, Shared
from dask_taskrunner.dask_backend.held import BAD
from dask_taskrunner.dask_backend.messages import Key
from dask_taskrunner.headers import TaskRunId

#: So many definitions stay on the cluster although no run at hand needs them: the next one may.
_IDLE_CODES: Final = 64
#: Larger ones do not.
_IDLE_BYTES: Final = 100_000
#: So many copies of definitions there are at most, and so many bytes of them.
_COPIES: Final = 16
_COPIES_BYTES: Final = 1_000_000
#: From which size on Dask warns about a message, without saying what is large in it.
_WARNS_FROM: Final = "distributed.admin.large-graph-warning-threshold"


#: Dask's settings are the process's: two that change one at a time would mix up what was before.
_setting: Final = threading.Lock()


@contextmanager
def unwarned() -> Iterator[None]:
    """Send something without Dask's word about its size.

    Our own warning has named the argument by now, in the caller's thread. A filter of warnings
    would hold for all threads, and for all warnings of theirs.
    """
    with _setting, dask.config.set({_WARNS_FROM: 2**62}):
        yield


class Wrap(Protocol):
    """Makes of definitions what travels."""

    #: Makes of the parts, on a worker, what is called to run a task run.
    define: Callable[[list[Any]], object]

    @property
    def version(self) -> object:
        """Another object as soon as what it makes is another thing."""

    def __call__(self, code: Code, /) -> list[bytes]:
        """Return the parts."""


class _Sent:
    """One shared thing on the cluster."""

    __slots__ = ("future", "key", "number", "sends", "users", "version")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sends = 0
        self.key: Key = ("", -1, 0)
        self.future: Future[Any] | None = None
        #: What it was wrapped in.
        self.version: object = None
        #: The task runs that need it and have not ended.
        self.users: set[TaskRunId] = set()


class SharedFutures:
    """The shared things of one flow run.

    Parameters
    ----------
    client : Client
        Sends them.
    run : str
        The flow run's digits.
    wrap : Wrap
        Makes of definitions what travels.
    forgets : bool
        True where a large argument is given up when nobody at hand needs it.
    """

    def __init__(self, client: Client, run: str, wrap: Wrap, *, forgets: bool) -> None:
        self._client = client
        self._run = run
        self._wrap = wrap
        self._forgets = forgets
        #: Each with its copies.
        self._sent: dict[Shared, list[_Sent]] = {}
        self._count = 0
        self._idle: OrderedDict[Code, None] = OrderedDict()

    def key_for(self, shared: Shared, id: TaskRunId, copy: int = 0) -> Key:
        """Return the key of a shared thing that a run is about to stand behind; send it if need be.

        A child's is held until the end of its mapped run, for others of that are still to be sent.

        Parameters
        ----------
        shared : Shared
            Definitions, or a large argument.
        id : TaskRunId
            The run's.
        copy : int
            Which copy of definitions; there are as many as workers. Dask runs a task where one of
            its inputs lies, and moves none that is over soon: behind one copy of what they all
            need, all task runs of a flow would be on one worker at first.

        Raises
        ------
        LookupError
            It was given up.
        """
        copies = self._copies(shared)
        sent = copies[copy % len(copies)]
        is_old = isinstance(shared, Code) and sent.version is not self._wrap.version
        if sent.future is None or sent.future.status in BAD or is_old:
            self._send(shared, sent)
        sent.users.add(id)
        if id[1] >= 0 and not self._forgets:
            sent.users.add((id[0], -1))
        return sent.key

    def count_of(self, shared: Shared) -> int:
        """Return how many copies there are, or will be, of a shared thing."""
        return len(self._copies(shared))

    def _copies(self, shared: Shared) -> list[_Sent]:
        known = self._sent.get(shared)
        if known is not None:
            return known
        count = 1
        if isinstance(shared, Code):
            # Of all that travels: modules that are sent along are most of it.
            size = sum(map(len, self._wrap(shared)))
            count = max(1, min(workers_known_to(self._client), _COPIES, _COPIES_BYTES // size))
        first, self._count = self._count, self._count + count
        copies = self._sent[shared] = [_Sent(number) for number in range(first, self._count)]
        return copies

    def _send(self, shared: Shared, sent: _Sent) -> None:
        sent.sends += 1
        if isinstance(shared, Code):
            sent.version = self._wrap.version
            kind, make = "definition", self._wrap.define
            content: list[Any] = [_part(part) for part in self._wrap(shared)]
        else:
            assert isinstance(shared, Constant)
            if shared.data is None:
                raise LookupError("a large argument of it is not held any more")
            kind, make, content = "constant", list, [(_part(shared.data), [])]
        sent.key = (f"{kind}-{self._run}", sent.number, sent.sends)
        sent.future = self.send(make, content, sent.key)

    def send(self, make: Callable[[Any], object], content: list[Any], key: Key) -> Future[Any]:
        """Send a Dask task that returns what it is given."""
        with unwarned():
            return self._client.submit(make, content, key=key, pure=False)

    def users_of_bad(self) -> dict[TaskRunId, Future[Any]]:
        """Return the runs that stand behind something that will bring nothing, and its future.

        Most are told so by their own futures. What was sent behind a future that had failed by
        then, together with runs behind itself, may be left waiting by the scheduler.
        """
        return {
            id: sent.future
            for copies in self._sent.values()
            for sent in copies
            if sent.future is not None and sent.future.status in BAD
            for id in sent.users
        }

    def settle(self, id: TaskRunId, needed: Iterable[Shared]) -> None:
        """Let go of what only this run needed."""
        for shared in needed:
            copies = self._sent.get(shared, [])
            used = [sent for sent in copies if id in sent.users]
            for sent in used:
                sent.users.discard(id)
            if used and not any(sent.users for sent in copies):
                self._put_by(shared)

    def _put_by(self, shared: Shared) -> None:
        if isinstance(shared, Code) and sum(map(len, shared.tasks)) <= _IDLE_BYTES:
            self._idle[shared] = None
            self._idle.move_to_end(shared)
            if len(self._idle) <= _IDLE_CODES:
                return
            shared, _ = self._idle.popitem(last=False)
            # It may have found a user again since it was put by.
            if any(sent.users for sent in self._sent[shared]):
                return
        self._release(self._sent[shared])
        if self._forgets:
            del self._sent[shared]

    def release_all(self) -> None:
        """Let go of everything: nothing is sent any more."""
        for shared, copies in self._sent.items():
            self._release(copies)
            # What an unfinished run needs, it needs when it is resumed.
            if isinstance(shared, Constant) and not any(sent.users for sent in copies):
                shared.data = None
        self._idle.clear()

    @staticmethod
    def _release(copies: Iterable[_Sent]) -> None:
        for sent in copies:
            if sent.future is not None:
                sent.future.release()
                sent.future = None


def workers_known_to(client: Client) -> int:
    """Return how many workers a client last heard of; it asks nobody.

    The public way would ask the scheduler, and wait. tests/cluster/test_private_names.py fails
    when this one changes.
    """
    known = client._scheduler_identity
    return int(known.get("n_workers", len(known.get("workers", ()))))


def _part(data: bytes) -> Any:
    """Return bytes as they are sent: out of band where they are many, so not copied once more."""
    return pickle.PickleBuffer(data) if len(data) > _IDLE_BYTES else data
