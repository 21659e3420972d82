"""What people look at, as functions of a run's history. It knows no Dask, and changes nothing."""
