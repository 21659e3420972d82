"""A piece of a large result of which others take elements, cut where the whole lies."""

from __future__ import annotations

from dask_taskrunner.exceptions import ResultNotSerializable
from dask_taskrunner.graph.mapping import elements_between
from dask_taskrunner.headers import small_result
from dask_taskrunner.worker.envelope import Envelope, Received, size_of
from dask_taskrunner.worker.wire import WireState


def cut_piece(source: Envelope | WireState, start: int, stop: int) -> Envelope | WireState:
    """Return a state with a part of its elements, and in its header where that part begins.

    What has no elements this time, because it was made again and came to something else, is
    returned as it is: whoever reads it finds out.
    """
    received = Received(source)
    if not received.state.is_successful() or "length" not in received.header.more:
        return source
    try:
        received.open()
    except ResultNotSerializable:
        return source
    state = received.state
    piece = elements_between(state.result, start, stop)
    small = small_result(piece)
    more = {name: value for name, value in received.header.more.items() if name != "cached_until"}
    header = received.header._replace(
        kind=type(piece).__name__,
        nbytes=len(small) if small else size_of(piece),
        small=small,
        more={**more, "offset": start},
    )
    return Envelope(header, received.slug, state.copy_with(result=piece))
