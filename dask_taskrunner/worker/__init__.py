"""What runs on a worker around :class:`~dask_taskrunner.task_runner.TaskRunner`."""
