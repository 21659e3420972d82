"""A run's history, written by hand: what the machine would have written, without the machine."""

from __future__ import annotations

from dask_taskrunner.headers import Header
from dask_taskrunner.machine.history import HistoryEntry
from dask_taskrunner.view.tally import Tally

START = 1000.0


class Story:
    """The history of a run whose tasks are named by the letters of `tasks`."""

    def __init__(self, tasks: str) -> None:
        self.names = {(n, -1): name for n, name in enumerate(tasks)}
        self.states = dict.fromkeys(self.names, "Pending")
        self.flow_state = "Pending"
        self.history: list[HistoryEntry] = []
        self.tally = Tally(self.names)

    def task(
        self, at: float, n: int, state: str, message: str | None = None, **more: object
    ) -> Story:
        id = (n, -1)
        return self._add(at, id, self.states.pop(id), state, message, more)

    def flow(self, at: float, state: str, message: str | None = None) -> Story:
        return self._add(at, None, self.flow_state, state, message, {})

    def _add(self, at, id, old, new, message, more) -> Story:
        n, map_index = id or (-1, -1)
        header = Header(
            n, map_index, 1, 1, new, message, "", 1, None, None, START + at, "", 0, None, more
        )
        if id is None:
            self.flow_state = new
        else:
            self.states[id] = new
        slug = "" if id is None else self.names[id]
        entry = HistoryEntry(START + at, id, old, new, header, slug)
        self.history.append(entry)
        self.tally.feed([entry])
        return self
