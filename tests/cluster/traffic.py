"""Bytes that go where: through this process, and between workers."""

from __future__ import annotations

from tornado.iostream import IOStream


class Traffic:
    """Counts the bytes that this process, with its client and its scheduler, sends and receives."""

    def __init__(self, monkeypatch) -> None:
        self.bytes = 0
        write, read = IOStream.write_to_fd, IOStream.read_from_fd

        def counting_write(stream, data):
            count = write(stream, data)
            self.bytes += count
            return count

        def counting_read(stream, buffer):
            count = read(stream, buffer)
            self.bytes += count or 0
            return count

        monkeypatch.setattr(IOStream, "write_to_fd", counting_write)
        monkeypatch.setattr(IOStream, "read_from_fd", counting_read)


def moved_between_workers(client) -> int:
    """Return how many bytes of values workers have received from each other, ever."""

    def received(dask_worker):
        return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)

    return sum(client.run(received).values())
