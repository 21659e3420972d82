"""Tasks whose report has a map, a retry and a failure in it."""

from __future__ import annotations

from dask_taskrunner import task


@task
def numbers(n):
    return list(range(n))


@task(max_retries=1, retry_delay=5)
def invert(x):
    return 1 / (x - 3)
