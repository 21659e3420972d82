"""The client's brain: told what happened, it answers what to do. No Dask, no thread, no clock."""
