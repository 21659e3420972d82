"""The Dask client that a task may use."""

from __future__ import annotations

from distributed import Client
from distributed import get_client as _get_client


def get_client() -> Client:
    """Return a Dask client of the cluster that the calling task runs on.

    Raises
    ------
    ValueError
        No task is calling, and there is no current client either.
    """
    return _get_client()
