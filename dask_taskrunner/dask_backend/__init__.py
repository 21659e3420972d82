"""The Dask backend: turns commands into futures, and what Dask says of futures into events.

With ``worker/`` it is the only code that knows ``distributed``. It decides nothing.
"""
