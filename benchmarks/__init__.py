"""Measures what dask_taskrunner costs, with raw Dask beside it in the same run."""
