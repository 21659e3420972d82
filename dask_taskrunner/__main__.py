"""``python -m dask_taskrunner`` is the command ``dask-taskrunner``."""

import sys

from dask_taskrunner.cli import main

# Worker processes import this file again, and must not start a command of their own.
if __name__ == "__main__":
    sys.exit(main())
