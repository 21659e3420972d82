"""Task runs that ask to run again with what they have so far: `LOOP`.

Each iteration is a submission of its own behind the future of the one before it, whose result so
never passes the client. That future is held until the run ends: a retry repeats its iteration.
"""

from __future__ import annotations

from dask_taskrunner.headers import Header
from dask_taskrunner.machine.desk import Desk
from dask_taskrunner.machine.records import TaskRunRecord


class Loops:
    """The rules about loops, over one flow run's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def go_on(self, record: TaskRunRecord, header: Header) -> None:
        """Send the next iteration, with all its retries."""
        board, time = self._desk.board, self._desk.time
        before = record.shown
        record.running = None
        # What was sent behind this iteration waits for the last one.
        board.withdraw_behind(record, time)
        record.loop_from = record.submission
        record.loop_count = header.more.get("loop_count", record.loop_count) + 1
        record.run_number = 1
        board.move(record, "waiting")
        if record.header is None:
            record.retry_header = header
            board.show(record, before, time, header)
        # An upstream value may have been lost meanwhile: then it goes out behind that one.
        board.queue_if_ready(record)


def start_over(record: TaskRunRecord) -> None:
    """Forget the iterations of a run: the result of the last one is lost for good."""
    record.loop_from, record.loop_count = 0, 1
    record.run_number = 1
